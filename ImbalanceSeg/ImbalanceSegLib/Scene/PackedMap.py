"""A map that is kept in little room."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

_STEPS = 255


@dataclass(frozen=True)
class PackedMap:
    """A map in [0, 1], kept in steps of 1/255.

    Attributes:
        shape: of the map, ``[k, j, i]``.
        packed: its voxels, compressed.
    """

    shape: tuple[int, ...]
    packed: bytes

    @classmethod
    def of(cls, values: np.ndarray) -> PackedMap:
        """Keep a map."""
        steps = np.rint(np.clip(values, 0, 1) * np.float32(_STEPS)).astype(np.uint8)
        return cls(steps.shape, zlib.compress(steps, 1))

    def unpacked(self) -> np.ndarray:
        """The map, float32."""
        steps = np.frombuffer(zlib.decompress(self.packed), np.uint8).reshape(self.shape)
        return steps / np.float32(_STEPS)
