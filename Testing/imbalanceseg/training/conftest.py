"""Recipes and datasets that train in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from imbalanceseg.synthesis import library
from imbalanceseg.synthesis.anatomy import ChestAnatomy
from imbalanceseg.synthesis.tree_growth import grow_chest
from imbalanceseg.training import airway
from imbalanceseg.training.airway import AirwayRecipe
from imbalanceseg.training.synthetic_patches import SyntheticAirwayPatches

from .balls import write_balls

TINY = {
    "seed": 5,
    "spacing_mm": 1.0,
    "clip_hu": [-1000.0, 400.0],
    "patients": [],
    "grown_seeds": [1],
    "validation_seeds": [1],
    "encoding_weight": 0.5,
    "weight_decay": 0.0001,
    "warmup_iterations": 2,
    "ema_decay": 0.995,
    "phases": [
        # At 16 the coarsest features are 2 x 2 x 2, for which torch's bfloat16 convolutions give
        # weight gradients that are not a number or change from run to run.
        {"iterations": 3, "patches": 2, "side": 24, "learning_rate": [0.002, 0.001], "alpha": 0.2},
        {"iterations": 2, "patches": 1, "side": 32, "learning_rate": [0.001, 0.0], "alpha": 0.3},
    ],
}


@pytest.fixture(scope="session")
def small_chest() -> ChestAnatomy:
    """A grown chest of 0.4 times the size of an adult's, 1 mm voxels."""
    return grow_chest(1, spacing_mm=1.0, scale=0.4)


@pytest.fixture(autouse=True)
def denormal_numbers():
    """Training flushes denormal numbers to zero in the whole process; other tests need them."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def tiny_recipe() -> AirwayRecipe:
    return AirwayRecipe.model_validate(TINY)


class SmallPatches(SyntheticAirwayPatches):
    """The real source, held to patches that a test has time for."""

    def batch(self, count, side):
        return super().batch(count, min(side, 32))


@pytest.fixture
def anatomies(tmp_path, monkeypatch, small_chest) -> Path:
    """A library that holds the small chest under the name of the recipe's chest."""
    monkeypatch.setattr(library, "grow_chest", lambda seed, spacing_mm: small_chest)
    monkeypatch.setattr(airway, "SyntheticAirwayPatches", SmallPatches)
    monkeypatch.setattr(airway, "_VALIDATION_PATCHES", 2)
    folder = tmp_path / "anatomies"
    library.chest_library(folder, None, (), (1,), 1.0)
    return folder


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
