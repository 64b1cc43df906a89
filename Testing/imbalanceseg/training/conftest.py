"""Recipes and datasets that train in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from imbalanceseg.synthesis.anatomy import ChestAnatomy
from imbalanceseg.synthesis.tree_growth import grow_chest

from .balls import write_balls


@pytest.fixture(scope="session")
def small_chest() -> ChestAnatomy:
    """A grown chest of 0.4 times the size of an adult's, 1 mm voxels."""
    return grow_chest(1, spacing_mm=1.0, scale=0.4)


@pytest.fixture(scope="session")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("data") / "balls")


SMALL_RECIPE = """
network: {name: plan, width: 0.25}
supervision: {kind: deep}
optimizer: {name: adamw, learning_rate: 3e-3}
schedule: {name: poly, warmup: 5}
ema: 0.9
batch: 2
validate_every: 5
"""


@pytest.fixture(scope="session")
def small_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "small.yaml"
    path.write_text(SMALL_RECIPE)
    return path
