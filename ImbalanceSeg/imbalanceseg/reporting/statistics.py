"""Figures of each segment of a result: how much, how many pieces, where, how sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from imbalanceseg.geometry import Grid
from imbalanceseg.labels import SegmentInfo


@dataclass(frozen=True)
class SegmentStatistics:
    """Figures of one segment.

    Attributes:
        label: voxel value of the segment.
        name: its name.
        voxels: number of voxels.
        volume_ml: their volume in millilitres.
        components: number of 26-connected pieces.
        bounding_box_lps_mm: lowest and highest LPS coordinate in mm over the voxels' outer
            borders, or None when the segment is empty.
        mean_hardness: mean of the hardness map over the shell, the voxels within one step on either
            side of the segment's surface; None without a hardness map or without voxels.
    """

    label: int
    name: str
    voxels: int
    volume_ml: float
    components: int
    bounding_box_lps_mm: tuple[tuple[float, ...], tuple[float, ...]] | None
    mean_hardness: float | None


def segment_statistics(
    labels: sitk.Image, segments: Sequence[SegmentInfo], hardness: sitk.Image | None = None
) -> tuple[SegmentStatistics, ...]:
    """Figures of every segment in ``segments``, empty ones included.

    Args:
        labels: integer 3D image of label values.
        segments: what the label values mean.
        hardness: float image in [0, 1] on the same grid, or None.
    """
    array = sitk.GetArrayViewFromImage(labels)
    map_array = None if hardness is None else sitk.GetArrayViewFromImage(hardness)
    grid = Grid.of(labels)
    return tuple(_one_segment(array, grid, segment, map_array) for segment in segments)


def _one_segment(
    array: np.ndarray, grid: Grid, segment: SegmentInfo, hardness: np.ndarray | None
) -> SegmentStatistics:
    box = bounding_slices(array == segment.label)
    if box is None:
        return SegmentStatistics(segment.label, segment.name, 0, 0.0, 0, None, None)
    import cc3d

    mask = array[box] == segment.label
    voxels = int(mask.sum())
    return SegmentStatistics(
        label=segment.label,
        name=segment.name,
        voxels=voxels,
        volume_ml=voxels * float(np.prod(grid.spacing_mm)) / 1000.0,
        components=int(cc3d.connected_components(mask, connectivity=26, return_N=True)[1]),
        bounding_box_lps_mm=_corners_lps(box, grid),
        mean_hardness=None
        if hardness is None
        else _shell_mean(array, segment.label, box, hardness),
    )


def bounding_slices(mask: np.ndarray) -> tuple[slice, ...] | None:
    """The smallest box ``(z, y, x)`` that holds every true voxel, or None when there is none."""
    slices = []
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        if hit.size == 0:
            return None
        slices.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(slices)


def _corners_lps(box: tuple[slice, ...], grid: Grid) -> tuple[tuple[float, ...], tuple[float, ...]]:
    edges = [(s.start - 0.5, s.stop - 0.5) for s in reversed(box)]
    corners = np.array(np.meshgrid(*edges, indexing="ij")).reshape(3, -1).T
    points = grid.index_to_physical(corners)
    low, high = points.min(axis=0), points.max(axis=0)
    return tuple(round(float(v), 2) for v in low), tuple(round(float(v), 2) for v in high)


def _shell_mean(
    array: np.ndarray, label: int, box: tuple[slice, ...], hardness: np.ndarray
) -> float:
    from scipy.ndimage import binary_dilation, binary_erosion

    wider = tuple(
        slice(max(s.start - 1, 0), min(s.stop + 1, n))
        for s, n in zip(box, array.shape, strict=True)
    )
    mask = array[wider] == label
    shell = binary_dilation(mask) & ~binary_erosion(mask)
    return float(hardness[wider][shell].mean(dtype=np.float64))
