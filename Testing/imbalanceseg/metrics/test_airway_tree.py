"""The tree parser on trees whose branches are known, and on real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.metrics.airway_tree import AirwayTree, parse_airway_tree
from imbalanceseg.metrics.larynx import below_larynx, larynx_level_mm

from .tubes import TREE, Tube, draw, without

SPACINGS = [(1.0, 1.0, 1.0), (0.8, 0.8, 0.8), (0.7, 0.7, 1.25), (0.7, 0.7, 1.5), (0.5, 0.5, 2.5)]


def generations(tree: AirwayTree) -> list[int]:
    return np.bincount([b.generation for b in tree.branches]).tolist()


def nearest_tube(tree: AirwayTree, number: int) -> Tube:
    """The tube around the middle of a branch's centreline."""
    voxels = tree.centreline.voxels[tree.point_branches == number]
    points = tree.grid.index_to_physical(voxels[:, ::-1])
    middle = points[np.linalg.norm(points - points.mean(axis=0), axis=1).argmin()]

    def away(tube: Tube) -> float:
        axis = np.subtract(tube.end, tube.start) / tube.length
        along = np.clip((middle - tube.start) @ axis, 0, tube.length)
        return float(np.linalg.norm(middle - tube.start - along * axis))

    return min(TREE, key=away)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_every_tube_is_one_branch_of_its_generation_and_length(
    spacing: tuple[float, float, float],
) -> None:
    tree = parse_airway_tree(draw(TREE, spacing))
    assert generations(tree) == [1, 2, 4, 2]
    tubes = [nearest_tube(tree, branch.number) for branch in tree.branches]
    assert len(set(tubes)) == len(TREE)
    for branch, tube in zip(tree.branches, tubes, strict=True):
        assert branch.generation == tube.generation
        # A centreline keeps about a radius from a blind end and swerves within a bifurcation.
        assert branch.length_mm == pytest.approx(tube.length, abs=0.15 * tube.length + 5)
    total = sum(tube.length for tube in TREE)
    assert sum(b.length_mm for b in tree.branches) == pytest.approx(total, rel=0.1)


def test_parents_and_children_agree() -> None:
    tree = parse_airway_tree(draw())
    assert tree.trachea.parent is None
    assert sorted(c for b in tree.branches for c in b.children) == list(range(2, 10))
    for branch in tree.branches:
        for child in branch.children:
            assert tree.branches[child - 1].parent == branch.number
            assert tree.branches[child - 1].generation == branch.generation + 1


def test_the_carina_is_where_the_trachea_divides() -> None:
    assert parse_airway_tree(draw()).carina_mm == pytest.approx(TREE[0].end, abs=3)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_straight_tube_along_an_axis_has_its_length_in_mm(
    spacing: tuple[float, float, float],
) -> None:
    tube = Tube((50, 25, 110), (50, 25, 20), 4.0, 0)
    tree = parse_airway_tree(draw((tube,), spacing))
    assert len(tree.branches) == 1
    # The ends are half spheres: a centreline stops before one, or reaches the rim of its cap.
    assert abs(tree.trachea.length_mm - tube.length) <= 3 * tube.radius


def test_regions_cover_the_mask_exactly_and_volumes_add_up() -> None:
    mask = draw(TREE, (0.8, 0.8, 1.0))
    tree = parse_airway_tree(mask)
    regions = sitk.GetArrayFromImage(tree.region_image(Grid.of(mask)))
    assert np.array_equal(regions > 0, sitk.GetArrayFromImage(mask) > 0)
    volume = np.count_nonzero(regions) * 0.8 * 0.8
    assert sum(b.volume_mm3 for b in tree.branches) == pytest.approx(volume)


@pytest.mark.parametrize("axes", [(1, 2, 0), (2, 0, 1), (0, 2, 1)])
@pytest.mark.parametrize("flips", [(False, False, True), (True, True, False)])
def test_storage_order_changes_nothing(
    axes: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> None:
    mask = draw(TREE, (0.8, 0.9, 1.0))
    turned = sitk.Flip(sitk.PermuteAxes(mask, axes), flips)
    before, after = parse_airway_tree(mask), parse_airway_tree(turned)
    assert before.branches == after.branches
    assert before.carina_mm == pytest.approx(after.carina_mm)


def test_a_cavity_and_a_loose_voxel_change_nothing() -> None:
    mask = draw()
    values = sitk.GetArrayFromImage(mask)
    values[90, 25, 50] = 0
    values[2, 2, 2] = 1
    changed = parse_airway_tree(image_from_array(values, Grid.of(mask)))
    assert changed.branches == parse_airway_tree(mask).branches


def test_the_larynx_belongs_to_the_trachea() -> None:
    pouches = (
        Tube((50, 25, 112), (62, 25, 112), 4.0, 0),
        Tube((50, 25, 112), (38, 25, 112), 4.0, 0),
    )
    assert generations(parse_airway_tree(draw((*TREE, *pouches)))) == [1, 2, 4, 2]


@pytest.mark.parametrize("begin_mm", [2, 5])
@pytest.mark.parametrize("tube", TREE[1:3], ids=["left", "right"])
def test_a_hole_through_a_main_bronchus_does_not_make_it_two(tube: Tube, begin_mm: int) -> None:
    mask = draw()
    axis = np.subtract(tube.end, tube.start) / tube.length
    k, j, i = np.indices(sitk.GetArrayViewFromImage(mask).shape)
    offset = np.stack([i, j, k], axis=-1) - tube.start
    along, across = offset @ axis, offset @ np.cross(axis, (0.0, 1.0, 0.0))
    # From front to back, so that the lumen parts near the carina and closes again.
    hole = (along > begin_mm) & (along < begin_mm + 8) & (abs(across) < 1)
    tree = parse_airway_tree(without(mask, hole))
    assert generations(tree) == [1, 2, 4, 2]
    for branch in tree.branches[1:3]:
        # The way around the hole, once, is a little longer than the tube.
        assert branch.length_mm == pytest.approx(nearest_tube(tree, branch.number).length, abs=8)


def test_a_scan_without_larynx_is_not_cut() -> None:
    mask = draw()
    assert larynx_level_mm(parse_airway_tree(mask)) == float("inf")
    assert sitk.GetArrayFromImage(below_larynx(mask)).all()


def test_the_larynx_is_cut_below_the_glottis() -> None:
    wide, slit = (
        Tube((50, 25, 118), (50, 25, 112), 9.0, 0),
        Tube((50, 25, 108), (50, 25, 96), 3.0, 0),
    )
    trachea = Tube((50, 25, 92), (50, 25, 70), 7.0, 0)
    mask = draw((wide, slit, trachea, *TREE[1:]))
    # Twice as large: the drawing has no room for a neck at its own scale.
    mask.SetSpacing((2.0, 2.0, 2.0))
    level = larynx_level_mm(parse_airway_tree(mask))
    assert 2 * 92 + 7 - 15 <= level <= 2 * 110 - 15
    inside = sitk.GetArrayFromImage(below_larynx(mask)).any(axis=(1, 2))
    assert inside.tolist() == [2.0 * k <= level for k in range(len(inside))]


@pytest.mark.parametrize("value", [0, 255])
def test_an_empty_mask_is_refused(value: int) -> None:
    empty = image_from_array(
        np.full((4, 5, 6), value, np.uint8),
        Grid((6, 5, 4), (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1)),
    )
    with pytest.raises(InputError) as caught:
        parse_airway_tree(empty)
    assert caught.value.code == "airway-empty"


@settings(max_examples=60, deadline=None)
@given(arrays(np.bool_, (9, 8, 7)).filter(np.any))
def test_any_mask_parses_into_one_rooted_tree(values: np.ndarray) -> None:
    grid = Grid((7, 8, 9), (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    tree = parse_airway_tree(image_from_array(values.astype(np.uint8), grid))
    assert [b.number for b in tree.branches if b.parent is None] == [1]
    assert set(np.unique(tree.regions)) - {0} == {b.number for b in tree.branches}
    assert all(
        b.generation == tree.branches[b.parent - 1].generation + 1 for b in tree.branches[1:]
    )


@pytest.mark.parametrize("patient", [1, 2, 3, 4])
@pytest.mark.slow
def test_real_trees_have_a_trachea_and_two_main_bronchi(data_folder: Path, patient: int) -> None:
    path = data_folder / "airway_medmpd_masks" / f"patient{patient}_bronchial_tree.nii.gz"
    tree = parse_airway_tree(sitk.ReadImage(str(path)))
    left, right = (tree.branches[c - 1] for c in tree.trachea.children)
    # The left main bronchus is about twice as long as the right one: 4 to 7 cm against 1 to 4.
    lengths = sorted((left.length_mm, right.length_mm))
    assert 10 < lengths[0] < 45 < lengths[1] < 80
    assert tree.trachea.length_mm > 40
    assert len(tree.branches) > 50


def test_the_region_grown_tree_is_cut_in_the_neck(data_folder: Path) -> None:
    path = data_folder / "airway_ricord" / "airway_region_grown.nii.gz"
    tree = parse_airway_tree(sitk.ReadImage(str(path)))
    assert len(tree.trachea.children) == 2
    # Between the larynx's narrowest slice (z = 212) and the carina (z = 151), nearer to the former.
    assert 190 < (larynx_level_mm(tree) + 20.5) / 1.25 < 205
