"""Leaks of an airway segmentation into the lung, told by airways that suddenly get wider."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import (
    breadth_first_order,
    connected_components,
    dijkstra,
    minimum_spanning_tree,
)

Mask = NDArray[np.bool_]
_Numbers = NDArray[np.signedinteger]
_Reals = NDArray[np.float64]

_BAND_MM = 2.5
_LOOK_BACK_MM = 15.0
# In 24 segmentations of 8 real trees no front of this area is more than 3 times as wide as the
# narrowest passage before it, and smaller ones up to 4.4 times; a leak of 1 ml has fronts of
# 140 mm2.
_LEAST_AREA_MM2 = 60.0
_WIDENING = 5.0
# From a leak towards the root, the first passage that is nearly as narrow as the narrowest.
_TO_NECK = 1.5
# A neck shorter than a band is in one front with the airway it leaves, which goes on.
_AIRWAY_MM = 10.0

# One of each two opposite directions to the voxels that share a corner
_OFFSETS = np.array([o for o in product((-1, 0, 1), repeat=3) if o > (0, 0, 0)])


def leaks(voxels: _Numbers, root: Mask, spacing_mm: tuple[float, float, float]) -> Mask:
    """What lies behind a neck and is much wider than it, as no part of an airway is.

    A wave runs from the root through the airway. Every 2.5 mm of it falls apart into fronts, one
    an airway, whose area is their volume by their thickness. Fronts hang together as a tree by
    the widest passages from the root, so that a strand across an airway, or a hole between two
    of them, does not make a neck. A front is a leak when it is wider than 60 mm2 and than 5 times
    the narrowest passage (mean of two neighbours) of the last 15 mm; it is cut off at that
    passage, or where it leaves an airway that goes on, with all that hangs on it. Passages less
    than 15 mm from the root are no necks.

    Args:
        voxels: ``[N, 3]`` places ``(z, y, x)`` of airway and root, in the order of the array.
        root: ``[N]``, where the wave starts, the trachea.
        spacing_mm: along the array's axes.

    Returns:
        ``[N]``, what to remove; never of ``root``, nor what does not hang on it. Time and memory
        follow the number of voxels.

    Source: that a front which explodes shows a leak is from region growing by wave fronts,
    Schlathölter et al., Proc. SPIE 4684, 2002; bands, passages and limits are ours.
    """
    if not root.any() or root.all():
        return np.zeros(len(voxels), np.bool_)
    fronts = _fronts(voxels, root, np.asarray(spacing_mm, np.float64))
    return _behind_necks(fronts)[fronts.of_voxel]


@dataclass(frozen=True)
class _Fronts:
    """The fronts of a wave; front 0 is the root.

    Attributes:
        of_voxel: number of the front of each voxel.
        band: how many bands the front is from the root; -1 where the wave does not come.
        area_mm2: volume of the front by the thickness of a band.
        parent: the front it hangs on; negative for the root and where the wave does not come.
        passage_mm2: width of the passage from the parent.
        order: all that hang on the root, each after its parent.
    """

    of_voxel: _Numbers
    band: _Numbers
    area_mm2: _Reals
    parent: _Numbers
    passage_mm2: _Reals
    order: _Numbers


def _fronts(voxels: _Numbers, start: Mask, spacing: _Reals) -> _Fronts:
    first, second, way = _neighbours(voxels)
    count = len(voxels)
    length = np.linalg.norm(_OFFSETS * spacing, axis=1)
    distance = dijkstra(
        csr_matrix((length[way], (first, second)), (count, count)),
        directed=False,
        indices=np.flatnonzero(start),
        min_only=True,
    )
    reached = np.isfinite(distance)
    bands = np.full(count, -1)
    bands[reached] = np.ceil(distance[reached] / _BAND_MM)
    within = bands[first] == bands[second]
    ones = np.ones(np.count_nonzero(within), np.bool_)
    joined = csr_matrix((ones, (first[within], second[within])), (count, count))
    of_voxel = connected_components(joined, directed=False)[1] + 1
    of_voxel[start] = 0
    of_voxel = np.unique(of_voxel, return_inverse=True)[1]
    band = np.zeros(of_voxel.max() + 1, np.int64)
    band[of_voxel] = bands
    area = np.bincount(of_voxel) * spacing.prod() / _BAND_MM
    steps = np.abs(_OFFSETS)
    # Contacts through edges and corners only count for next to nothing.
    face = np.where(steps.sum(axis=1) == 1, spacing.prod() / (steps @ spacing), 1e-6)
    across = ~within
    touching = np.sort([of_voxel[first[across]], of_voxel[second[across]]], axis=0)
    # Summed over all pairs of voxels of two fronts, this is the area by which they touch.
    contacts = coo_matrix((face[way[across]], tuple(touching)), (len(area), len(area)))
    return _Fronts(of_voxel, band, area, *_widest_tree(contacts.tocsr().tocoo(), area))


def _neighbours(voxels: _Numbers) -> tuple[_Numbers, _Numbers, _Numbers]:
    """Numbers of two voxels that share a corner, each pair once, and which offset they have."""
    # Room on both sides keeps the end of a row from being the neighbour of the next one.
    shape = voxels.max(axis=0) + 3
    places = np.ravel_multi_index(tuple((voxels + 1).T), tuple(shape))
    pairs = []
    for number, ahead in enumerate(_OFFSETS @ (shape[1] * shape[2], shape[2], 1)):
        at = np.minimum(np.searchsorted(places, places + ahead), len(places) - 1)
        hits = np.flatnonzero(places[at] == places + ahead)
        # Millions of pairs: the narrowest types that hold them
        pairs.append(
            (hits.astype(np.int32), at[hits].astype(np.int32), np.full(len(hits), number, np.int8))
        )
    first, second, way = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return first, second, way


def _widest_tree(contacts: coo_matrix, area: _Reals) -> tuple[_Numbers, _Reals, _Numbers]:
    """Parent of each front and the passage from it, and the fronts in order from the root."""
    width = np.minimum(contacts.data, np.minimum(area[contacts.row], area[contacts.col]))
    # The spanning tree of the smallest 1 / width joins any two fronts by their widest way.
    tree = minimum_spanning_tree(csr_matrix((1 / width, contacts.coords), contacts.shape))
    order, parent = breadth_first_order(tree, 0, directed=False)
    children = order[1:]
    passage = np.full(len(area), np.inf)
    if children.size:
        both_ways = tree + tree.T
        passage[children] = 1 / np.asarray(both_ways[children, parent[children]]).ravel()
    return parent, passage, order


def _behind_necks(fronts: _Fronts) -> Mask:
    """Whether each front is a leak or hangs on one."""
    parent = np.maximum(fronts.parent, 0)
    passage = np.where(fronts.band * _BAND_MM <= _LOOK_BACK_MM, np.inf, fronts.passage_mm2)
    mean = (passage + passage[parent]) / 2
    narrowest = np.full(len(parent), np.inf)
    ancestor = parent
    for _ in range(round(_LOOK_BACK_MM / _BAND_MM)):
        narrowest = np.minimum(narrowest, mean[ancestor])
        ancestor = parent[ancestor]
    exploded = (fronts.area_mm2 > _LEAST_AREA_MM2) & (fronts.area_mm2 > _WIDENING * narrowest)
    calm = _calm_branches(fronts, exploded)
    removed = np.zeros(len(parent), np.bool_)
    for front in np.flatnonzero(exploded):
        limit = _TO_NECK * narrowest[front]
        neck = front
        while passage[neck] > limit and not calm[parent[neck]]:
            neck = parent[neck]
        removed[neck] = True
    for front in fronts.order[1:]:
        removed[front] |= removed[parent[front]]
    return removed


def _calm_branches(fronts: _Fronts, exploded: Mask) -> Mask:
    """Whether an airway of some length springs from each front beside what explodes."""
    calm = ~exploded
    bands = np.ones(len(calm), np.int64)
    found = np.zeros(len(calm), np.bool_)
    for front in fronts.order[:0:-1]:
        parent = fronts.parent[front]
        calm[parent] &= calm[front]
        bands[parent] = max(bands[parent], bands[front] + 1)
        found[parent] |= calm[front] and bands[front] * _BAND_MM >= _AIRWAY_MM
    return found
