"""How far voxels are from some others when every step costs what the intensity changes by.

Raster scans go through a volume along each axis, there and back, plane by plane (Toivanen, Pattern
Recognition Letters 17(5), 1996; Criminisi, Sharp and Blake, GeoS, ECCV 2008). After each they know
every path that turns less; the exact distance is that of Dijkstra's algorithm, as in fast GrowCut
(Zhu et al., 2014), from above.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

PASSES = 1
"""Of six scans each. From painted slices a second one changed the distances by less than 1 % on
average, and the Dice of no development scan by more than 0.008."""


def geodesic_distances(
    values: Tensor,
    seeds: Tensor,
    spacing_mm: Sequence[float],
    per_mm: float,
    passes: int = PASSES,
) -> Tensor:
    """Distances from sets of voxels, float32 ``[M, Z, Y, X]``; infinite from an empty set.

    A step between two of the 26 neighbours costs ``per_mm`` times its length and, added to it, the
    difference of their values, summed over the channels.

    Args:
        values: ``[C, Z, Y, X]``.
        seeds: bool ``[M, Z, Y, X]``, where the distance is 0.
        spacing_mm: along Z, Y and X.
        per_mm: what a mm costs where the values do not change.
        passes: through the volume along each axis, there and back.
    """
    found = torch.zeros(seeds.shape, dtype=torch.float32)
    found[~seeds] = torch.inf
    values = values.float()
    for _ in range(passes):
        for axis in range(3):
            found = _scanned(found, values, axis, spacing_mm, per_mm)
    return found


def _scanned(
    found: Tensor, values: Tensor, axis: int, spacing_mm: Sequence[float], per_mm: float
) -> Tensor:
    """What is known after a scan there and one back along an axis."""
    # Planes that lie in one piece are several times as fast.
    planes = found.movedim(1 + axis, 0).contiguous()
    seen = values.movedim(1 + axis, 0).contiguous()
    rows, columns = planes.shape[2:]
    step, *aside = spacing_mm[axis], *(s for n, s in enumerate(spacing_mm) if n != axis)
    moves = []
    for down, right in product((-1, 0, 1), repeat=2):
        length = (step**2 + (down * aside[0]) ** 2 + (right * aside[1]) ** 2) ** 0.5
        to, of = zip(_overlap(down, rows), _overlap(right, columns), strict=True)
        moves.append(((slice(None), *to), (slice(None), *of), per_mm * length))
    last = len(planes) - 1
    for before, here in [
        *((n, n + 1) for n in range(last)),
        *((n, n - 1) for n in range(last, 0, -1)),
    ]:
        for there, back, least in moves:
            cost = (seen[here][there] - seen[before][back]).abs_().sum(0).add_(least)
            nearer = planes[here][there]
            torch.minimum(nearer, planes[before][back] + cost, out=nearer)
    return planes.movedim(0, 1 + axis)


def _overlap(shift: int, size: int) -> tuple[slice, slice]:
    """Where ``n`` and ``n - shift`` both lie in a row, as slices of both."""
    low, high = max(0, shift), size + min(0, shift)
    return slice(low, high), slice(low - shift, high - shift)
