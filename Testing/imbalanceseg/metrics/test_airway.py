"""Airway scores by exact identities: what is taken away is what is missing."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.errors import GeometryError, InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.metrics.airway import airway_score, length_detected
from imbalanceseg.metrics.airway_tree import AirwayTree, parse_airway_tree

from .tubes import TREE, draw, without


@pytest.fixture(scope="module", params=[(1.0, 1.0, 1.0), (0.7, 0.7, 1.5)], ids=str)
def mask(request: pytest.FixtureRequest) -> sitk.Image:
    return draw(TREE, request.param)


@pytest.fixture(scope="module")
def tree(mask: sitk.Image) -> AirwayTree:
    return parse_airway_tree(mask)


def far_part(mask: sitk.Image, tree: AirwayTree, number: int, share: float) -> np.ndarray:
    """The voxels of a terminal branch beyond all but ``share`` of its centreline points."""
    regions = sitk.GetArrayFromImage(tree.region_image(Grid.of(mask)))
    start = np.asarray(tree.carina_mm)
    grid = Grid.of(mask)
    mine = tree.centreline.voxels[tree.point_branches == number][:, ::-1]
    points = tree.grid.index_to_physical(mine)
    parent = tree.branches[tree.branches[number - 1].parent - 1].number
    towards = tree.grid.index_to_physical(
        tree.centreline.voxels[tree.point_branches == parent][:, ::-1]
    )
    gap = np.linalg.norm(points[:, None] - towards[None], axis=-1).min(axis=1)
    start = points[gap.argmin()]
    # Terminal tubes are straight, so distance from where one begins orders its points.
    distance = np.sort(np.linalg.norm(points - start, axis=1))
    limit = distance[len(distance) - round(share * len(distance))]
    z, y, x = np.nonzero(regions == number)
    voxels = grid.index_to_physical(np.stack([x, y, z], axis=1))
    beyond = np.linalg.norm(voxels - start, axis=1) >= limit - 1e-6
    part = np.zeros(regions.shape, bool)
    part[z[beyond], y[beyond], x[beyond]] = True
    return part


def test_the_reference_scores_itself_in_full(mask: sitk.Image) -> None:
    score = airway_score(mask, mask)
    assert score.length_detected == score.branch_detected == score.precision == 1.0
    assert score.dice == score.dice_largest == score.length_detected_mm_share == 1.0
    assert score.leakage_mm3 == score.leakage_rate == 0.0
    assert score.detected_branches == score.reference_branches == len(TREE)
    assert score.reference_length_mm == pytest.approx(sum(t.length for t in TREE), rel=0.1)


def test_a_missing_terminal_branch_costs_exactly_its_share(
    mask: sitk.Image, tree: AirwayTree
) -> None:
    regions = sitk.GetArrayFromImage(tree.region_image(Grid.of(mask)))
    for branch in tree.branches:
        if branch.children:
            continue
        score = airway_score(without(mask, regions == branch.number), mask)
        lost = np.count_nonzero(tree.point_branches == branch.number)
        assert score.branch_detected == (len(TREE) - 1) / len(TREE)
        assert score.length_detected == 1 - lost / len(tree.point_branches)
        kept = score.reference_length_mm - score.detected_length_mm
        assert kept == pytest.approx(branch.length_mm)
        assert score.precision == 1.0


@pytest.mark.parametrize(("trimmed", "still_found"), [(0.15, True), (0.25, False)])
def test_a_branch_counts_from_four_fifths_of_its_centreline(
    mask: sitk.Image, tree: AirwayTree, trimmed: float, still_found: bool
) -> None:
    for branch in tree.branches:
        if branch.children:
            continue
        prediction = without(mask, far_part(mask, tree, branch.number, trimmed))
        score = airway_score(prediction, mask)
        assert score.length_detected < 1
        assert score.detected_branches == len(TREE) - (not still_found)


def test_what_does_not_hang_on_the_tree_does_not_count(mask: sitk.Image, tree: AirwayTree) -> None:
    regions = sitk.GetArrayFromImage(tree.region_image(Grid.of(mask)))
    main_bronchus = tree.branches[tree.trachea.children[0] - 1]
    score = airway_score(without(mask, regions == main_bronchus.number), mask)
    assert score.detected_branches == len(TREE) - 1 - len(main_bronchus.children)
    assert score.dice > score.dice_largest
    assert score.leakage_mm3 == 0.0


def test_leakage_is_the_volume_outside_the_reference(mask: sitk.Image) -> None:
    values = sitk.GetArrayFromImage(mask)
    outside = (sitk.GetArrayFromImage(sitk.BinaryDilate(mask, [3, 3, 3])) > 0) & (values == 0)
    outside &= np.arange(values.shape[0])[:, None, None] < 30
    values[outside] = 1
    score = airway_score(image_from_array(values, Grid.of(mask)), mask)
    voxel_mm3 = float(np.prod(mask.GetSpacing()))
    reference = np.count_nonzero(sitk.GetArrayFromImage(mask))
    leaked = np.count_nonzero(outside)
    assert score.leakage_mm3 == pytest.approx(leaked * voxel_mm3)
    assert score.leakage_rate == pytest.approx(leaked / reference)
    assert score.precision == pytest.approx(reference / (reference + leaked))
    assert score.length_detected == 1.0


def test_unlabelled_voxels_are_ignored(mask: sitk.Image) -> None:
    truth = sitk.GetArrayFromImage(mask)
    wrong = truth.copy()
    half = np.arange(truth.shape[0])[:, None, None] >= truth.shape[0] // 2
    wrong[half & (truth == 0)] = 1
    truth[half & (truth == 0)] = 255
    grid = Grid.of(mask)
    score = airway_score(image_from_array(wrong, grid), image_from_array(truth, grid))
    assert score.precision == 1.0
    assert score.leakage_mm3 == 0.0


def test_only_the_region_is_scored(mask: sitk.Image, tree: AirwayTree) -> None:
    grid = Grid.of(mask)
    regions = sitk.GetArrayFromImage(tree.region_image(grid))
    region = image_from_array((regions <= 3).astype(np.uint8), grid)
    stub = image_from_array(((regions > 0) & (regions <= 3)).astype(np.uint8), grid)
    assert airway_score(stub, mask).detected_branches == 3
    score = airway_score(stub, mask, region)
    assert (score.detected_branches, score.reference_branches) == (3, 3)
    assert score.length_detected == length_detected(stub, mask, region) == 1.0
    assert score.dice == 1.0


def test_empty_masks(mask: sitk.Image) -> None:
    empty = without(mask, np.ones(mask.GetSize()[::-1], bool))
    nothing = airway_score(empty, mask)
    assert nothing.length_detected == nothing.branch_detected == nothing.dice == 0.0
    assert nothing.precision == nothing.leakage_mm3 == 0.0
    both = airway_score(empty, empty)
    assert both.length_detected == both.branch_detected == both.dice == both.precision == 1.0
    false_alarm = airway_score(mask, empty)
    assert false_alarm.length_detected == false_alarm.precision == 0.0
    assert false_alarm.leakage_rate == float("inf")


def test_a_mask_that_fills_the_image_is_scored() -> None:
    grid = Grid((6, 5, 4), (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    full = image_from_array(np.ones((4, 5, 6), np.uint8), grid)
    assert airway_score(full, full).length_detected == 1.0


def test_storage_order_changes_no_score(mask: sitk.Image) -> None:
    prediction = sitk.BinaryErode(mask, [1, 1, 1])
    scores = {
        airway_score(*(sitk.Flip(sitk.PermuteAxes(i, axes), flips) for i in (prediction, mask)))
        for axes in [(0, 1, 2), (2, 0, 1)]
        for flips in [(False, False, False), (True, False, True)]
    }
    assert len(scores) == 1


def test_other_grids_and_other_images_are_refused(mask: sitk.Image) -> None:
    moved = sitk.Image(mask)
    moved.SetOrigin((5, 0, 0))
    with pytest.raises(GeometryError, match="same grid"):
        airway_score(moved, mask)
    with pytest.raises(GeometryError, match="same grid"):
        airway_score(mask, mask, moved)
    with pytest.raises(InputError, match="whole numbers"):
        airway_score(sitk.Cast(mask, sitk.sitkFloat32) * 0.5, mask)
