from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.synthesis.anatomy import (
    FAR_MM,
    ChestAnatomy,
    anatomy_from_masks,
    hull_distance,
    signed_distance,
)

_COMPANIONS = ("vessels", "nodule", "pleural_boundary", "fissures")


def ball(shape, spacing, radius, centre=None):
    """Analytic signed distance to a sphere, ``[Z, Y, X]``."""
    centre = [(n - 1) / 2 for n in shape] if centre is None else centre
    offsets = [(i - c) * s for i, c, s in zip(np.indices(shape), centre, spacing, strict=True)]
    return np.sqrt(sum(o**2 for o in offsets)) - radius


@pytest.mark.parametrize(
    ("spacing", "tolerance_mm"),
    [((1.0, 1.0, 1.0), 0.5), ((0.6, 0.6, 0.6), 0.3), ((2.0, 0.7, 0.7), 2.0)],
)
def test_signed_distance_to_a_ball_is_within_half_a_voxel(spacing, tolerance_mm):
    """Half of one voxel where voxels are cubes, one slice where they are not."""
    shape = tuple(round(24 / s) for s in spacing)
    truth = ball(shape, spacing, 7.3)
    found = signed_distance(truth < 0, spacing)
    np.testing.assert_array_equal(found < 0, truth < 0)
    near = np.abs(truth) < 6
    error = (found - truth)[near]
    assert np.abs(error).max() <= tolerance_mm
    assert np.abs(error).mean() <= 0.6 * tolerance_mm
    assert abs(error.mean()) <= 0.4 * tolerance_mm


def test_signed_distance_to_a_plane_between_voxels_is_exact():
    mask = np.zeros((5, 6, 20), bool)
    mask[..., :8] = True
    expected = (np.arange(20) - 7.5) * 0.8
    found = signed_distance(mask, (0.8, 0.8, 0.8))
    np.testing.assert_allclose(found, np.broadcast_to(expected, mask.shape), atol=1e-5)


def test_signed_distance_is_clipped_and_defined_without_any_structure():
    truth = ball((40, 40, 40), (2.0, 2.0, 2.0), 16)
    found = signed_distance(truth < 0, (2.0, 2.0, 2.0))
    assert (found.min(), found.max()) == (-FAR_MM, FAR_MM)
    assert (signed_distance(np.zeros((6, 6, 6), bool), (1.0, 1.0, 1.0)) == FAR_MM).all()


def test_hull_distance_spans_the_gap_between_two_lungs():
    shape, spacing = (30, 40, 60), 2.0
    left = ball(shape, (spacing,) * 3, 16, (15, 20, 15)) < 0
    right = ball(shape, (spacing,) * 3, 16, (15, 20, 45)) < 0
    distance = hull_distance(left | right, spacing)
    assert distance.shape == shape
    assert distance.dtype == np.float16
    assert distance[15, 20, 30] < -8
    assert distance[15, 20, 15] < -8
    assert distance[0, 0, 0] > 8
    corner = spacing * np.hypot(np.hypot(15 - 15, 20), 15)
    assert distance[15, 0, 0] == pytest.approx(corner - 16, abs=6)


def _write_masks(folder, patient, grid, tree):
    shape = grid.size[::-1]
    lungs = ball(shape, grid.spacing_mm[::-1], 13) < 0
    masks = {"bronchial_tree": tree, "pleural_boundary": lungs}
    masks["vessels"] = ball(shape, grid.spacing_mm[::-1], 2.5, (20, 30, 20)) < 0
    masks["nodule"] = ball(shape, grid.spacing_mm[::-1], 2.5, (20, 20, 30)) < 0
    masks["fissures"] = np.broadcast_to(np.indices(shape)[1] == 8, shape)
    for name, mask in masks.items():
        path = folder / f"patient{patient}_{name}.nii.gz"
        sitk.WriteImage(image_from_array(mask.astype(np.uint8), grid), str(path))


@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, -1, 0, 0, 0, 1)])
def test_label_maps_become_an_anatomy_in_the_same_place(tmp_path, direction):
    grid = Grid((40, 40, 40), (0.7, 0.7, 0.7), (5.0, -20.0, 30.0), direction)
    tree = ball((40,) * 3, (0.7,) * 3, 5.0, (15, 12, 17)) < 0
    _write_masks(tmp_path, 7, grid, tree)
    made = anatomy_from_masks(tmp_path, 7, spacing_mm=0.9)
    assert made.grid.spacing_mm == (0.9, 0.9, 0.9)
    np.testing.assert_allclose(made.grid.matrix, np.eye(3), atol=1e-12)
    centre = made.grid.physical_to_index(grid.index_to_physical((17, 12, 15)))
    expected = ball(made.label.shape, (0.9,) * 3, 5.0, centre[::-1])
    assert np.abs(made.airway_distance_mm - expected)[np.abs(expected) < 4].max() < 0.75
    np.testing.assert_array_equal(made.label, made.airway_distance_mm < 0)
    assert np.abs(expected[(made.label == 1) != (expected < 0)]).max(initial=0) < 0.6
    nodule = made.grid.physical_to_index(grid.index_to_physical((30, 20, 20)))
    i, j, k = np.round(nodule).astype(int)
    assert made.solid_distance_mm[k, j, i] < -1
    assert made.fissure_distance_mm.min() == 0
    assert (made.centerline_weight[expected > 2] > 0.99).all()
    assert made.centerline_weight[made.label == 1].min() < 0.35


@pytest.mark.parametrize("missing", _COMPANIONS)
def test_a_missing_label_map_is_named(tmp_path, missing):
    grid = Grid((40, 40, 40), (0.7, 0.7, 0.7), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))
    _write_masks(tmp_path, 3, grid, ball((40,) * 3, (0.7,) * 3, 5.0) < 0)
    (tmp_path / f"patient3_{missing}.nii.gz").unlink()
    with pytest.raises(InputError, match=f"patient3_{missing}") as refused:
        anatomy_from_masks(tmp_path, 3)
    assert refused.value.code == "label-map-missing"


def test_maps_are_stacked_in_the_order_of_their_names(coarse_chest):
    stack = coarse_chest.stacked()
    names = ChestAnatomy.map_names()
    assert stack.dtype == np.float16
    assert stack.shape == (7, *coarse_chest.grid.size[::-1])
    for name, part in zip(names, stack, strict=True):
        np.testing.assert_array_equal(part, getattr(coarse_chest, name))
