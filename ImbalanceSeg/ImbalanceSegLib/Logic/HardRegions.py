"""Where the hardness map says that a result is fragile, as a list of places to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

VISIBLE = 0.1
"""Hardness below this, weighed by how much it matters, belongs to no region."""
HARD = 0.25
"""A region holds at least one voxel of this hardness, weighed likewise."""
NEAR_MM = 10.0
"""Standard deviation of the Gaussian by which hardness fades with the distance from what was found.
"""
DOUBTFUL, LIKELY = 0.1, 0.5
"""Far from what was found, hardness counts from the one value on, and fully from the other."""
MOST = 50
"""Regions in a list, the hardest ones."""

_BLOCK_MM = 3.0
_LEAST_BLOCKS = 32
_RADIUS_MM = 15.0
_SLAB_VOXELS = 1 << 22


@dataclass(frozen=True)
class HardRegion:
    """A place where the result is fragile.

    Attributes:
        centreIJK: voxel in the middle of the region's hardness, itself hard.
        volumeMm3: of its hard voxels.
        meanHardness: of its hard voxels, in [0, 1].
        distanceMm: from the nearest voxel that was found, to within a few mm; infinite where
            nothing was found at all.
    """

    centreIJK: tuple[int, int, int]
    volumeMm3: float
    meanHardness: float
    distanceMm: float


def hardRegions(
    hardness: np.ndarray, labels: np.ndarray, spacing: Sequence[float]
) -> list[HardRegion]:
    """Connected regions of high hardness, near what was found or likely to be a structure.

    A long region, such as the wall of a whole tree, is divided into places about 30 mm across, so
    that each of them can be looked at in one view.

    Args:
        hardness: ``[k, j, i]``, in [0, 1]; what is not a finite number counts as 0.
        labels: ``[k, j, i]``, 0 where nothing was found.
        spacing: in mm, along i, j and k.

    Returns:
        Regions, ranked by hardness times volume; at most :data:`MOST`.

    Raises:
        ValueError: the two arrays differ in shape.
    """
    if hardness.shape != labels.shape:
        raise ValueError(f"hardness {hardness.shape} and labels {labels.shape} differ in shape")
    blocks = _Blocks(hardness.shape, spacing[::-1])
    distance = _distances(blocks.holding(labels), blocks.stepsMm)
    near = np.exp(-0.5 * (distance / NEAR_MM) ** 2).ravel()
    hard = _HardBlocks(hardness, blocks, near)
    regions = []
    for seed, members in _places(hard, blocks):
        voxels = hard.voxels[members].sum()
        regions.append(
            HardRegion(
                centreIJK=hard.hardestVoxel(seed),
                volumeMm3=float(voxels * blocks.voxelMm3),
                meanHardness=float(hard.hardness[members].sum() / voxels),
                distanceMm=float(distance.flat[seed]),
            )
        )
    return regions


class _Blocks:
    """A grid of blocks of voxels, small enough to work on at leisure."""

    def __init__(self, voxels: tuple[int, ...], spacing: Sequence[float]) -> None:
        self.factors = tuple(
            max(1, min(round(_BLOCK_MM / step), size // _LEAST_BLOCKS))
            for size, step in zip(voxels, spacing, strict=True)
        )
        self.shape = tuple(
            -(-size // factor) for size, factor in zip(voxels, self.factors, strict=True)
        )
        self.stepsMm = np.multiply(self.factors, spacing)
        self.voxelMm3 = float(np.prod(spacing))

    def holding(self, labels: np.ndarray) -> np.ndarray:
        """Which blocks hold a label."""
        deep, high, wide = self.factors
        held = np.zeros(self.shape, bool)
        rows, columns = range(0, labels.shape[1], high), range(0, labels.shape[2], wide)
        for n in range(self.shape[0]):
            plane = (labels[n * deep : (n + 1) * deep] != 0).any(axis=0)
            held[n] = np.logical_or.reduceat(
                np.logical_or.reduceat(plane, rows, axis=0), columns, axis=1
            )
        return held

    def slabs(self, values: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Some layers of blocks at a time: number of the first block, the voxels, and for each
        voxel by how much the number of its block is higher.
        """
        deep = self.factors[0]
        layers = min(self.shape[0], max(1, _SLAB_VOXELS // (deep * values[0].size)))
        k, j, i = (
            np.arange(size, dtype=np.int32) // factor
            for size, factor in zip((layers * deep, *values.shape[1:]), self.factors, strict=True)
        )
        offsets = (k[:, None, None] * self.shape[1] + j[:, None]) * self.shape[2] + i
        layer = self.shape[1] * self.shape[2]
        for first in range(0, self.shape[0], layers):
            slab = values[first * deep : (first + layers) * deep]
            yield first * layer, slab.ravel(), offsets[: len(slab)].ravel()


class _HardBlocks:
    """What each block holds of hardness that matters; flat arrays, one value a block."""

    def __init__(self, hardness: np.ndarray, blocks: _Blocks, near: np.ndarray) -> None:
        self._map, self._blocks = hardness, blocks
        self.amount, self.hardness = np.zeros(near.size), np.zeros(near.size)
        self.voxels, self.peaks = np.zeros(near.size, int), np.zeros(near.size, int)
        for first, slab, offsets in blocks.slabs(hardness):
            at = np.flatnonzero((slab >= VISIBLE) & (slab < np.inf))
            block, values = offsets[at], np.minimum(slab[at], 1)
            doubt = np.clip((values - DOUBTFUL) / (LIKELY - DOUBTFUL), 0, 1)
            weighed = values * np.maximum(near[first + block], doubt)
            counts = weighed >= VISIBLE
            block, values, weighed = block[counts], values[counts], weighed[counts]
            part = slice(first, first + int(block.max(initial=-1)) + 1)
            self.amount[part] += np.bincount(block, weighed)
            self.hardness[part] += np.bincount(block, values)
            self.voxels[part] += np.bincount(block)
            self.peaks[part] += np.bincount(block[weighed >= HARD], minlength=part.stop - first)

    def hardestVoxel(self, block: int) -> tuple[int, int, int]:
        """Index i, j, k of the hardest voxel of a block."""
        corner = np.multiply(np.unravel_index(block, self._blocks.shape), self._blocks.factors)
        window = tuple(slice(a, a + n) for a, n in zip(corner, self._blocks.factors, strict=True))
        values = np.nan_to_num(self._map[window], nan=0.0, posinf=0.0, neginf=0.0)
        k, j, i = corner + np.unravel_index(values.argmax(), values.shape)
        return int(i), int(j), int(k)


def _distances(found: np.ndarray, stepsMm: np.ndarray) -> np.ndarray:
    """Of each block from the nearest that was found, in mm; infinite where none was."""
    if not found.any():
        return np.full(found.shape, np.inf, np.float32)
    return ndimage.distance_transform_edt(~found, sampling=stepsMm).astype(np.float32)


def _places(hard: _HardBlocks, blocks: _Blocks) -> list[tuple[int, np.ndarray]]:
    """Middle and members of each region, as numbers of blocks; the hardest region first."""
    parts = ndimage.label(hard.voxels.reshape(blocks.shape) > 0, np.ones((3, 3, 3)))[0].ravel()
    amounts = np.bincount(parts, hard.amount)
    amounts[np.bincount(parts, hard.peaks) == 0] = 0
    amounts[0] = 0
    best = [part for part in np.argsort(-amounts)[:MOST] if amounts[part]]
    smooth = ndimage.uniform_filter(hard.amount.reshape(blocks.shape), 3, mode="constant").ravel()
    places = []
    for part in best:
        members = np.flatnonzero(parts == part)
        members = members[np.argsort(-smooth[members], kind="stable")]
        places += [place for place in _divided(members, blocks) if hard.peaks[place[1]].any()]
    places.sort(key=lambda place: -hard.amount[place[1]].sum())
    return places[:MOST]


def _divided(members: np.ndarray, blocks: _Blocks) -> Iterator[tuple[int, np.ndarray]]:
    """Parts of a region that are at most 30 mm across, begun where it is hardest.

    Args:
        members: numbers of its blocks, the hardest first.
        blocks: that they belong to.
    """
    where = np.transpose(np.unravel_index(members, blocks.shape)) * blocks.stepsMm
    whole = np.ptp(where, axis=0).max() <= 2 * _RADIUS_MM
    for _ in range(MOST):
        if not members.size:
            return
        taken = whole | (np.linalg.norm(where - where[0], axis=1) <= _RADIUS_MM)
        yield int(members[0]), members[taken]
        members, where = members[~taken], where[~taken]
