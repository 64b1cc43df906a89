"""An annotation on finer, coarser and turned grids: nothing is lost, and nothing is made up."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.annotation.on_grid import labels_on
from imbalanceseg.geometry import Grid
from imbalanceseg.labels import UNLABELLED


def painted(spacing_mm: tuple[float, float, float] = (1.0, 1.0, 3.0)) -> Annotation:
    scan = sitk.Image(12, 10, 8, sitk.sitkInt16)
    scan.SetSpacing(spacing_mm)
    annotation = Annotation.of(scan)
    plane = np.zeros((10, 12), np.uint8)
    plane[3:7, 4:9] = 1
    annotation.paint_slice(2, 3, plane)
    return annotation


def test_on_its_own_grid_it_is_itself() -> None:
    annotation = painted()
    assert np.array_equal(labels_on(annotation, annotation.grid), annotation.labels)


def test_a_slice_stays_one_slice_on_a_finer_grid() -> None:
    annotation = painted()
    found = labels_on(annotation, annotation.grid.with_spacing((1.0, 1.0, 1.0)))
    planes = np.flatnonzero((found != UNLABELLED).any(axis=(1, 2)))
    assert len(planes) == 1
    assert (found[planes[0]] == 1).sum() == 20


def test_a_slice_is_not_lost_on_a_coarser_grid() -> None:
    annotation = painted((1.0, 1.0, 0.5))
    found = labels_on(annotation, annotation.grid.with_spacing((1.0, 1.0, 2.0)))
    assert (found == 1).sum() == 20


def test_a_turned_grid_has_the_same_labels_in_the_same_places() -> None:
    annotation = painted()
    scan = sitk.Flip(annotation.image, (True, False, True))
    turned = Annotation.from_labels(scan)
    upright = turned.grid.oriented_lps()
    found = sitk.GetArrayFromImage(
        upright.placed(sitk.GetImageFromArray(labels_on(turned, upright)))
    )
    assert np.array_equal(found, sitk.GetArrayFromImage(sitk.DICOMOrient(scan, "LPS")))


@pytest.mark.parametrize("start", [(-3, 0, 0), (2, 3, 1), (0, 0, 20)])
def test_a_part_of_the_grid_has_that_part_of_the_labels(start: tuple[int, int, int]) -> None:
    annotation = painted()
    part = annotation.grid.cropped(start, (8, 6, 5))
    found = labels_on(annotation, part)
    wanted = np.full((5, 6, 8), UNLABELLED, np.uint8)
    for k, j, i in np.ndindex(wanted.shape):
        at = (k + start[2], j + start[1], i + start[0])
        if all(0 <= n < size for n, size in zip(at, annotation.labels.shape, strict=True)):
            wanted[k, j, i] = annotation.labels[at]
    assert np.array_equal(found, wanted)


def test_an_empty_annotation_is_empty_everywhere() -> None:
    scan = sitk.Image(6, 6, 6, sitk.sitkUInt8)
    grid = Grid.of(scan).with_spacing((0.5, 2.0, 1.0))
    assert (labels_on(Annotation.of(scan), grid) == UNLABELLED).all()
