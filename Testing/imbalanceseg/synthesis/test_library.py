from __future__ import annotations

import numpy as np
import pytest

from imbalanceseg.synthesis import library
from imbalanceseg.synthesis.library import chest_library


@pytest.fixture
def growths(monkeypatch, coarse_chest):
    """Seeds for which a chest was grown, in order."""
    asked: list[tuple[int, float]] = []

    def grow(seed: int, spacing_mm: float) -> object:
        asked.append((seed, spacing_mm))
        return coarse_chest

    monkeypatch.setattr(library, "grow_chest", grow)
    return asked


def test_the_second_call_reads_what_the_first_one_made(tmp_path, growths, coarse_chest):
    first = chest_library(tmp_path / "new" / "kept", None, (), (4, 5), 3.0)
    assert growths == [(4, 3.0), (5, 3.0)]
    second = chest_library(tmp_path / "new" / "kept", None, (), (4, 5), 3.0)
    assert growths == [(4, 3.0), (5, 3.0)]
    for chest in (*first, *second):
        assert chest.grid == coarse_chest.grid
        np.testing.assert_array_equal(chest.stacked(), coarse_chest.stacked())
        assert chest.stacked().dtype == np.float16


def test_seeds_and_spacings_do_not_share_an_entry(tmp_path, growths):
    chest_library(tmp_path, None, (), (4,), 3.0)
    chest_library(tmp_path, None, (), (4,), 2.5)
    chest_library(tmp_path, None, (), (6,), 3.0)
    assert growths == [(4, 3.0), (4, 2.5), (6, 3.0)]


def test_an_entry_without_its_grid_is_made_again(tmp_path, growths):
    chest_library(tmp_path, None, (), (4,), 3.0)
    (tmp_path / "grown4-3mm.json").unlink()
    chest_library(tmp_path, None, (), (4,), 3.0)
    assert growths == [(4, 3.0), (4, 3.0)]


def test_patients_come_from_their_masks(tmp_path, monkeypatch, coarse_chest):
    asked = []

    def from_masks(folder, patient, spacing_mm):
        asked.append((folder, patient, spacing_mm))
        return coarse_chest

    monkeypatch.setattr(library, "anatomy_from_masks", from_masks)
    for _ in range(2):
        assert len(chest_library(tmp_path, tmp_path / "masks", (1, 2), (), 0.8)) == 2
    assert asked == [(tmp_path / "masks", 1, 0.8), (tmp_path / "masks", 2, 0.8)]


def test_without_masks_there_are_no_patients(tmp_path, growths):
    assert len(chest_library(tmp_path, None, (1, 2, 3), (9,), 3.0)) == 1
    assert growths == [(9, 3.0)]


def test_an_interrupted_maker_leaves_nothing_behind(tmp_path, monkeypatch):
    def fails(seed, spacing_mm):
        raise KeyboardInterrupt

    monkeypatch.setattr(library, "grow_chest", fails)
    with pytest.raises(KeyboardInterrupt):
        chest_library(tmp_path, None, (), (4,), 3.0)
    assert list(tmp_path.iterdir()) == []
