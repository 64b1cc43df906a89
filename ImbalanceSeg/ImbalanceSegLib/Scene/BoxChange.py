"""Labels that a step has changed, so that it can be taken back."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from ImbalanceSegLib.Scene.Boxes import Index, Window


@dataclass(frozen=True)
class BoxChange:
    """The smallest box of a volume in which labels differ, before and after.

    Attributes:
        start: first voxel of the box (i, j, k).
        shape: of the box, ``[k, j, i]``.
        packed: labels before and after, one behind the other, compressed.
    """

    start: Index
    shape: Index
    packed: bytes

    @classmethod
    def between(
        cls, before: np.ndarray, after: np.ndarray, start: Index = (0, 0, 0)
    ) -> BoxChange | None:
        """What has changed; None where nothing has.

        Args:
            before: uint8 ``[k, j, i]``.
            after: of the same shape.
            start: first voxel of both in the volume (i, j, k).
        """
        window = changedWindow(before, after)
        if window is None:
            return None
        both = np.stack([before[window], after[window]]).astype(np.uint8, copy=False)
        first = [a + part.start for a, part in zip(start, window[::-1], strict=True)]
        return cls((first[0], first[1], first[2]), both.shape[1:], zlib.compress(both, 1))

    @property
    def window(self) -> Window:
        """The box as an index of ``[k, j, i]``."""
        i, j, k = self.start
        depth, height, width = self.shape
        return slice(k, k + depth), slice(j, j + height), slice(i, i + width)

    def unpacked(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels of the box before and after, uint8 ``[k, j, i]``."""
        both = np.frombuffer(zlib.decompress(self.packed), np.uint8).reshape(2, *self.shape)
        return both[0], both[1]


def changedWindow(before: np.ndarray, after: np.ndarray) -> Window | None:
    """The smallest box ``[k, j, i]`` that holds all that differs; None where nothing does."""
    differs = before != after
    slices = np.flatnonzero(differs.any(axis=(1, 2)))
    if not len(slices):
        return None
    depth = slice(int(slices[0]), int(slices[-1]) + 1)
    plane = differs[depth].any(axis=0)
    rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    return (
        depth,
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
    )
