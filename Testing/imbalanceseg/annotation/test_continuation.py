"""What was painted is expected to go on about as far as it is broad, and lesions are not."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.annotation.continuation import continuation
from imbalanceseg.annotation.patient_order import PatientOrder
from imbalanceseg.annotation.suggest import suggest_slices
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.inference.segmentation import Segmentation

STRAIGHT = (1, 0, 0, 0, 1, 0, 0, 0, 1)
GRID = Grid((50, 44, 40), (2.0, 2.0, 3.0), (-50.0, 20.0, 100.0), STRAIGHT)


def disc(centre: tuple[int, int], radius: float) -> np.ndarray:
    """In an axial slice, ``[y, x]``; the radius in voxels."""
    y, x = np.indices(GRID.size[1::-1])
    return (np.hypot(y - centre[0], x - centre[1]) <= radius).astype(np.uint8)


def with_slices(**planes: np.ndarray) -> Annotation:
    annotation = Annotation(GRID)
    for name, plane in planes.items():
        annotation.paint_slice(2, int(name[1:]), plane)
    return annotation


def expected(annotation: Annotation) -> np.ndarray:
    return continuation(annotation, PatientOrder.of(annotation.grid)).astype(np.float64)


def test_a_disc_goes_on_as_far_as_it_is_broad() -> None:
    annotation = with_slices(z20=disc((20, 25), 8))
    order = PatientOrder.of(GRID)
    found = expected(annotation)
    profile = found.sum((1, 2))
    at = order.block_centres(2) * 3.0
    mean = np.average(at, weights=profile)
    spread = np.sqrt(np.average((at - mean) ** 2, weights=profile))
    area = float(disc((20, 25), 8).sum()) * 4.0
    assert mean == pytest.approx(60.0, abs=1.0)
    assert spread == pytest.approx(np.sqrt(area) / 2, rel=0.1)
    # In the plane it lies where it was painted.
    across = found.sum((0, 2))
    assert np.average(order.block_centres(1), weights=across) == pytest.approx(20, abs=0.5)


def test_every_voxel_of_the_painted_slice_counts() -> None:
    grid = Grid((30, 30, 30), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0), STRAIGHT)
    annotation = Annotation(grid)
    plane = np.zeros((30, 30), np.uint8)
    plane[10:20, 12:18] = 1
    annotation.paint_slice(2, 15, plane)
    order = PatientOrder.of(grid)
    assert order.factors == (1, 1, 1)
    np.testing.assert_allclose(continuation(annotation, order)[15], plane)


def test_lesions_are_not_expected_to_go_on() -> None:
    scattered = disc((8, 8), 2) | disc((30, 40), 2) | disc((36, 10), 2)
    assert not expected(with_slices(z20=scattered)).any()
    elsewhere = disc((8, 8), 2), disc((30, 40), 2)
    assert not expected(with_slices(z10=elsewhere[0], z30=elsewhere[1])).any()


def test_nothing_painted_nothing_expected() -> None:
    assert not expected(Annotation(GRID)).any()
    assert not expected(with_slices(z20=disc((0, 0), 0) * 0)).any()


@pytest.mark.parametrize("axes", [(2, 0, 1), (1, 0, 2)])
def test_the_way_of_storing_changes_nothing(axes: tuple[int, int, int]) -> None:
    annotation = with_slices(z15=disc((20, 25), 7), z22=disc((21, 25), 6))
    flips = (True, False, True)
    turned = Annotation.from_labels(sitk.Flip(sitk.PermuteAxes(annotation.image, axes), flips))
    for one in annotation.confirmed:
        axis = axes.index(one.axis)
        last = turned.grid.size[axis] - 1
        turned.confirm(axis, last - one.index if flips[axis] else one.index)
    np.testing.assert_allclose(expected(turned), expected(annotation), atol=1e-4)


def test_a_poor_result_does_not_lead_away_from_the_structure() -> None:
    """The model has found nothing but what was painted, and is sure of it."""
    annotation = with_slices(z20=disc((20, 25), 8))
    labels = np.where(annotation.known, annotation.labels, 0)
    doubt = np.zeros(labels.shape)
    doubt[3, 4, 45:] = 0.4
    given = Segmentation(
        image_from_array(labels.astype(np.uint8), GRID),
        (),
        "test",
        "1",
        hardness=image_from_array(doubt.astype(np.float32), GRID),
    )
    for one in suggest_slices(given, annotation, 2):
        centre = (25, 20, 20)[one.axis]
        assert abs(one.index - centre) <= 8
    given = Segmentation(given.labels, (), "test", "1")
    assert suggest_slices(given, annotation, 1)
