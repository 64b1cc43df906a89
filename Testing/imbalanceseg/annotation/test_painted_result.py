"""What was painted stands; one structure is one piece; lesions may be many."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.annotation.painted_result import (
    hangs_together,
    only_near,
    said_of,
    with_annotation,
)
from imbalanceseg.geometry import image_from_array

SHAPE = (16, 40, 40)


def annotation_of(*planes: tuple[int, tuple[slice, slice]]) -> Annotation:
    scan = sitk.Image(*SHAPE[::-1], sitk.sitkUInt8)
    scan.SetSpacing((1.0, 1.0, 4.0))
    annotation = Annotation.of(scan)
    for index, box in planes:
        plane = np.zeros(SHAPE[1:], np.uint8)
        plane[box] = 1
        annotation.paint_slice(2, index, plane)
    return annotation


MIDDLE = (slice(15, 22), slice(15, 22))
BESIDE = (slice(18, 26), slice(18, 26))
APART = (slice(34, 38), slice(34, 38))


def test_one_structure_hangs_together() -> None:
    assert hangs_together(annotation_of((4, MIDDLE), (10, BESIDE)))


def test_lesions_do_not() -> None:
    assert not hangs_together(annotation_of((4, MIDDLE), (10, APART)))
    assert not hangs_together(annotation_of((4, (slice(1, 3), slice(1, 3))), (10, APART)))


def test_one_slice_says_nothing() -> None:
    assert not hangs_together(annotation_of((4, MIDDLE)))
    assert not hangs_together(Annotation.of(sitk.Image(4, 4, 4, sitk.sitkUInt8)))


def test_slices_of_two_axes() -> None:
    annotation = annotation_of((4, MIDDLE))
    plane = np.zeros((SHAPE[0], SHAPE[2]), np.uint8)
    plane[2:7, 15:22] = 1
    annotation.paint_slice(1, 18, plane)
    assert hangs_together(annotation)


def test_pieces_that_touch_nothing_painted_go_from_one_structure_only() -> None:
    found = np.zeros(SHAPE, np.uint8)
    found[3:12, 15:24, 15:24] = 1
    found[7, 36:38, 2:5] = 1
    for planes, left in (((4, MIDDLE), (10, BESIDE)), False), (((4, MIDDLE), (10, APART)), True):
        annotation = annotation_of(*planes)
        result = with_annotation(image_from_array(found, annotation.grid), annotation)
        assert bool(sitk.GetArrayFromImage(result)[7, 36, 2]) is left


def test_what_was_painted_stands() -> None:
    annotation = annotation_of((4, MIDDLE), (10, APART))
    annotation.click((2.0, 3.0, 28.0), 2, 0.5)
    result = with_annotation(
        image_from_array(np.ones(SHAPE, np.uint8), annotation.grid), annotation
    )
    found = sitk.GetArrayFromImage(result)
    assert np.array_equal(found[annotation.known], annotation.labels[annotation.known])
    assert result.GetSpacing() == (1.0, 1.0, 4.0)


def test_hardness_far_from_one_structure_goes() -> None:
    annotation = annotation_of((4, MIDDLE), (10, BESIDE))
    labels = np.zeros(SHAPE, np.uint8)
    labels[4, 15:22, 0:7] = 1
    hardness = image_from_array(np.ones(SHAPE, np.float32), annotation.grid)
    near = only_near(hardness, image_from_array(labels, annotation.grid))
    found = sitk.GetArrayFromImage(near)
    assert near.GetSpacing() == (1.0, 1.0, 4.0)
    assert found[4, 18, 26] == 1
    assert found[4, 18, 27] == 0
    assert found[9, 18, 3] == 1
    assert found[10, 18, 3] == 0
    empty = image_from_array(np.zeros(SHAPE, np.uint8), annotation.grid)
    assert np.array_equal(sitk.GetArrayFromImage(only_near(hardness, empty)), np.ones(SHAPE))


def test_many_lesions_do_not_hang_together_because_they_are_many() -> None:
    draw = np.random.default_rng(0)
    planes = []
    for index in range(1, 15, 2):
        y, x = draw.integers(0, 4, 2) * 10
        planes.append((index, (slice(y, y + 2), slice(x, x + 2))))
    assert not hangs_together(annotation_of(*planes))


def test_classes_that_nobody_looked_for_stay() -> None:
    """Also in a finished slice, where "background" may hide them, and where they lie apart."""
    found = np.zeros(SHAPE, np.uint8)
    found[3:12, 15:24, 15:24] = 1
    found[2:14, 30:36, 30:36] = 2
    annotation = annotation_of((4, MIDDLE), (10, BESIDE))
    annotation.classes = (1,)
    labels = image_from_array(found, annotation.grid)
    result = sitk.GetArrayFromImage(with_annotation(labels, annotation))
    np.testing.assert_array_equal(result == 2, found == 2)
    np.testing.assert_array_equal(result[4] == 1, annotation.labels[4] == 1)
    said = sitk.GetArrayFromImage(said_of(labels, annotation))
    assert (said[4][found[4] == 2] == 255).all()
    assert (said[4][found[4] != 2] == annotation.labels[4][found[4] != 2]).all()
    annotation.classes = None
    everything = sitk.GetArrayFromImage(with_annotation(labels, annotation))
    assert not (everything == 2).any()
