from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.inference import postprocess
from imbalanceseg.inference.postprocess import labelmap_from_probability
from imbalanceseg.models.card import ModelCard

GRID = Grid((40, 30, 20), (0.8, 0.7, 1.5), (3.0, -4.0, 5.0), (0, 1, 0, 1, 0, 0, 0, 0, -1))
LARGE = (slice(8, 14), slice(10, 20), slice(20, 36))
SMALL = (slice(2, 5), slice(4, 8), slice(4, 9))
ROOT = (slice(5, 20), slice(4, 8), slice(4, 8))


def image(array: np.ndarray) -> sitk.Image:
    return image_from_array(array, GRID)


@pytest.fixture
def card(dark_model) -> Callable[..., ModelCard]:
    """The card of a model, with changes."""
    return lambda **changes: dark_model.card.model_copy(update=changes)


@pytest.fixture
def probability() -> sitk.Image:
    values = np.zeros(GRID.size[::-1], np.float32)
    values[LARGE], values[SMALL] = 0.6, 0.9
    return image(values)


@pytest.fixture
def scan() -> sitk.Image:
    return image(np.zeros(GRID.size[::-1], np.int16))


@pytest.fixture
def trachea(monkeypatch) -> None:
    mask = np.zeros(GRID.size[::-1], np.uint8)
    mask[ROOT] = 1
    monkeypatch.setattr(postprocess, "tracheal_column", lambda scan: image(mask))


def filled(*boxes: tuple[slice, ...]) -> np.ndarray:
    expected = np.zeros(GRID.size[::-1], np.uint8)
    for box in boxes:
        expected[box] = 1
    return expected


def test_the_labelmap_is_what_exceeds_the_threshold_on_the_same_grid(probability, scan, card):
    result = labelmap_from_probability(probability, scan, card(threshold=0.5))
    assert np.array_equal(sitk.GetArrayFromImage(result), filled(LARGE, SMALL))
    assert result.GetPixelID() == sitk.sitkUInt8
    assert Grid.of(result) == GRID


def test_a_given_threshold_stands_instead_of_the_cards(probability, scan, card):
    result = labelmap_from_probability(probability, scan, card(threshold=0.5), 0.7)
    assert np.array_equal(sitk.GetArrayFromImage(result), filled(SMALL))


def test_only_the_largest_component_stays_where_the_card_asks_for_it(probability, scan, card):
    asked = card(threshold=0.5, largest_component_of=(1,))
    result = labelmap_from_probability(probability, scan, asked)
    assert np.array_equal(sitk.GetArrayFromImage(result), filled(LARGE))


@pytest.mark.usefixtures("trachea")
def test_what_touches_the_trachea_stays_with_the_trachea_however_small(probability, scan, card):
    asked = card(threshold=0.5, root="trachea", largest_component_of=(1,))
    result = labelmap_from_probability(probability, scan, asked)
    assert np.array_equal(sitk.GetArrayFromImage(result), filled(SMALL, ROOT))


def test_without_a_trachea_in_the_scan_the_largest_component_stays(probability, scan, card):
    asked = card(threshold=0.5, root="trachea", largest_component_of=(1,))
    result = labelmap_from_probability(probability, scan, asked)
    assert np.array_equal(sitk.GetArrayFromImage(result), filled(LARGE))


def test_nothing_found_is_an_empty_labelmap(probability, scan, card):
    asked = card(threshold=0.95, largest_component_of=(1,))
    assert not sitk.GetArrayFromImage(labelmap_from_probability(probability, scan, asked)).any()
