from __future__ import annotations

from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalanceseg.geometry import Grid
from imbalanceseg.inference import predict
from imbalanceseg.inference.gate import (
    cell_scores,
    coarse_foreground,
    needed_cells,
    safe_threshold,
)
from imbalanceseg.inference.maps import maps_of_tile
from imbalanceseg.inference.segment import segment
from imbalanceseg.models.card import GateSettings

from .conftest import UNET_KWARGS, local_network
from .test_segment import BALLS, dark, dice, picture, upright, voxels

GATE = {"factor": (2, 2, 2), "threshold": 0.2, "reach": 4}


@pytest.fixture(scope="module")
def gated_model(make_model):
    return make_model(
        local_network(),
        name="gated-things",
        network={"name": "unet3d", "kwargs": UNET_KWARGS},
        gate=GATE,
    )


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of at most 24^3 voxels, and what was given to the network."""
    seen: list[tuple[int, ...]] = []

    def counted(networks, request, patch):
        seen.append(tuple(patch.shape[2:]))
        return maps_of_tile(networks, request, patch)

    monkeypatch.setattr(predict._Run, "_most_voxels", lambda *_: 24**3)
    monkeypatch.setattr(predict, "maps_of_tile", counted)
    return seen


def test_foreground_is_looked_for_at_low_resolution():
    volume = torch.zeros(1, 1, 9, 8)
    volume[..., 4:6, 2:4] = 1
    found = coarse_foreground(lambda patch: patch, volume, (2, 2), (4, 4))
    expected = torch.zeros(5, 4)
    expected[2, 1] = 1
    assert found.shape == (5, 4)
    torch.testing.assert_close(found, expected)


def test_of_several_classes_all_foreground_counts():
    volume = torch.zeros(1, 1, 8, 8)
    see = lambda patch: torch.cat([patch + 0.2, patch + 0.3, patch + 0.5], 1)  # noqa: E731
    assert float(coarse_foreground(see, volume, (2, 2), (2, 2)).min()) == pytest.approx(0.8)


def test_cells_within_reach_are_needed():
    foreground = torch.zeros(32, 32)
    foreground[15, 15] = 0.9
    needed = needed_cells(foreground, GateSettings(factor=(2, 2), threshold=0.5, reach=4))
    assert needed.cell == (16, 16)
    expected = np.zeros((4, 4), bool)
    expected[1:3, 1:3] = True
    np.testing.assert_array_equal(needed.cells, expected)
    nothing = needed_cells(foreground, GateSettings(factor=(2, 2), threshold=0.95, reach=4))
    assert not nothing.cells.any()


@given(st.integers(0, 50), st.sampled_from([2, 3]), st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_the_safe_threshold_loses_at_most_a_thousandth_and_is_the_highest(seed, factor, reach):
    draw = np.random.default_rng(seed)
    shape = (60, 54)
    coarse = torch.from_numpy(draw.random([-(-n // factor) for n in shape]).astype(np.float32) ** 3)
    truth = draw.random(shape) < 0.6
    factors = (factor, factor)
    scores, cell = cell_scores(coarse, factors, reach)
    threshold = safe_threshold([(scores, truth, cell)])

    def lost(at: float) -> float:
        gate = GateSettings(factor=factors, threshold=max(at, 1e-9), reach=reach)
        needed = needed_cells(coarse, gate)
        kept = np.kron(needed.cells, np.ones(needed.cell, bool))[: shape[0], : shape[1]]
        return (truth & ~kept).sum() / truth.sum()

    assert lost(threshold) <= 0.001
    assert lost(float(np.nextafter(np.float32(threshold), np.float32(1)))) > 0.001


def test_the_gate_saves_tiles_and_loses_nothing(gated_model, small_tiles):
    grid = upright(64)
    image = picture(grid, BALLS)
    gated = segment(image, gated_model, maps=())
    visited = len(small_tiles)
    small_tiles.clear()
    exact = segment(image, gated_model, maps=(), exact=True)
    assert 0 < visited < len(small_tiles)
    np.testing.assert_array_equal(voxels(gated.labels), voxels(exact.labels))
    assert dice(voxels(gated.labels) == 1, dark(grid)) == 1.0
    assert "coarse" in gated.seconds
    assert "coarse" not in exact.seconds


def test_where_the_gate_sees_nothing_nothing_is_computed(gated_model, small_tiles):
    grid = upright(64)
    values = picture(grid, (((1.0, 1.0, 1.0), 1.5),))
    found = segment(values, gated_model, maps=("hardness",), hardness="entropy")
    assert 0 < sum(map(prod, small_tiles)) <= 24**3
    assert Grid.of(found.labels) == grid
    bright = picture(grid, (((-9.0, 0.0, 0.0), 1.0),))
    bright[0, 0, 0] = 190
    small_tiles.clear()
    empty = segment(bright, gated_model, maps=("hardness",), hardness="entropy")
    assert small_tiles == []
    assert not voxels(empty.labels).any()
    assert not voxels(empty.hardness).any()
    assert any("found nothing" in note for note in empty.notes)
