"""Tiles put together, with a slab of the volume at a time in full precision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from imbalanceseg.inference.tiling import Sides, Tile


class Blend:
    """The weighted mean of tiles, which must come in the order of their first axis.

    What no later tile can reach is finished at once, so that sums and weights are only kept for
    one slab, as deep as a tile; finished maps may then be stored in half precision.

    Args:
        shape: of the volume.
        maps: channels of every tile.
        tiles: all of them, ordered.
        weights: of a tile's voxels, ``[*sides]``; None takes what a tile keeps as it is.
        store: type of the finished maps.
        device: of the tiles.
    """

    def __init__(
        self,
        shape: Sides,
        maps: int,
        tiles: Sequence[Tile],
        weights: Tensor | None,
        store: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        self._found = torch.zeros((maps, *shape), dtype=store)
        depth = max((tile.sides[0] for tile in tiles), default=0)
        self._sums = torch.zeros((maps, depth, *shape[1:]), device=device)
        self._total = torch.zeros((1, depth, *shape[1:]), device=device)
        self._weights = None if weights is None else weights.to(self._sums.device)[None]
        self._top = 0

    def add(self, tile: Tile, values: Tensor) -> None:
        """Put in one tile, ``[M, *sides]``."""
        self._move_to(tile.seen[0].start)
        first, *others = tile.kept
        where = (slice(None), slice(first.start - self._top, first.stop - self._top), *others)
        inside = tuple(
            slice(kept.start - seen.start, kept.stop - seen.start)
            for kept, seen in zip(tile.kept, tile.seen, strict=True)
        )
        part = values[(slice(None), *inside)]
        if self._weights is None:
            self._sums[where] += part
            self._total[where] += 1
        else:
            weights = self._weights[(slice(None), *inside)]
            self._sums[where] += part * weights
            self._total[where] += weights

    def finish(self) -> Tensor:
        """All maps ``[M, *shape]`` on the CPU; 0 where no tile lay."""
        self._move_to(self._found.shape[1])
        return self._found

    def _move_to(self, top: int) -> None:
        depth = self._sums.shape[1]
        done = min(top - self._top, depth, self._found.shape[1] - self._top)
        if done > 0:
            mean = self._sums[:, :done] / self._total[:, :done].clamp_min(1e-12)
            self._found[:, self._top : self._top + done] = mean.to("cpu", self._found.dtype)
            for buffer in (self._sums, self._total):
                buffer[:, : depth - done] = buffer[:, done:].clone()
                buffer[:, depth - done :] = 0
        self._top = max(self._top, top)
