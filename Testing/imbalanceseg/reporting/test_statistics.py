"""Figures of segments against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalanceseg.geometry import Grid, image_from_array, resample
from imbalanceseg.labels import AIRWAY_TREE
from imbalanceseg.reporting.statistics import bounding_slices, segment_statistics


def _box_image(direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1)) -> sitk.Image:
    array = np.zeros((10, 12, 14), np.uint8)
    array[2:5, 3:7, 4:9] = 1
    array[8, 10, 12] = 1
    return image_from_array(
        array, Grid((14, 12, 10), (0.5, 1.0, 2.0), (10.0, 20.0, 30.0), direction)
    )


def test_counts_volume_pieces_and_box() -> None:
    (one,) = segment_statistics(_box_image(), (AIRWAY_TREE,))
    assert one.voxels == 3 * 4 * 5 + 1
    assert one.volume_ml == pytest.approx(61 * 1.0 / 1000)
    assert one.components == 2
    assert one.bounding_box_lps_mm == ((11.75, 22.5, 33.0), (16.25, 30.5, 47.0))
    assert one.mean_hardness is None


def test_flipped_axes_give_the_same_figures() -> None:
    image = _box_image()
    grid = Grid.of(image)
    flipped = Grid(
        grid.size,
        grid.spacing_mm,
        tuple(grid.index_to_physical((13, 11, 0))),
        (-1, 0, 0, 0, -1, 0, 0, 0, 1),
    )
    assert segment_statistics(resample(image, flipped, "nearest"), (AIRWAY_TREE,)) == (
        segment_statistics(image, (AIRWAY_TREE,))
    )


def test_corner_contact_joins_pieces() -> None:
    array = np.zeros((4, 4, 4), np.uint8)
    array[1, 1, 1] = array[2, 2, 2] = 1
    image = sitk.GetImageFromArray(array)
    assert segment_statistics(image, (AIRWAY_TREE,))[0].components == 1


def test_hardness_is_taken_from_the_surface_only() -> None:
    array = np.zeros((9, 9, 9), np.uint8)
    array[2:7, 2:7, 2:7] = 1
    labels = sitk.GetImageFromArray(array)
    hardness = np.zeros(array.shape, np.float32)
    hardness[3:6, 3:6, 3:6] = 1.0
    deep = sitk.GetImageFromArray(hardness)
    assert segment_statistics(labels, (AIRWAY_TREE,), deep)[0].mean_hardness == 0.0
    flat = sitk.GetImageFromArray(np.full(array.shape, 0.25, np.float32))
    assert segment_statistics(labels, (AIRWAY_TREE,), flat)[0].mean_hardness == 0.25


def test_an_empty_segment_has_figures_too() -> None:
    image = sitk.Image(5, 5, 5, sitk.sitkUInt8)
    (one,) = segment_statistics(image, (AIRWAY_TREE,), sitk.Image(5, 5, 5, sitk.sitkFloat32))
    assert (one.voxels, one.volume_ml, one.components) == (0, 0.0, 0)
    assert one.bounding_box_lps_mm is None
    assert one.mean_hardness is None


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=6))
def test_bounding_slices_hold_every_voxel_and_touch_all_sides(
    places: list[tuple[int, ...]],
) -> None:
    mask = np.zeros((6, 6, 6), bool)
    mask[tuple(np.transpose(places))] = True
    box = bounding_slices(mask)
    assert box is not None
    assert mask[box].sum() == mask.sum()
    for axis in range(3):
        inside = np.moveaxis(mask[box], axis, 0)
        assert inside[0].any()
        assert inside[-1].any()
