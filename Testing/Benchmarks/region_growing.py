"""Airway segmentation by region growing, the classical method a network is compared with.

A seed in the trachea is found without help. The region of connected voxels below a threshold grows
from it; the threshold rises until the region explodes into the lung, and the last one before that
is taken (Mori et al., IEEE TMI 2000).

    python Testing/Benchmarks/region_growing.py IMAGE [--reference MASK] [-o LABELS]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from imbalanceseg.geometry import Grid, resample
from imbalanceseg.io import read_image, write_image
from imbalanceseg.metrics.evaluate import evaluate
from imbalanceseg.preprocessing.trachea import tracheal_column

LOWEST_HU = -32768
FIRST_HU, LAST_HU, STEP_HU = -970, -700, 10
# Airways of an adult down to where CT shows them hold 40 to 150 ml; a lung holds litres.
MAX_VOLUME_MM3 = 300_000.0
# One step adds at most an airway that noise had cut off, or the larynx; a leak adds lung.
MAX_GAIN_MM3 = 30_000.0


class NoTracheaError(Exception):
    """No round column of air runs down from the top of the image."""


@dataclass(frozen=True)
class RegionGrown:
    """What region growing found.

    Attributes:
        labels: uint8 image on the grid of the CT, 1 in the airways.
        threshold: highest HU included.
        seed: index (i, j, k) in the trachea.
        volumes_mm3: volume of the region at each threshold that was tried.
    """

    labels: sitk.Image
    threshold: int
    seed: tuple[int, int, int]
    volumes_mm3: dict[int, float]


def grow_airways(ct: sitk.Image) -> RegionGrown:
    """Segment the airways of a chest CT in HU.

    Raises:
        NoTracheaError: no seed was found.
    """
    grid = Grid.of(ct)
    upright = resample(ct, grid.oriented_lps(), "nearest")
    seed = trachea_seed(upright)
    volumes: dict[int, float] = {}
    best = first = FIRST_HU
    for threshold in range(FIRST_HU, LAST_HU, STEP_HU):
        if _exploded(upright, seed, threshold, best, volumes):
            first = threshold - STEP_HU + 1
            break
        best = threshold
    for threshold in range(first, min(first + STEP_HU - 1, LAST_HU)):
        if _exploded(upright, seed, threshold, best, volumes):
            break
        best = threshold
    region = _closed(_grown(upright, seed, best))
    index = ct.TransformPhysicalPointToIndex(upright.TransformIndexToPhysicalPoint(seed))
    return RegionGrown(resample(region, grid, "nearest"), best, index, volumes)


def trachea_seed(upright: sitk.Image) -> tuple[int, int, int]:
    """An index in the trachea: the darkest voxel half way down its column of air."""
    column = tracheal_column(upright)
    if column is None:
        raise NoTracheaError("no round column of air runs down from the top of the image")
    inside = sitk.GetArrayViewFromImage(column) > 0
    slices = np.flatnonzero(inside.any(axis=(1, 2)))
    k = slices[len(slices) // 2]
    values = sitk.GetArrayViewFromImage(upright)[k]
    j, i = np.unravel_index(np.where(inside[k], values, np.inf).argmin(), values.shape)
    return int(i), int(j), int(k)


def _grown(upright: sitk.Image, seed: tuple[int, int, int], threshold: int) -> sitk.Image:
    return sitk.ConnectedThreshold(
        upright, seedList=[seed], lower=LOWEST_HU, upper=threshold, replaceValue=1
    )


def _exploded(
    upright: sitk.Image,
    seed: tuple[int, int, int],
    threshold: int,
    best: int,
    volumes: dict[int, float],
) -> bool:
    region = _grown(upright, seed, threshold)
    volume = float(np.count_nonzero(sitk.GetArrayViewFromImage(region))) * float(
        np.prod(upright.GetSpacing())
    )
    before = volumes.get(best, volume)
    volumes[threshold] = volume
    return volume > MAX_VOLUME_MM3 or volume - before > MAX_GAIN_MM3


def _closed(region: sitk.Image) -> sitk.Image:
    """Fill single dark spots of noise and enclosed cavities."""
    return sitk.BinaryFillhole(sitk.BinaryMorphologicalClosing(region, [1, 1, 1]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Segment airways in a chest CT by region growing.")
    parser.add_argument("image", type=Path, help="CT file, or folder with one DICOM series")
    parser.add_argument("--reference", type=Path, help="airway mask to compare with")
    parser.add_argument("-o", "--output", type=Path, help="where to write the labels")
    arguments = parser.parse_args()
    ct = read_image(arguments.image)
    found = grow_airways(ct)
    print(f"seed {found.seed}, threshold {found.threshold} HU")
    for threshold, volume in sorted(found.volumes_mm3.items()):
        print(f"  {threshold} HU: {volume / 1000:.1f} ml")
    if arguments.reference:
        figures = evaluate(found.labels, read_image(arguments.reference), ("dice", "airway"))
        print("  ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    if arguments.output:
        write_image(found.labels, arguments.output)


if __name__ == "__main__":
    main()
