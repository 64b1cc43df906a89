"""Boxes of voxels, as indices of arrays ``[k, j, i]``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from imbalanceseg.annotation.annotation import ConfirmedSlice
from imbalanceseg.geometry import Grid

Index = tuple[int, int, int]
Window = tuple[slice, slice, slice]


def confirmedMask(
    confirmed: Iterable[ConfirmedSlice], shape: Index, window: Window | None = None
) -> np.ndarray:
    """Where the voxels of a box lie in finished slices.

    Args:
        confirmed: the finished slices.
        shape: of the volume, ``[k, j, i]``.
        window: the box; None for the whole volume.

    Returns:
        bool ``[k, j, i]``.
    """
    window = window or (slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2]))
    found = np.zeros(sizeOf(window)[::-1], bool)
    for one in confirmed:
        axis = 2 - one.axis
        at = one.index - window[axis].start
        if 0 <= at < found.shape[axis]:
            found[planeAt(one.axis, at)] = True
    return found


def planeAt(axis: int, index: int) -> tuple[slice | int, ...]:
    """A slice as an index of ``[k, j, i]``."""
    return tuple(index if axis == 2 - n else slice(None) for n in range(3))


def slabAt(axis: int, index: int, shape: Index) -> Window:
    """A slice as a box that is one voxel thick.

    Args:
        axis: index axis that the slice is normal to: 0 i, 1 j, 2 k.
        index: along it.
        shape: of the volume, ``[k, j, i]``.
    """
    window = [slice(0, size) for size in shape]
    window[2 - axis] = slice(index, index + 1)
    return window[0], window[1], window[2]


def ballAround(grid: Grid, pointMm: Sequence[float], radiusMm: float) -> tuple[Window, np.ndarray]:
    """The voxels that a click means: those of a ball, and at least the one it lies in.

    Args:
        grid: of the volume.
        pointMm: LPS, inside the volume.
        radiusMm: of the ball, in mm.

    Returns:
        A box as an index of ``[k, j, i]``, and where in it the ball is.
    """
    centre = grid.physical_to_index(pointMm)
    reach = radiusMm / np.asarray(grid.spacing_mm) + 1
    low = np.clip(np.floor(centre - reach), 0, grid.size).astype(int)
    high = np.clip(np.ceil(centre + reach) + 1, 0, grid.size).astype(int)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    x, y, z = (
        (np.arange(part.start, part.stop) - at) * step
        for part, at, step in zip((i, j, k), centre, grid.spacing_mm, strict=True)
    )
    ball = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 <= radiusMm**2
    nearest = np.clip(np.rint(centre), 0, np.asarray(grid.size) - 1).astype(int)
    ball[tuple((nearest - low)[::-1])] = True
    return (k, j, i), ball


def unionOf(first: Window, second: Window) -> Window:
    """The smallest box that holds two boxes."""
    k, j, i = (
        slice(min(a.start, b.start), max(a.stop, b.stop))
        for a, b in zip(first, second, strict=True)
    )
    return k, j, i


def within(inner: Window, outer: Window) -> Window:
    """A box as an index of a box around it."""
    k, j, i = (
        slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, outer, strict=True)
    )
    return k, j, i


def startOf(window: Window) -> Index:
    """First voxel of a box (i, j, k)."""
    k, j, i = window
    return i.start, j.start, k.start


def sizeOf(window: Window) -> Index:
    """Voxels of a box along i, j, k."""
    k, j, i = window
    return i.stop - i.start, j.stop - j.start, k.stop - k.start
