"""Calibration and the ranking of errors, by exact cases."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imbalanceseg.errors import GeometryError, InputError
from imbalanceseg.metrics.calibration import calibration
from imbalanceseg.metrics.error_ranking import error_auroc, sparsification
from imbalanceseg.metrics.maps import REACH_VOXELS, evaluate_maps, near


def test_a_probability_that_keeps_its_word_has_no_calibration_error() -> None:
    probability = np.repeat([0.1, 0.5, 0.9], 10)
    foreground = np.concatenate([np.arange(10) < n for n in (1, 5, 9)])
    honest = calibration(probability, foreground, bins=5)
    assert honest.expected_error == pytest.approx(0)
    assert honest.largest_error == pytest.approx(0)
    assert honest.counts.tolist() == [10, 0, 10, 0, 10]
    assert np.isnan(honest.predicted[1])


def test_calibration_counted_by_hand() -> None:
    # bin [0.5, 1]: mean 0.8, half of them true; bin [0, 0.5): mean 0.2, none true
    found = calibration(np.array([0.8, 0.8, 0.2, 0.2]), np.array([1, 0, 0, 0], bool), bins=2)
    assert found.expected_error == pytest.approx((0.3 + 0.2) / 2)
    assert found.largest_error == pytest.approx(0.3)
    assert found.brier == pytest.approx((0.04 + 0.64 + 0.04 + 0.04) / 4)


def test_the_ends_of_the_range_belong_to_the_outer_bins() -> None:
    counts = calibration(np.array([0.0, 1.0]), np.array([False, True]), bins=10).counts
    assert counts.tolist() == [1, *[0] * 8, 1]


@pytest.mark.parametrize("bad", [[-0.1], [1.1], [np.nan], []])
def test_what_is_no_probability_is_refused(bad: list[float]) -> None:
    with pytest.raises(InputError):
        calibration(np.array(bad), np.zeros(len(bad), bool))


@settings(max_examples=60, deadline=None)
@given(arrays(np.int64, 40, elements=st.integers(0, 4)), arrays(np.bool_, 40))
def test_the_area_under_the_curve_counts_pairs_in_the_right_order(
    score: np.ndarray, wrong: np.ndarray
) -> None:
    found = error_auroc(score.astype(float), wrong)
    if wrong.all() or not wrong.any():
        assert np.isnan(found)
        return
    pairs = score[wrong][:, None] - score[~wrong][None]
    assert found == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())


def test_a_perfect_map_has_no_sparsification_error() -> None:
    wrong = np.arange(200) % 8 == 0
    perfect = sparsification(wrong.astype(float), wrong)
    assert perfect.error == pytest.approx(0, abs=1e-12)
    assert perfect.remaining[0] == 1.0
    assert perfect.remaining[-1] == 0.0
    worst = sparsification(-wrong.astype(float), wrong)
    blind = sparsification(np.zeros(200), wrong)
    assert perfect.error < blind.error < worst.error


def test_a_map_that_knows_nothing_takes_errors_as_they_come() -> None:
    """All voxels equally hard: the rate of the rest stays what it was, whatever the order."""
    wrong = np.arange(100) < 20
    blind = sparsification(np.ones(100), wrong)
    np.testing.assert_allclose(blind.remaining, 1.0)
    # Taking wrong voxels first, a share r removed leaves (0.2 - r) / (1 - r) of 0.2.
    expected = np.clip((0.2 - blind.removed) / (1 - blind.removed) / 0.2, 0, None)
    np.testing.assert_allclose(blind.perfect, expected, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.int64, 60, elements=st.integers(0, 5)),
    arrays(np.bool_, 60),
    st.permutations(range(60)),
)
def test_the_order_of_voxels_does_not_matter(
    hardness: np.ndarray, wrong: np.ndarray, order: list[int]
) -> None:
    wrong[0] = True
    there = sparsification(hardness.astype(float), wrong)
    back = sparsification(hardness[order].astype(float), wrong[order])
    assert there.error == pytest.approx(back.error)
    assert there.error >= -1e-12


def test_values_that_cannot_rank_are_refused() -> None:
    with pytest.raises(InputError):
        error_auroc(np.array([np.nan, 1.0]), np.array([True, False]))
    with pytest.raises(InputError):
        error_auroc(np.zeros(3), np.zeros(2, bool))
    with pytest.raises(InputError, match="Nothing is wrong"):
        sparsification(np.zeros(3), np.zeros(3, bool))


def image(values: np.ndarray) -> sitk.Image:
    return sitk.GetImageFromArray(values)


@pytest.fixture
def lesion() -> np.ndarray:
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[8:12, 8:12, 8:12] = 1
    return labels


def test_only_voxels_near_the_structure_are_scored(lesion: np.ndarray) -> None:
    at = near(lesion > 0)
    side = 4 + 2 * REACH_VOXELS
    assert at.sum() == side**3
    hardness = np.random.default_rng(0).random(lesion.shape).astype(np.float32)
    prediction = np.roll(lesion, 1, 0)
    there = evaluate_maps(image(prediction), image(lesion), hardness=image(hardness))
    elsewhere = np.where(near((lesion | prediction) > 0), hardness, 7.0).astype(np.float32)
    assert there == evaluate_maps(image(prediction), image(lesion), hardness=image(elsewhere))


def test_a_map_of_the_errors_themselves_is_perfect(lesion: np.ndarray) -> None:
    prediction = np.roll(lesion, 1, 0)
    hardness = (prediction != lesion).astype(np.float32)
    figures = evaluate_maps(
        image(prediction), image(lesion), image(lesion.astype(np.float32)), image(hardness)
    )
    assert figures == {
        "calibration_error": pytest.approx(0),
        "brier": pytest.approx(0),
        "hardness_auroc": 1.0,
        "hardness_sparsification_error": pytest.approx(0, abs=1e-12),
    }


def test_unlabelled_voxels_are_left_out(lesion: np.ndarray) -> None:
    prediction, reference = np.roll(lesion, 1, 0), lesion.copy()
    reference[(prediction != lesion)] = 255
    figures = evaluate_maps(image(prediction), image(reference), hardness=image(lesion * 1.0))
    assert np.isnan(figures["hardness_auroc"])


def test_nothing_there_is_undefined_not_an_error(lesion: np.ndarray) -> None:
    empty = image(lesion * 0)
    figures = evaluate_maps(empty, empty, image(lesion * 0.5), image(lesion * 0.5))
    assert all(np.isnan(value) for value in figures.values())


def test_maps_on_another_grid_are_refused(lesion: np.ndarray) -> None:
    with pytest.raises(GeometryError, match="hardness map"):
        evaluate_maps(image(lesion), image(lesion), hardness=image(lesion[:-1] * 1.0))
    two = sitk.Compose(image(lesion * 1.0), image(lesion * 1.0))
    with pytest.raises(InputError, match="values per voxel"):
        evaluate_maps(image(lesion), image(lesion), probability=two)
