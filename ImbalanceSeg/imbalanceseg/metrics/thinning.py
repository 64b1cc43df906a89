"""Thin a mask to a line that reaches into every part of it."""

from __future__ import annotations

from itertools import product

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from skimage.morphology import skeletonize

from imbalanceseg.metrics.masks import Mask

Points = NDArray[np.int64]
Spacing = tuple[float, float, float]

_ROUNDS = 6
# A line that ends a radius before a flat end leaves its rim at sqrt(2) radii; lumens are not round.
_REACH_RADII = 2.0
_REACH_VOXELS = 5.0
_AROUND_VOXELS = 6
_DIRECTIONS = [np.array(d) for d in product((-1, 0, 1), repeat=3) if any(d)]


def thinned(mask: Mask, radius: NDArray[np.float32], spacing_mm: Spacing) -> Points:
    """The medial line of a mask by topological thinning (Lee, Kashyap and Chu 1994).

    scikit-image's thinning can eat a straight tube whose width is an even number of voxels from
    its end, wholly or in part. Where the line stays out of a part of the mask, a feeler one voxel
    wide is put on the far end of that part, which thinning cannot remove, and the mask is thinned
    again.

    Args:
        mask: ``[z, y, x]``, not empty.
        radius: distance to the surface in mm at each voxel of ``mask``.
        spacing_mm: distance of voxel centres along the same axes.

    Returns:
        Points, ``[n, 3]``, n >= 1, in index order.
    """
    roomy = np.pad(mask, 2)
    inside = np.argwhere(mask)
    for _ in range(_ROUNDS):
        line = skeletonize(np.ascontiguousarray(roomy))[2:-2, 2:-2, 2:-2] & mask
        points = np.argwhere(line)
        if not len(points):
            widest = np.unravel_index(int(radius.argmax()), mask.shape)
            points = np.array([widest], dtype=np.int64)
        ends = _ends_not_reached(mask, inside, points, radius, spacing_mm)
        if not sum(_put_feeler(roomy, end + 2) for end in ends):
            break
    return points


def _ends_not_reached(
    mask: Mask, inside: Points, points: Points, radius: NDArray[np.float32], spacing_mm: Spacing
) -> list[Points]:
    """The farthest voxel of every part of the mask that the line stays out of."""
    distance, nearest = cKDTree(points * spacing_mm).query(inside * spacing_mm)
    reach = _REACH_RADII * radius[tuple(points.T)] + _REACH_VOXELS * max(spacing_mm)
    far = distance > reach[nearest]
    if not far.any():
        return []
    parts = np.zeros(mask.shape, bool)
    parts[tuple(inside[far].T)] = True
    numbers = cc3d.connected_components(parts, connectivity=26)[tuple(inside[far].T)]
    order = np.argsort(-distance[far], kind="stable")
    first = order[np.unique(numbers[order], return_index=True)[1]]
    ends = []
    for end, gap in zip(inside[far][first], distance[far][first], strict=True):
        # Beside a wide lumen the nearest point of the line may be one near its wall.
        around = tuple(slice(max(0, c - _AROUND_VOXELS), c + _AROUND_VOXELS + 1) for c in end)
        if gap > _REACH_RADII * radius[around].max() + _REACH_VOXELS * max(spacing_mm):
            ends.append(end)
    return ends


def _put_feeler(roomy: Mask, end: Points) -> bool:
    """Extend the mask by two voxels of which the outer one touches nothing but the inner one."""
    for direction in _DIRECTIONS:
        inner, outer = end + direction, end + 2 * direction
        around = tuple(slice(max(0, c - 1), c + 2) for c in outer)
        if not roomy[tuple(inner)] and not roomy[around].any():
            roomy[tuple(inner)] = roomy[tuple(outer)] = True
            return True
    return False
