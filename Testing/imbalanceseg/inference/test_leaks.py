"""A leak goes, and every airway stays."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import cc3d
import edt
import numpy as np
import pytest

from imbalanceseg.geometry import Grid
from imbalanceseg.inference import leaks as module
from imbalanceseg.io import read_image
from imbalanceseg.metrics.masks import foreground, label_values, upright

SHAPE = (80, 60, 60)
zz, yy, xx = np.indices(SHAPE, sparse=True)
UNIT = (1.0, 1.0, 1.0)


def rod(radius: float, low: int, high: int, x: int = 30) -> np.ndarray:
    """A vertical airway, in voxels."""
    return ((yy - 30) ** 2 + (xx - x) ** 2 <= radius**2) & (zz >= low) & (zz < high)


def ball(radius: float, z: int, x: int) -> np.ndarray:
    return (zz - z) ** 2 + (yy - 30) ** 2 + (xx - x) ** 2 <= radius**2


def neck(z: int, low: int, high: int) -> np.ndarray:
    """A horizontal passage of 2 by 2 voxels."""
    return (zz >= z) & (zz < z + 2) & (yy >= 30) & (yy < 32) & (xx >= low) & (xx < high)


TRACHEA = rod(8, 60, 80)
BRONCHUS = rod(8, 50, 60) | rod(2, 5, 50)
LEAK = ball(9, 15, 46)
LEAKY = BRONCHUS | neck(15, 33, 38) | LEAK


def leaks(airway: np.ndarray, root: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """The part of ``airway`` to remove, as a mask."""
    voxels = np.argwhere(airway | root)
    found = np.zeros(airway.shape, bool)
    found[tuple(voxels[module.leaks(voxels, root[tuple(voxels.T)], spacing_mm)].T)] = True
    return found


def test_a_leak_goes_and_the_airway_beyond_it_stays() -> None:
    found = leaks(LEAKY | TRACHEA, TRACHEA, UNIT)
    assert found[LEAK].mean() > 0.99
    assert not found[BRONCHUS | TRACHEA].any()


def test_an_airway_beside_a_neck_shorter_than_a_band_stays() -> None:
    near = ball(12, 25, 46) & ~rod(4, 0, 80)
    found = leaks(BRONCHUS | TRACHEA | near | neck(25, 33, 36), TRACHEA, UNIT)
    assert found[near].mean() > 0.95
    assert not found[rod(2, 5, 20)].any()


def test_an_airway_that_bursts_loses_little() -> None:
    burst = rod(2, 20, 50) | ball(9, 12, 30)
    found = leaks(rod(8, 50, 60) | burst, TRACHEA, UNIT)
    assert found[ball(9, 12, 30) & ~rod(2, 0, 80)].mean() > 0.9
    assert not found[rod(2, 28, 60)].any()


@pytest.mark.parametrize(
    "airway",
    [
        pytest.param(BRONCHUS, id="narrowing"),
        pytest.param(rod(4, 30, 60) | rod(4, 5, 35, x=24) | rod(4, 5, 35, x=36), id="division"),
        pytest.param(rod(8, 5, 60) & ~((zz == 25) & (xx < 30)), id="fold across the lumen"),
        pytest.param(rod(8, 5, 60) | rod(1, 5, 70, x=45) | neck(68, 36, 46), id="duct beside it"),
        pytest.param(rod(2, 20, 60) | rod(4, 5, 20), id="wider, but still narrow"),
        pytest.param(rod(2, 56, 60) | rod(9, 20, 56), id="neck next to the trachea"),
        pytest.param(BRONCHUS | ball(10, 12, 48), id="apart from the rest"),
    ],
)
def test_what_is_no_leak_stays(airway: np.ndarray) -> None:
    assert not leaks(airway | TRACHEA, TRACHEA, UNIT).any()


def test_the_root_need_not_be_part_of_the_airway() -> None:
    found = leaks(LEAKY, TRACHEA, UNIT)
    assert np.array_equal(found, leaks(LEAKY | TRACHEA, TRACHEA, UNIT))


def test_without_root_or_airway_nothing_is_removed() -> None:
    nothing = np.zeros(SHAPE, bool)
    voxel = nothing.copy()
    voxel[3, 4, 5] = True
    for airway, root in (
        (LEAKY, nothing), (nothing, TRACHEA), (nothing, nothing), (voxel, voxel), (voxel, TRACHEA),
        (TRACHEA, voxel),
    ):  # fmt: skip
        assert not leaks(airway, root, UNIT).any()


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_order_of_the_axes_does_not_matter(order: tuple[int, ...]) -> None:
    spacing = (1.0, 1.25, 0.75)
    turned = tuple(spacing[axis] for axis in order)
    expected = leaks(LEAKY, TRACHEA, spacing)
    assert expected.any()
    found = leaks(LEAKY.transpose(order), TRACHEA.transpose(order), turned)
    assert np.array_equal(found, expected.transpose(order))


def test_thick_slices_are_measured_in_mm() -> None:
    """Every third slice, three times as thick: the same airway and the same leak."""
    thick = leaks(LEAKY[::3], TRACHEA[::3], (3.0, 1.0, 1.0))
    assert thick[LEAK[::3]].mean() > 0.95
    assert not thick[BRONCHUS[::3]].any()
    # At a quarter of the size it is no wider than a bronchus.
    assert not leaks(LEAKY, TRACHEA, (0.25, 0.25, 0.25)).any()


@pytest.mark.slow
@pytest.mark.parametrize("patient", [1, 2, 3, 4])
def test_real_trees_stay_whole_and_lose_their_leaks(data_folder: Path, patient: int) -> None:
    name = f"airway_medmpd_masks/patient{patient}_bronchial_tree.nii.gz"
    mask = read_image(data_folder / name)
    (tree,), grid = upright([foreground(label_values(mask, "airway mask"))], Grid.of(mask))
    tree = np.pad(cc3d.largest_k(tree, k=1, connectivity=26) > 0, 20)
    spacing = np.array(grid.spacing_mm[::-1])
    x, y, z = grid.spacing_mm
    root = tree.copy()
    root[: -20 - round(40 / z)] = False
    assert leaks(tree, root, (z, y, x)).sum() <= 0.005 * tree.sum()
    random = np.random.default_rng(patient)
    wall = edt.edt(~tree, anisotropy=spacing) < 1.5
    wide = edt.edt(tree, anisotropy=spacing) >= 2
    thin = np.argwhere(tree & (edt.edt(~wide, anisotropy=spacing) > 3))
    thin = thin[thin[:, 0] < tree.shape[0] / 2]
    cut, lost = [], []
    for volume_ml in (5, 10, 20, 30):
        blob = injected(tree, wall, thin, spacing, volume_ml, random)
        found = leaks(tree | blob, root, (z, y, x))
        cut.append(found[blob].mean() >= 0.9)
        lost.append(found[tree].mean())
    assert sum(cut) >= 3
    assert max(lost) <= 0.02


def injected(
    tree: np.ndarray,
    wall: np.ndarray,
    thin: np.ndarray,
    spacing: np.ndarray,
    volume_ml: float,
    random: np.random.Generator,
) -> np.ndarray:
    """A ball beside a thin airway, behind its wall, and a neck of 2 voxels between them."""
    places = np.indices(tree.shape, sparse=True)
    radius = (3 * volume_ml * 1000 / (4 * np.pi)) ** (1 / 3)
    while True:
        at = random.choice(thin)
        way = random.normal(size=3)
        way /= np.linalg.norm(way)
        middle = at * spacing + way * (radius + 4)
        gaps = (p * step - m for p, step, m in zip(places, spacing, middle, strict=True))
        blob = (sum(gap**2 for gap in gaps) <= radius**2) & ~wall
        if blob.sum() * spacing.prod() < 700 * volume_ml:
            continue
        blob = cc3d.largest_k(blob, k=1, connectivity=6) > 0
        passage = np.zeros_like(tree)
        for distance in np.arange(0, 10, 0.25):
            first = np.round(at + way * distance / spacing).astype(int)
            voxels = tuple(slice(n, n + 2) for n in first)
            passage[voxels] = True
            if blob[voxels].any():
                return (blob | passage) & ~tree
