"""Centrelines of tubular masks, their pieces between junctions, and their length in millimetres.

Points are ``[n, 3]`` arrays of ``z, y, x`` voxel indices; neighbours are 26-neighbours.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import cc3d
import edt
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, zoom
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.spatial import cKDTree

from imbalanceseg.metrics.masks import Mask
from imbalanceseg.metrics.thinning import Points, Spacing, thinned

Numbers = NDArray[np.int64]

MIN_SEGMENT_VOXELS = 5
"""Shorter pieces of centreline between two junctions count as part of the junction."""

# Longer than a step to a 26-neighbour, sqrt(3), and shorter than one to the next voxel but one.
_STEP = 1.8
# A flat end of a tube of radius r grows side lines of up to sqrt(2) r.
_SPUR_RADII = 1.5
_PRUNING_ROUNDS = 10


def largest_component(mask: Mask) -> Mask:
    """The largest 26-connected component; all False when ``mask`` is."""
    if not mask.any():
        return mask.copy()
    return np.asarray(cc3d.largest_k(mask.view(np.uint8), k=1, connectivity=26) > 0)


def filled(mask: Mask) -> Mask:
    """``mask`` with its enclosed cavities filled (background taken as 6-connected)."""
    return np.asarray(binary_fill_holes(mask))


@dataclass(frozen=True, eq=False)
class Centreline:
    """The centreline of a mask, thinned on a grid without long voxels.

    Attributes:
        points: ``[n, 3]``, on a grid that divides each voxel of the mask into whole parts.
        spacing_mm: distance of voxel centres of that grid.
        voxels: ``[n, 3]``, the voxel of the mask that holds each point; may repeat.
    """

    points: Points
    spacing_mm: Spacing
    voxels: Points

    @property
    def point_lengths_mm(self) -> NDArray[np.float64]:
        """The length that each point stands for, see :func:`lengths_mm`."""
        return lengths_mm(self.points, self.spacing_mm)


def centreline(mask: Mask, spacing_mm: Spacing) -> Centreline:
    """The centreline of a tubular mask, one voxel thin, without loops and spurs.

    Thinning (:func:`~.thinning.thinned`) knows voxels, not millimetres: in thick slices it eats a
    trachea from its ends. So voxels at least twice as long as wide are first divided into nearly
    cubic ones, the shape in between interpolated from the distance to the surface. Thinning also
    leaves side lines where a wall bulges: an end piece no longer than 1.5 times the lumen radius
    at its junction does not leave the lumen and is removed. Airways form no loops: where the mask
    has a hole (a strand of mucus, a broken wall) or two airways touch, the line runs around it, and
    of the pieces that close a loop the one with the smallest lumen is removed.

    Args:
        mask: ``[z, y, x]``, without cavities, not empty.
        spacing_mm: distance of voxel centres along the same axes.
    """
    # Odd, because thinning is least sure of lines whose width is even everywhere.
    parts = [2 * int(s / min(spacing_mm) / 2) + 1 for s in spacing_mm]
    z, y, x = (s / n for s, n in zip(spacing_mm, parts, strict=True))
    fine = _divided(mask, parts, spacing_mm)
    radius = edt.edt(fine, anisotropy=(z, y, x), black_border=False, parallel=1)
    points = thinned(fine, radius, (z, y, x))
    voxels = _within(mask, points // parts, spacing_mm)
    for _ in range(_PRUNING_ROUNDS):
        removed = _closing_loops(points, radius[tuple(points.T)])
        if not removed.any():
            removed = _spurs(points, radius[tuple(points.T)], (z, y, x))
        if not removed.any():
            break
        points, voxels = points[~removed], voxels[~removed]
    return Centreline(points, (z, y, x), voxels)


def lengths_mm(points: Points, spacing_mm: Spacing) -> NDArray[np.float64]:
    """The length that each point of a centreline stands for: half of every step to a neighbour.

    Steps are the edges of the minimum spanning tree over neighbours, so the corner of a path is
    not counted twice. A straight line along an axis or a diagonal has its exact length from first
    to last voxel centre; lines in between come out up to 13 % too long, which cancels in a ratio of
    lengths.

    Returns:
        float64 array, ``[n]``.
    """
    if len(points) < 2:
        return np.zeros(len(points))
    pairs = _neighbours(points)
    steps = np.linalg.norm((points[pairs[:, 0]] - points[pairs[:, 1]]) * spacing_mm, axis=1)
    graph = coo_array((steps, (pairs[:, 0], pairs[:, 1])), shape=(len(points), len(points)))
    tree = minimum_spanning_tree(graph.tocsr()).tocoo()
    half = np.bincount(tree.row, tree.data / 2, len(points))
    return np.asarray(half + np.bincount(tree.col, tree.data / 2, len(points)))


def split_at_junctions(points: Points) -> tuple[Numbers, Numbers]:
    """Cut a centreline into segments and junctions.

    A junction point has more than two neighbours. What is left falls into segments; those shorter
    than :data:`MIN_SEGMENT_VOXELS` join the junctions they touch. A line that has no segment as
    long as that is one segment.

    Returns:
        For every point its segment 1..n or 0, and its junction 1..m or 0; each point has one.
    """
    pieces = _components(points, ~_crowded(points))
    long_enough = np.bincount(pieces) >= MIN_SEGMENT_VOXELS
    long_enough[0] = False
    if not long_enough.any():
        return np.ones(len(points), np.int64), np.zeros(len(points), np.int64)
    segments = np.where(long_enough, np.cumsum(long_enough), 0)[pieces]
    return segments, _components(points, segments == 0)


def contacts(points: Points, segments: Numbers, junctions: Numbers) -> NDArray[np.int64]:
    """Pairs (segment, junction) that touch, ``[k, 2]``, each once, sorted."""
    a, b = _neighbours(points).T
    first, second = np.concatenate([a, b]), np.concatenate([b, a])
    touching = (segments[first] > 0) & (junctions[second] > 0)
    pairs = np.stack([segments[first[touching]], junctions[second[touching]]], axis=1)
    return np.unique(pairs.astype(np.int64), axis=0)


def _divided(mask: Mask, parts: list[int], spacing_mm: Spacing) -> Mask:
    """``mask`` with each voxel divided into ``parts``; steps between slices are filled in."""
    if max(parts) == 1:
        return mask
    inside = edt.edt(mask, anisotropy=spacing_mm, black_border=False, parallel=1)
    outside = edt.edt(~mask, anisotropy=spacing_mm, black_border=False, parallel=1)
    smooth = zoom(inside - outside, parts, order=1, mode="nearest", grid_mode=True) > 0
    for axis, count in enumerate(parts):
        mask = np.repeat(mask, count, axis=axis)
    # Interpolation alone would cut branches that hang together by a corner.
    return np.asarray(smooth | mask)


def _within(mask: Mask, voxels: Points, spacing_mm: Spacing) -> Points:
    """``voxels``, those outside ``mask`` moved to the nearest one inside."""
    outside = ~mask[tuple(voxels.T)]
    if outside.any():
        inside = np.argwhere(mask)
        nearest = cKDTree(inside * spacing_mm).query(voxels[outside] * spacing_mm)[1]
        voxels = voxels.copy()
        voxels[outside] = inside[nearest]
    return voxels


def _closing_loops(points: Points, radius: NDArray[np.float32]) -> Mask:
    """Which points belong to pieces whose removal leaves no loop between junctions."""
    crowded = _crowded(points)
    pieces, junctions = _components(points, ~crowded), _components(points, crowded)
    ends: defaultdict[int, list[int]] = defaultdict(list)
    for piece, junction in contacts(points, pieces, junctions).tolist():
        ends[piece].append(junction)
    width = np.bincount(pieces, radius) / np.maximum(np.bincount(pieces), 1)
    joined_to = list(range(int(junctions.max(initial=0)) + 1))

    def group(junction: int) -> int:
        while joined_to[junction] != junction:
            junction = joined_to[junction]
        return junction

    closing = np.zeros(len(width), bool)
    for piece in sorted((p for p in ends if len(ends[p]) == 2), key=lambda p: (-width[p], p)):
        first, second = (group(junction) for junction in ends[piece])
        joined_to[first] = second
        closing[piece] = first == second
    return np.asarray(closing[pieces])


def _spurs(points: Points, radius: NDArray[np.float32], spacing_mm: Spacing) -> Mask:
    """Which points belong to end pieces that do not leave the lumen around their junction."""
    crowded = _crowded(points)
    pieces, junctions = _components(points, ~crowded), _components(points, crowded)
    touching = contacts(points, pieces, junctions)
    length = np.bincount(pieces, lengths_mm(points, spacing_mm))
    is_end = np.bincount(touching[:, 0], minlength=len(length)) == 1
    lumen = np.zeros(int(junctions.max(initial=0)) + 1)
    np.maximum.at(lumen, junctions, radius)
    at_junction: defaultdict[int, list[int]] = defaultdict(list)
    for piece, junction in touching:
        at_junction[int(junction)].append(int(piece))
    spur = np.zeros(len(length), bool)
    for junction, members in at_junction.items():
        short = [p for p in members if is_end[p] and length[p] <= _SPUR_RADII * lumen[junction]]
        # Where nothing longer arrives, the longest end piece is the line itself.
        if len(short) == len(members):
            short.remove(max(short, key=lambda p: length[p]))
        spur[short] = True
    return np.asarray(spur[pieces])


def _neighbours(points: Points) -> NDArray[np.int64]:
    """Index pairs of neighbouring points, ``[k, 2]``."""
    if len(points) < 2:
        return np.zeros((0, 2), np.int64)
    return np.asarray(cKDTree(points).query_pairs(_STEP, output_type="ndarray"))


def _crowded(points: Points) -> Mask:
    """Which points have more than two neighbours."""
    return np.asarray(np.bincount(_neighbours(points).ravel(), minlength=len(points)) > 2)


def _components(points: Points, chosen: Mask) -> Numbers:
    """Numbers 1..n of the connected components of the chosen points, 0 elsewhere."""
    numbers = np.zeros(len(points), np.int64)
    part = points[chosen]
    if len(part):
        pairs = _neighbours(part)
        graph = coo_array(
            (np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(part), len(part))
        )
        numbers[chosen] = connected_components(graph, directed=False)[1] + 1
    return numbers
