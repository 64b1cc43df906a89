"""What a person has said is kept, and what nobody has said stays unlabelled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imbalanceseg.annotation.annotation import Annotation, ConfirmedSlice, require_annotation_of
from imbalanceseg.errors import GeometryError, ImbalanceSegError, InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.labels import UNLABELLED

STRAIGHT = (1, 0, 0, 0, 1, 0, 0, 0, 1)
GRID = Grid((7, 6, 5), (0.5, 1.0, 4.0), (-10.0, 5.0, 30.0), STRAIGHT)
TURNED = Grid((7, 6, 5), (0.5, 1.0, 4.0), (-10.0, 5.0, 30.0), (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, -1))
SHAPE = GRID.size[::-1]


def require_code(error: pytest.ExceptionInfo[ImbalanceSegError], code: str) -> None:
    assert error.value.code == code
    assert error.value.message.endswith(".")
    assert error.value.hint.endswith(".")


def test_nothing_is_known_at_first() -> None:
    annotation = Annotation(GRID)
    assert not annotation.known.any()
    assert annotation.values == ()
    assert annotation.image.GetSize() == GRID.size


@given(st.integers(0, 2), st.data())
def test_a_confirmed_slice_is_known_and_nothing_else(axis: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, GRID.size[axis] - 1))
    annotation = Annotation(GRID)
    plane = np.full(annotation.plane(axis, index).shape, UNLABELLED, np.uint8)
    plane[1, 2] = 3
    assert annotation.paint_slice(axis, index, plane) is None
    assert annotation.confirmed == [ConfirmedSlice(axis, index)]
    assert annotation.values == (3,)
    assert annotation.known.sum() == plane.size
    assert (annotation.labels == 3).sum() == 1
    i, j, k = np.nonzero(annotation.known.transpose(2, 1, 0))
    assert set((i, j, k)[axis]) == {index}


def test_the_last_label_wins_and_the_conflict_is_told() -> None:
    annotation = Annotation(GRID)
    annotation.paint_slice(2, 1, np.ones(SHAPE[1:], np.uint8))
    conflict = annotation.paint_slice(0, 3, np.full(SHAPE[:2], 2, np.uint8))
    assert conflict is not None
    assert (conflict.voxels, conflict.was, conflict.now) == (GRID.size[1], 1, 2)
    assert "labelled 1" in str(conflict)
    assert (annotation.labels[1, :, 3] == 2).all()
    assert annotation.paint(annotation.labels) is None


def test_paint_says_nothing_of_the_rest() -> None:
    annotation = Annotation(GRID)
    stroke = np.full(SHAPE, UNLABELLED, np.uint8)
    stroke[2, 3, 1:4] = (0, 1, 4)
    annotation.paint(stroke)
    np.testing.assert_array_equal(annotation.labels, stroke)
    assert annotation.confirmed == []


def test_unconfirm_forgets_background_but_not_that_of_other_slices() -> None:
    annotation = Annotation(GRID)
    plane = np.full(SHAPE[1:], UNLABELLED, np.uint8)
    plane[2, 2] = 1
    annotation.paint_slice(2, 1, plane)
    annotation.confirm(0, 4)
    annotation.unconfirm(2, 1)
    assert annotation.confirmed == [ConfirmedSlice(0, 4)]
    assert annotation.labels[1, 2, 2] == 1
    assert (annotation.labels[:, :, 4] == 0).all()
    assert annotation.known.sum() == SHAPE[0] * SHAPE[1] + 1


def test_unconfirm_of_an_open_slice_keeps_painted_background() -> None:
    annotation = Annotation(GRID)
    stroke = np.full(SHAPE, UNLABELLED, np.uint8)
    stroke[2, 3, 1] = 0
    annotation.paint(stroke)
    annotation.unconfirm(2, 2)
    np.testing.assert_array_equal(annotation.labels, stroke)


def test_a_copy_lives_by_itself() -> None:
    annotation = Annotation(GRID, [2, 1])
    twin = annotation.copy()
    twin.confirm(1, 1)
    assert not annotation.known.any()
    assert annotation.confirmed == []
    assert twin.classes == (1, 2)


@pytest.mark.parametrize("grid", [GRID, TURNED])
@given(st.tuples(st.integers(0, 6), st.integers(0, 5), st.integers(0, 4)), st.floats(0, 9))
def test_a_click_labels_the_voxels_of_a_ball(
    grid: Grid, voxel: tuple[int, int, int], radius_mm: float
) -> None:
    annotation = Annotation(grid)
    point = grid.index_to_physical(voxel)
    annotation.click(point, 2, radius_mm)
    k, j, i = np.indices(SHAPE)
    gap = np.linalg.norm(grid.index_to_physical(np.stack([i, j, k], -1)) - point, axis=-1)
    labelled = annotation.labels == 2
    assert labelled[voxel[::-1]]
    np.testing.assert_array_equal(labelled[gap < radius_mm - 1e-6], True)
    far = (gap > radius_mm + 1e-6) & (gap > 1e-6)
    np.testing.assert_array_equal(labelled[far], False)


def test_a_tiny_click_between_thick_slices_labels_the_nearest_voxel() -> None:
    annotation = Annotation(GRID)
    annotation.click(GRID.index_to_physical((3.2, 2.4, 1.6)), 1, 0.1)
    assert np.argwhere(annotation.known).tolist() == [[2, 2, 3]]


@pytest.mark.parametrize("one", [(0, 3), (1, 2), (2, 2), (2, 1)])
def test_a_click_leaves_confirmed_slices_alone(one: tuple[int, int]) -> None:
    annotation = Annotation(GRID)
    annotation.confirm(*one)
    annotation.click(GRID.index_to_physical((3, 2, 2)), 1, 4.5)
    assert (annotation.plane(*one) == 0).all()
    assert 1 in annotation.values


@pytest.mark.parametrize("point", [(np.nan, 6, 31), (np.inf, 6, 31), (-10.3, 6, 31), (1e300, 0, 0)])
def test_a_click_outside_is_refused(point: tuple[float, float, float]) -> None:
    annotation = Annotation(GRID)
    with pytest.raises(InputError) as error:
        annotation.click(point, 1)
    require_code(error, "click-outside")
    assert not annotation.known.any()


@pytest.mark.parametrize(
    ("label", "radius", "code"),
    [
        (255, 1, "click-label"),
        (-1, 1, "click-label"),
        (300, 1, "click-label"),
        (1, np.nan, "click-radius"),
        (1, -1, "click-radius"),
        (1, np.inf, "click-radius"),
    ],
)
def test_clicks_of_no_use_are_refused(label: int, radius: float, code: str) -> None:
    with pytest.raises(InputError) as error:
        Annotation(GRID).click(GRID.index_to_physical((3, 2, 2)), label, radius)
    require_code(error, code)


@pytest.mark.parametrize(("axis", "index"), [(3, 0), (-1, 0), (0, 7), (1, -1), (2, 5)])
def test_slices_outside_are_refused(axis: int, index: int) -> None:
    annotation = Annotation(GRID)
    for call in (annotation.confirm, annotation.unconfirm, annotation.plane):
        with pytest.raises(InputError) as error:
            call(axis, index)
        require_code(error, "slice-outside")


@pytest.mark.parametrize("value", [-1, 256, 0.5, np.nan])
def test_what_is_no_label_is_refused(value: float) -> None:
    annotation = Annotation(GRID)
    with pytest.raises(InputError) as error:
        annotation.paint_slice(2, 1, np.full(SHAPE[1:], value))
    require_code(error, "annotation-not-labels")


def test_shapes_are_checked() -> None:
    annotation = Annotation(GRID)
    with pytest.raises(InputError) as error:
        annotation.paint_slice(2, 1, np.zeros((3, 3), np.uint8))
    require_code(error, "slice-shape")
    with pytest.raises(GeometryError) as mismatch:
        annotation.paint(np.zeros((3, 3, 3), np.uint8))
    require_code(mismatch, "shape-mismatch")


@pytest.mark.parametrize("classes", [[], [0], [255]])
def test_classes_are_checked(classes: list[int]) -> None:
    with pytest.raises(InputError) as error:
        Annotation(GRID, classes)
    require_code(error, "annotation-classes")


def test_an_annotation_of_another_scan_is_refused() -> None:
    scan = image_from_array(np.zeros(SHAPE, np.int16), TURNED)
    require_annotation_of(scan, Annotation(TURNED))
    with pytest.raises(GeometryError) as error:
        require_annotation_of(scan, Annotation(GRID))
    require_code(error, "grid-mismatch")
