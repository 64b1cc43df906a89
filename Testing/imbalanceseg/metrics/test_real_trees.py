"""The tree parser on masks of real patients: bounds that adult anatomy sets."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from imbalanceseg.io import read_image
from imbalanceseg.metrics.airway_tree import AirwayTree, Branch, parse_airway_tree

pytestmark = pytest.mark.slow

MASKS = (
    "airway_medmpd_masks/patient2_bronchial_tree.nii.gz",
    # a strand crosses the beginning of the left main bronchus: a hole through the mask
    "airway_atm22_masks/case305_timi.nii.gz",
    # the back wall of the trachea is full of holes
    "airway_atm22_masks/case384_timi.nii.gz",
)


@pytest.fixture(scope="module", params=MASKS, ids=lambda name: Path(name).name.split(".")[0])
def tree(request: pytest.FixtureRequest, data_folder: Path) -> AirwayTree:
    return parse_airway_tree(read_image(data_folder / request.param))


def middle_mm(tree: AirwayTree, branch: Branch) -> np.ndarray:
    """LPS position of the middle of a branch's centreline, in mm."""
    voxels = tree.centreline.voxels[tree.point_branches == branch.number]
    return tree.grid.index_to_physical(voxels.mean(axis=0)[::-1])


def test_the_trachea_stands_upright_on_the_carina(tree: AirwayTree) -> None:
    voxels = np.argwhere(tree.regions == tree.trachea.number)
    height = np.ptp(voxels[:, 0]) * tree.grid.spacing_mm[2]
    # 10 to 12 cm from cricoid to carina, and what the mask holds of the larynx
    assert 60 < height < 140
    # of 15 to 25 mm across
    assert 120 < tree.trachea.volume_mm3 / height < 500


def test_a_main_bronchus_goes_to_each_side(tree: AirwayTree) -> None:
    children = [tree.branches[number - 1] for number in tree.trachea.children]
    right, left = sorted(children, key=lambda branch: middle_mm(tree, branch)[0])
    carina = np.array(tree.carina_mm)
    assert middle_mm(tree, right)[0] < carina[0] < middle_mm(tree, left)[0]
    for branch in (right, left):
        assert middle_mm(tree, branch)[2] < carina[2]
        assert len(branch.children) >= 2
    # 1 to 4 cm on the right, 4 to 7 cm on the left
    assert 10 < right.length_mm < 45 < left.length_mm < 80


def test_generations_widen_to_the_middle_and_end(tree: AirwayTree) -> None:
    counts = np.bincount([branch.generation for branch in tree.branches])
    assert counts[:2].tolist() == [1, 2]
    assert 4 <= counts[2] <= 6
    assert all(before < after for before, after in pairwise(counts[:6]))
    # CT shows airways to about 2 mm: a mask reaches generation 8 at least and seldom 16
    assert 8 <= len(counts) - 1 <= 16


def test_branches_get_narrower_with_each_generation(tree: AirwayTree) -> None:
    area = [
        np.median([b.volume_mm3 / b.length_mm for b in tree.branches if b.generation == n])
        for n in range(1, 6)
    ]
    assert all(before > after for before, after in pairwise(area))
