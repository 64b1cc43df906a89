from __future__ import annotations

import cc3d
import numpy as np
import pytest

from imbalanceseg.synthesis.anatomy import FAR_MM, ChestAnatomy
from imbalanceseg.synthesis.tree_growth import grow_chest

_HALF_DIAGONAL = 0.5 * np.sqrt(3)


def test_the_same_seed_grows_the_same_chest(coarse_chest):
    again = grow_chest(1, spacing_mm=3.0, scale=0.4)
    assert again.grid == coarse_chest.grid
    np.testing.assert_array_equal(again.stacked(), coarse_chest.stacked())


def test_another_seed_grows_another_chest(coarse_chest):
    other = grow_chest(2, spacing_mm=3.0, scale=0.4)
    assert other.grid == coarse_chest.grid
    for name in ("airway_distance_mm", "solid_distance_mm", "lung_distance_mm"):
        assert (getattr(other, name) != getattr(coarse_chest, name)).mean() > 0.01


def test_maps_are_finite_and_in_range(chest):
    stack = chest.stacked()
    assert stack.dtype == np.float16
    assert np.isfinite(stack).all()
    for name in ("airway_distance_mm", "solid_distance_mm", "lung_distance_mm"):
        assert np.abs(getattr(chest, name)).max() <= FAR_MM
    assert chest.airway_radius_mm.min() > 0
    weight = chest.centerline_weight
    assert weight.min() >= 0
    assert weight.max() == 1
    assert (weight[chest.label == 0] == 1).all()
    assert weight[chest.label == 1].min() < 0.1


def test_every_branch_hangs_on_the_trachea(chest):
    # An axis passes within half a voxel's diagonal of a voxel centre, however thin the lumen is.
    touched = chest.airway_distance_mm < _HALF_DIAGONAL * chest.grid.spacing_mm[0]
    parts, count = cc3d.connected_components(touched, connectivity=26, return_N=True)
    assert count == 1
    assert parts[-3:].any(), "the trachea reaches the top of the chest"


def test_the_trachea_has_the_radius_that_the_map_states(chest):
    scale, spacing = 0.4, chest.grid.spacing_mm[0]
    low, high = (
        round(float(chest.grid.physical_to_index((0, 0, z_mm * scale))[2])) for z_mm in (70, 150)
    )
    assert high - low > 30
    wide = chest.airway_radius_mm[low:high] > 5 * scale
    inside = (chest.label[low:high] == 1) & wide
    radii = chest.airway_radius_mm[low:high][inside].astype(float)
    assert 0.95 * 7.5 * scale <= radii.min() <= radii.max() <= 10 * scale
    area = inside.sum() * spacing**2 / (high - low)
    assert area == pytest.approx(np.pi * radii.mean() ** 2, rel=0.1)


def test_arteries_run_beside_the_bronchi_and_not_through_them(chest):
    lumen = chest.label == 1
    assert (chest.solid_distance_mm[lumen] < 0).mean() < 0.1
    lung = chest.lung_distance_mm < 0
    bronchi = lumen & lung & (chest.airway_radius_mm < 1.5)
    assert bronchi.sum() > 200
    to_artery = np.median(chest.solid_distance_mm[bronchi].astype(float))
    assert to_artery < 1.15 * 1.5 + 0.8
    assert to_artery < 0.8 * np.median(chest.solid_distance_mm[lung].astype(float))


def test_the_tree_thins_out_towards_the_periphery(chest):
    radii = chest.airway_radius_mm[chest.label == 1].astype(float)
    assert radii.max() > 2.8
    assert np.quantile(radii, 0.2) < 1.0


def test_a_chest_of_twice_the_size_is_the_same_chest(coarse_chest):
    larger = grow_chest(1, spacing_mm=6.0, scale=0.8)
    assert larger.grid.size == coarse_chest.grid.size
    small = coarse_chest.airway_distance_mm.astype(float)
    near = np.abs(small) < 2
    assert near.sum() > 500
    gap = np.abs(larger.airway_distance_mm.astype(float)[near] - 2 * small[near])
    assert (gap < 0.02).mean() > 0.98, "but for twigs that chance bends otherwise"
    np.testing.assert_array_equal(larger.lung_distance_mm < 0, coarse_chest.lung_distance_mm < 0)


def test_lungs_fill_a_plausible_share_of_the_chest(chest):
    share = (chest.lung_distance_mm < 0).mean()
    assert 0.1 < share < 0.5
    assert (chest.body_distance_mm[chest.lung_distance_mm < -2] < 0).mean() > 0.99


def test_voxel_size_does_not_change_the_lungs(chest, coarse_chest):
    def litres(anatomy: ChestAnatomy) -> float:
        return float((anatomy.lung_distance_mm < 0).sum() * anatomy.grid.spacing_mm[0] ** 3 / 1e6)

    assert litres(chest) == pytest.approx(litres(coarse_chest), rel=0.06)
