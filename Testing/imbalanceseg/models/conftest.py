"""A card and a random network, small enough to write and run in seconds."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from imbalanceseg.labels import AIRWAY_TREE
from imbalanceseg.models.card import ModelCard
from imbalanceseg.networks import WingsNet


def card_fields(**changes: Any) -> dict[str, Any]:
    """Fields of a valid card."""
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
        "intensity": {"clip_low": -1000, "clip_high": 400},
        "window": {"center": -500, "width": 1500},
        "tile_voxels": (48, 48, 48),
        "segments": (AIRWAY_TREE,),
        "training_data": ({"name": "nothing", "license": "CC0-1.0", "cases": 0},),
        "metrics": {"phantom": {"dice": 0.5}},
        "limitations": ("It segments nothing of use.",),
    }
    return fields | changes


@pytest.fixture
def make_card() -> Any:
    return lambda **changes: ModelCard(**card_fields(**changes))


@pytest.fixture
def wingsnet() -> WingsNet:
    torch.manual_seed(3)
    return WingsNet().eval()
