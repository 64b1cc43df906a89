"""Fixtures that tests of all parts share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Converted networks go to a folder of the tests, also in the processes that they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real scans; tests that need it are skipped where it is absent."""
    value = os.environ.get("IMBALANCESEG_DATA")
    if not value:
        pytest.skip("IMBALANCESEG_DATA is not set: no real scans to test with.")
    folder = Path(value)
    if not folder.is_dir():
        pytest.skip(f"IMBALANCESEG_DATA names {folder}, which is not a folder.")
    return folder


@pytest.fixture(scope="session")
def rounding() -> float:
    """How far probabilities of one network may lie apart: some processors infer in bfloat16."""
    from imbalanceseg.inference.device import cpu_has_bf16

    return 0.05 if cpu_has_bf16() else 1e-3


@pytest.fixture(scope="session")
def make_card() -> Callable[..., Any]:
    """The valid card of a model that segments nothing of use, with changes."""

    def make(**changes: Any) -> Any:
        from imbalanceseg.labels import AIRWAY_TREE
        from imbalanceseg.models.card import ModelCard

        fields: dict[str, Any] = {
            "name": "test-airway",
            "version": "0.1.0",
            "title": "Test airway",
            "description": "Random weights.",
            "intended_use": "Tests.",
            "modality": "CT",
            "body_part": "Chest",
            "network": {"name": "wingsnet", "kwargs": {"in_channels": 1, "out_channels": 1}},
            "spacing_mm": (0.8, 0.8, 0.8),
            "channels": ({"normalization": {"scheme": "range", "low": -1000, "high": 400}},),
            "window": {"center": -500, "width": 1500},
            "tile_voxels": (48, 48, 48),
            "segments": (AIRWAY_TREE,),
            "training_data": ({"name": "nothing", "license": "CC0-1.0", "cases": 0},),
            "metrics": {"phantom": {"dice": 0.5}},
            "limitations": ("It segments nothing of use.",),
        }
        return ModelCard(**fields | changes)

    return make
