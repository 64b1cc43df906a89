"""Centrelines where the reference has them, missed where the prediction lacks them."""

from __future__ import annotations

import numpy as np
import pytest

from imbalanceseg.training.hard_skeleton import centreline_places, missed_centreline


def tube(width: int, shape: tuple[int, ...] = (40, 21, 23)) -> np.ndarray:
    label = np.zeros(shape, np.uint8)
    label[4:36, 8 : 8 + width, 9 : 9 + width] = 1
    return label


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
def test_a_tube_has_its_middle_line(width: int) -> None:
    label = tube(width)
    places = centreline_places(label)
    assert places.dtype == np.int32
    assert (label[tuple(places.T)] == 1).all()
    # From end to end but for a radius, which thinning eats of a flat end.
    assert places[:, 0].min() <= 4 + width
    assert places[:, 0].max() >= 35 - width
    assert np.abs(places[:, 1] - (8 + (width - 1) / 2)).mean() < 1
    assert len(places) < 1.5 * 32


def test_only_what_is_missed() -> None:
    label = tube(3)
    prediction = label.copy()
    assert len(missed_centreline(label, prediction)) == 0
    prediction[20:] = 0
    missed = missed_centreline(label, prediction)
    assert len(missed) > 10
    assert (missed[:, 0] >= 20).all()
    everything = centreline_places(label)
    assert len(missed) == (everything[:, 0] >= 20).sum()
    np.testing.assert_array_equal(missed_centreline(label, 0 * label), everything)
    np.testing.assert_array_equal(
        missed_centreline(label.astype(bool), prediction.astype(bool)), missed
    )


def test_another_class_is_a_miss() -> None:
    label = tube(3)
    label[20:][label[20:] == 1] = 2
    missed = missed_centreline(label, tube(3))
    assert (missed[:, 0] >= 20).all()
    assert len(missed) > 10


def test_what_is_not_labelled_is_no_foreground() -> None:
    label = tube(3)
    expected = centreline_places(label)
    label[:, :5] = 255
    np.testing.assert_array_equal(centreline_places(label), expected)
    assert len(centreline_places(np.full((5, 6, 7), 255, np.uint8))) == 0


@pytest.mark.parametrize("shape", [(5, 6, 7), (6, 7)])
def test_nothing_has_no_line(shape: tuple[int, ...]) -> None:
    places = missed_centreline(np.zeros(shape, np.uint8), np.zeros(shape, np.uint8))
    assert places.shape == (0, len(shape))
    assert places.dtype == np.int32


def test_pictures() -> None:
    label = np.zeros((20, 40), np.uint8)
    label[8:13, 5:35] = 1
    places = centreline_places(label)
    assert (np.abs(places[:, 0] - 10) <= 1).mean() > 0.8
    prediction = label.copy()
    prediction[:, 20:] = 0
    assert (missed_centreline(label, prediction)[:, 1] >= 20).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 3, 3), (2, 4, 2)])
def test_a_lump_has_a_place_too(shape: tuple[int, ...]) -> None:
    label = np.zeros((7, 8, 9), np.uint8)
    label[2 : 2 + shape[0], 2 : 2 + shape[1], 2 : 2 + shape[2]] = 1
    places = centreline_places(label)
    assert len(places) >= 1
    assert (label[tuple(places.T)] == 1).all()
