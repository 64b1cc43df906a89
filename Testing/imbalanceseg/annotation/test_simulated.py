"""Slices and clicks of the simulated person on shapes whose answers are known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.annotation.annotation import Annotation, ConfirmedSlice
from imbalanceseg.annotation.simulated import (
    Click,
    click_on_largest_error,
    click_until_right,
    evenly_spaced_slices,
    paint_slices,
    paint_suggested,
    random_slices,
)
from imbalanceseg.errors import GeometryError, InputError
from imbalanceseg.geometry import Grid, image_from_array

GRID = Grid(
    size=(40, 36, 30),
    spacing_mm=(1.0, 1.0, 2.0),
    origin_mm=(5.0, -7.0, 11.0),
    direction=(0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0),
)


def image(array: np.ndarray) -> sitk.Image:
    return image_from_array(array.astype(np.uint8), GRID)


def scene() -> np.ndarray:
    """A large box of class 1 with a box of class 2 beside it, and a gap in z without either."""
    array = np.zeros(GRID.size[::-1], np.uint8)
    array[4:25, 8:28, 6:20] = 1
    array[4:25, 8:28, 20:34] = 2
    array[13:16] = 0
    return array


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_copied_and_confirmed(axis: int) -> None:
    truth = scene()
    annotation = paint_slices(image(truth), [ConfirmedSlice(axis, 10), ConfirmedSlice(axis, 12)])
    assert annotation.confirmed == [ConfirmedSlice(axis, 10), ConfirmedSlice(axis, 12)]
    for index in (10, 12):
        np.testing.assert_array_equal(
            annotation.plane(axis, index), np.take(truth, index, 2 - axis)
        )
    assert annotation.known.sum() == 2 * truth.size // GRID.size[axis]
    assert annotation.grid.same_as(GRID)


def test_even_slices_leave_the_ends_out_and_hold_foreground() -> None:
    def chosen(n: int, offset: float = 0.0) -> list[int]:
        return [one.index for one in evenly_spaced_slices(image(scene()), n, 2, offset)]

    assert chosen(3) == [9, 12, 19]
    assert chosen(1) == [12]
    assert chosen(4) == [8, 12, 16, 20]
    assert chosen(4, 0.5) == [10, 12, 18, 22]
    # All that hold foreground, when no more do.
    assert chosen(50) == [*range(4, 13), *range(16, 25)]
    assert chosen(16) == [*range(5, 13), *range(16, 24)]


def test_random_slices_depend_on_the_seed_only() -> None:
    first = random_slices(image(scene()), 5, 2, seed=3)
    assert first == random_slices(image(scene()), 5, 2, seed=3)
    assert first != random_slices(image(scene()), 5, 2, seed=4)
    assert len(set(first)) == 5
    assert all(scene()[one.index].any() for one in first)


def test_noise_moves_borders_by_about_as_much_as_asked() -> None:
    truth = np.zeros(GRID.size[::-1], np.uint8)
    truth[:, :, 20:] = 1
    slices = [ConfirmedSlice(2, k) for k in range(30)]
    for noise in (1.0, 2.0):
        painted = paint_slices(image(truth), slices, noise, seed=1).labels
        edges = 40 - painted.sum(axis=2, dtype=int)
        assert abs(edges.mean() - 20) < 0.3 * noise
        assert 0.75 * noise < edges.std() < 1.25 * noise
        # Smooth: from row to row a border moves by far less than it is off.
        assert np.abs(np.diff(edges, axis=1)).mean() < 0.5 * noise


def test_noise_is_that_of_the_slice_and_the_seed() -> None:
    reference = image(scene())
    both = paint_slices(reference, [ConfirmedSlice(2, 8), ConfirmedSlice(2, 9)], 0.7, seed=1)
    alone = paint_slices(reference, [ConfirmedSlice(2, 9)], 0.7, seed=1)
    other = paint_slices(reference, [ConfirmedSlice(2, 9)], 0.7, seed=2)
    np.testing.assert_array_equal(both.plane(2, 9), alone.plane(2, 9))
    assert (other.plane(2, 9) != alone.plane(2, 9)).any()
    assert (both.plane(2, 8) != both.plane(2, 9)).any()
    assert set(np.unique(alone.plane(2, 9))) == {0, 1, 2}


def test_a_little_noise_changes_nothing_and_an_even_slice_stays() -> None:
    slices = [ConfirmedSlice(2, 8), ConfirmedSlice(2, 0)]
    exact = paint_slices(image(scene()), slices)
    np.testing.assert_array_equal(paint_slices(image(scene()), slices, 1e-3).labels, exact.labels)
    assert not paint_slices(image(scene()), slices, 3.0).plane(2, 0).any()


def test_click_lands_in_the_middle_of_the_largest_error() -> None:
    truth = scene()
    found = truth.copy()
    found[5:8, 9:12, 7:10] = 0
    found[17:24, 10:21, 8:19] = 0
    click = click_on_largest_error(image(found), image(truth))
    assert click is not None
    assert click.label == 1
    index = Grid.of(image(truth)).physical_to_index(click.point_mm)
    np.testing.assert_allclose(index, (13, 15, 20), atol=1e-6)


def test_errors_of_two_classes_are_two_errors() -> None:
    truth = scene()
    found = truth.copy()
    found[17:24, 10:26, 15:26] = 0
    click = click_on_largest_error(image(found), image(truth))
    assert click is not None
    # 6 columns of class 2 and 5 of class 1 are missing.
    assert click.label == 2


def test_a_false_positive_is_clicked_as_background() -> None:
    found = scene()
    found[27:30, 1:5, 1:5] = 2
    click = click_on_largest_error(image(found), image(scene()))
    assert click is not None
    assert click.label == 0
    index = Grid.of(image(found)).physical_to_index(click.point_mm)
    assert found[tuple(np.rint(index[::-1]).astype(int))] == 2


def test_nothing_wrong_nothing_clicked() -> None:
    truth = scene()
    assert click_on_largest_error(image(truth), image(truth)) is None
    unsure = truth.copy()
    unsure[6:8] = 255
    assert click_on_largest_error(image(truth), image(unsure)) is None


def test_what_was_said_is_not_clicked() -> None:
    truth = scene()
    found = truth.copy()
    found[8] = 0
    said = paint_slices(image(truth), [ConfirmedSlice(2, 8)])
    assert click_on_largest_error(image(found), image(truth), said) is None


def test_suggestions_are_followed_until_none_comes() -> None:
    seen: list[int] = []

    def suggest(annotation: Annotation) -> ConfirmedSlice | None:
        seen.append(len(annotation.confirmed))
        annotation.labels[...] = 7
        return ConfirmedSlice(2, 5 + len(seen)) if len(seen) < 4 else None

    states = list(paint_suggested(image(scene()), 10, suggest))
    assert seen == [0, 1, 2, 3]
    assert [len(state.confirmed) for state in states] == [1, 2, 3]
    assert 7 not in states[-1].values
    assert len(list(paint_suggested(image(scene()), 2, lambda a: ConfirmedSlice(0, 9)))) == 2


def test_clicks_go_on_until_all_is_right() -> None:
    truth = scene()
    found = np.zeros_like(truth)

    def answer(click: Click) -> sitk.Image:
        found[truth == click.label] = click.label
        return image(found)

    clicks = [click.label for click, _ in click_until_right(image(found), image(truth), 9, answer)]
    assert sorted(clicks) == [1, 2]
    wrong = image(np.zeros_like(truth))
    assert len(list(click_until_right(wrong, image(truth), 4, lambda click: wrong))) == 4


def test_what_cannot_be_done_is_said() -> None:
    reference = image(scene())
    with pytest.raises(InputError, match="no foreground"):
        evenly_spaced_slices(image(np.zeros(GRID.size[::-1])), 3, 2)
    with pytest.raises(InputError, match="0 slices"):
        random_slices(reference, 0, 2)
    with pytest.raises(InputError, match="no axis 3"):
        evenly_spaced_slices(reference, 3, 3)
    with pytest.raises(InputError, match="no slice 30"):
        paint_slices(reference, [ConfirmedSlice(2, 30)])
    with pytest.raises(InputError, match="noise"):
        paint_slices(reference, [ConfirmedSlice(2, 3)], float("nan"))
    unlabelled = scene()
    unlabelled[3, 2, 1] = 255
    with pytest.raises(InputError, match="nothing of 1 voxels"):
        paint_slices(image(unlabelled), [ConfirmedSlice(2, 3)])
    with pytest.raises(GeometryError):
        click_on_largest_error(reference[:20], reference)
