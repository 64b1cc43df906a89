"""An annotation on another grid, without labelling anything that nobody has labelled."""

from __future__ import annotations

from math import prod

import numpy as np

from imbalanceseg.annotation.annotation import Annotation, Labels
from imbalanceseg.geometry import Grid
from imbalanceseg.labels import UNLABELLED


def labels_on(annotation: Annotation, grid: Grid) -> Labels:
    """The labels of an annotation on a grid, uint8 ``[z, y, x]``.

    A voxel is labelled where the centre of a labelled voxel of the scan lies in it, and takes the
    label of the nearest one. So a painted slice stays one slice, however fine the grid is, and is
    not lost, however coarse it is.

    Args:
        annotation: of a scan.
        grid: on which the labels are wanted; only what lies in it is looked at.
    """
    shape = grid.size[::-1]
    found = np.full(prod(shape), UNLABELLED, np.uint8)
    nearest = np.full(prod(shape), np.inf, np.float32)
    source = annotation.grid
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in grid.size])).reshape(3, -1).T
    index = source.physical_to_index(grid.index_to_physical(corners))
    start = np.clip(np.floor(index.min(0)), 0, source.size).astype(int)
    stop = np.clip(np.ceil(index.max(0)) + 1, 0, source.size).astype(int)
    x, y = slice(start[0], stop[0]), slice(start[1], stop[1])
    for k in range(start[2], stop[2]):
        plane = annotation.labels[k, y, x]
        rows, columns = np.nonzero(plane != UNLABELLED)
        if not len(rows):
            continue
        voxels = np.stack([columns + start[0], rows + start[1], np.full_like(rows, k)], axis=1)
        place = grid.physical_to_index(source.index_to_physical(voxels))
        # Centres that lie on a border of two voxels fall into the same one everywhere.
        voxel = np.floor(place + 0.5 + 1e-6).astype(np.int64)
        inside = np.all((voxel >= 0) & (voxel < grid.size), axis=1)
        place, voxel = place[inside], voxel[inside]
        flat = np.ravel_multi_index(tuple(voxel.T[::-1]), shape)
        gap = (((place - voxel) * grid.spacing_mm) ** 2).sum(1).astype(np.float32)
        values = plane[rows, columns][inside]
        # The nearest is written last.
        order = np.argsort(-gap, kind="stable")
        flat, gap, values = flat[order], gap[order], values[order]
        closer = gap <= nearest[flat]
        found[flat[closer]], nearest[flat[closer]] = values[closer], gap[closer]
    return found.reshape(shape)
