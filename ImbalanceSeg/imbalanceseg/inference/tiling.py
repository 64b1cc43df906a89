"""Where tiles lie in a volume: as few voxels as possible, and only where they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod

import numpy as np
from numpy.typing import NDArray

_MOST_PER_AXIS = 8
"""More tiles along an axis only shrink them further."""
_MOST_TRIED = 40
_TILE_VOXELS = 20_000
"""What every tile costs besides its own voxels, counted in voxels."""

Sides = tuple[int, ...]


@dataclass(frozen=True)
class Tile:
    """A part of a volume that a network sees at once.

    Attributes:
        seen: what the network is given.
        kept: the part of it that does not feel the tile's borders.
    """

    seen: tuple[slice, ...]
    kept: tuple[slice, ...]

    @property
    def sides(self) -> Sides:
        """Of what the network is given."""
        return tuple(span.stop - span.start for span in self.seen)


@dataclass(frozen=True)
class Needed:
    """The cells of a volume in which something may be found.

    Attributes:
        cells: True where a cell is needed.
        cell: sides of a cell in voxels; the last ones may reach beyond the volume.
    """

    cells: NDArray[np.bool_]
    cell: Sides


def overlapping_tiles(shape: Sides, sides: Sides, overlap: float) -> list[Tile]:
    """Tiles that share part of each side with the next, for networks that depend on the tile.

    Such a network says something else of a voxel in another tile, so the tiles are those that its
    figures were measured with: MONAI's sliding window lays the same.

    Args:
        shape: of the volume, at least ``sides``.
        sides: of every tile.
        overlap: share of a tile, along each axis, that its neighbour covers too.
    """
    spans = []
    for n, side in zip(shape, sides, strict=True):
        step = side if n == side else max(1, int(side * (1 - overlap)))
        starts = [min(start, n - side) for start in range(0, n - side + step, step)]
        spans.append([slice(start, start + side) for start in starts])
    return [Tile(seen, seen) for seen in product(*spans)]


def fewest_tiles(
    shape: Sides,
    margin: Sides,
    multiples: Sides,
    most_voxels: int,
    needed: Needed | None = None,
) -> list[Tile]:
    """Tiles of one size that cover a volume, or the needed part of it, in as few voxels as can be.

    Args:
        shape: of the volume; every side a multiple.
        margin: voxels at a tile's border, along each axis, that are computed but not kept, except
            where the volume ends too.
        multiples: what the sides of a tile must be multiples of; tiles begin at multiples too, so
            that all of them pool the same voxels together.
        most_voxels: of a tile; when even the smallest useful tile has more, that one is taken.
        needed: what some tile must keep; all of the volume when None.
    """
    where = needed or Needed(np.ones((1,) * len(shape), bool), shape)
    best: list[Tile] = []
    fewest = 0
    for least, sides in _candidates(shape, margin, multiples, most_voxels):
        if best and needed is None and least >= fewest:
            break
        tiles = list(_cover(shape, sides, margin, multiples, where))
        voxels = len(tiles) * (prod(sides) + _TILE_VOXELS)
        if not best or voxels < fewest:
            best, fewest = tiles, voxels
    return best


def where_needed(tiles: Sequence[Tile], needed: Needed | None) -> list[Tile]:
    """The tiles that keep some of what is needed."""
    if needed is None:
        return list(tiles)
    return [
        tile
        for tile in tiles
        if needed.cells[
            tuple(
                slice(span.start // side, ceil(span.stop / side))
                for span, side in zip(tile.kept, needed.cell, strict=True)
            )
        ].any()
    ]


def _candidates(
    shape: Sides, margin: Sides, multiples: Sides, most_voxels: int
) -> list[tuple[int, Sides]]:
    """Sides of tiles with the voxels that it takes to cover everything with them, best first."""
    per_axis = []
    for n, m, multiple in zip(shape, margin, multiples, strict=True):
        counted: dict[int, int] = {}
        for count in range(1, _MOST_PER_AXIS + 1):
            side = min(_up(ceil((n + 2 * m * (count - 1)) / count), multiple), n)
            if side == n or side >= 2 * m + 2 * multiple:
                counted.setdefault(side, count)
        per_axis.append(list(counted.items()))
    found = []
    for choice in product(*per_axis):
        sides = tuple(side for side, _ in choice)
        tiles = prod(count for _, count in choice)
        found.append((tiles * (prod(sides) + _TILE_VOXELS), sides))
    fitting = sorted(one for one in found if prod(one[1]) <= most_voxels)
    return fitting[:_MOST_TRIED] or [min(found, key=lambda one: prod(one[1]))]


def _cover(
    shape: Sides,
    sides: Sides,
    margin: Sides,
    multiples: Sides,
    needed: Needed,
    before: tuple[tuple[slice, slice], ...] = (),
) -> Iterator[Tile]:
    """Tiles laid axis by axis, each beginning at the first voxel that is still needed."""
    axis = len(before)
    if axis == len(shape):
        yield Tile(tuple(seen for seen, _ in before), tuple(kept for _, kept in before))
        return
    n, side, m, step = shape[axis], sides[axis], margin[axis], needed.cell[axis]
    cells = needed.cells
    covered = 0
    while covered < n:
        hits = np.flatnonzero(cells.any(axis=tuple(range(1, cells.ndim))))
        hits = hits[(hits + 1) * step > covered]
        if not len(hits):
            return
        first = max(int(hits[0]) * step, covered)
        start = max(0, min(first - m, n - side)) // multiples[axis] * multiples[axis]
        stop = start + side
        kept = slice(start if start == 0 else start + m, n if stop == n else stop - m)
        within = np.asarray(cells[kept.start // step : ceil(kept.stop / step)].any(axis=0))
        yield from _cover(
            shape,
            sides,
            margin,
            multiples,
            Needed(within, needed.cell),
            (*before, (slice(start, stop), kept)),
        )
        covered = kept.stop


def _up(n: int, multiple: int) -> int:
    return ceil(n / multiple) * multiple
