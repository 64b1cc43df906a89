"""Volumes turned so that nothing depends on the order in which a scan stores its voxels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imbalanceseg.geometry import Grid

COARSE_MM = 2.5
"""Voxels of maps are merged up to about this edge: finer detail says nothing about slices."""


@dataclass(frozen=True)
class PatientOrder:
    """How to turn and to shrink arrays ``[z, y, x]`` of a scan.

    Turned arrays are ``[s, p, l]``: their axes ascend nearest to superior, posterior and left.
    Patient axes are counted as in LPS: 0 left, 1 posterior, 2 superior.

    Attributes:
        grid: of the turned scan; its i, j, k are the patient axes 0, 1, 2.
        axes: the index axis of the scan (0 i, 1 j, 2 k) along each patient axis.
        flipped: whether that index axis runs the other way.
        factors: voxels that are merged along each patient axis.
    """

    grid: Grid
    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    factors: tuple[int, int, int]

    @classmethod
    def of(cls, grid: Grid) -> PatientOrder:
        """The order of a scan."""
        turned = grid.oriented_lps()
        signs = np.rint(grid.matrix.T @ turned.matrix).astype(int)
        i, j, k = (int(np.abs(signs[:, n]).argmax()) for n in range(3))
        x, y, z = (bool(signs[a, n] < 0) for n, a in enumerate((i, j, k)))
        u, v, w = (
            min(size, max(1, int(COARSE_MM / step)))
            for size, step in zip(turned.size, turned.spacing_mm, strict=True)
        )
        return cls(turned, (i, j, k), (x, y, z), (u, v, w))

    def turned(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view of ``[z, y, x]`` as ``[s, p, l]``."""
        view = array.transpose([2 - self.axes[n] for n in (2, 1, 0)])
        return view[tuple(slice(None, None, -1 if self.flipped[n] else 1) for n in (2, 1, 0))]

    def position(self, patient_axis: int, index: int) -> int:
        """From an index of the scan to one of the turned scan along a patient axis, and back."""
        return self.grid.size[patient_axis] - 1 - index if self.flipped[patient_axis] else index

    def patient_axis(self, axis: int) -> int:
        """The patient axis that an index axis of the scan runs along."""
        return self.axes.index(axis)

    def sums(self, turned: NDArray[Any]) -> NDArray[np.float32]:
        """Sums over blocks of ``factors`` voxels; blocks at the far ends may be smaller."""
        if turned.dtype == bool and max(self.factors) < 256:
            # Counting in bytes along the first axis halves the time.
            return self._merged(turned.view(np.uint8), np.add, (np.uint8, np.float32, np.float32))
        return self._merged(turned, np.add, (np.float32,) * 3)

    def means(self, turned: NDArray[Any]) -> NDArray[np.float32]:
        """Means over those blocks."""
        return self.sums(turned) / self.block_voxels

    def anywhere(self, turned: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether anything in those blocks is true."""
        return self._merged(turned, np.logical_or, (np.bool_,) * 3)

    @property
    def block_voxels(self) -> NDArray[np.float32]:
        """Voxels of each block, ``[s, p, l]``."""
        along_s, along_p, along_l = (self.block_lengths(n) for n in (2, 1, 0))
        return np.asarray(along_s[:, None, None] * along_p[:, None] * along_l, np.float32)

    def block_lengths(self, patient_axis: int) -> NDArray[np.int64]:
        """Voxels of each block along a patient axis."""
        size, factor = self.grid.size[patient_axis], self.factors[patient_axis]
        starts = np.arange(0, size, factor)
        return np.minimum(factor, size - starts)

    def block_centres(self, patient_axis: int) -> NDArray[np.float64]:
        """Continuous index of the middle of each block along a patient axis of ``grid``."""
        lengths = self.block_lengths(patient_axis)
        return np.asarray(np.cumsum(lengths) - (lengths + 1) / 2)

    @property
    def coarse_spacing_mm(self) -> tuple[float, float, float]:
        """Edges of a block in the order of turned arrays: superior, posterior, left."""
        x, y, z = (f * step for f, step in zip(self.factors, self.grid.spacing_mm, strict=True))
        return z, y, x

    def _merged(
        self, turned: NDArray[Any], combine: np.ufunc, kinds: tuple[type, ...]
    ) -> NDArray[Any]:
        merged = turned
        for axis in range(3):
            factor = self.factors[2 - axis]
            parts = [_every(merged, axis, start, factor) for start in range(factor)]
            total: NDArray[Any] = parts[0].astype(kinds[axis])
            for part in parts[1:]:
                into = total[tuple(slice(0, n) for n in part.shape)]
                combine(into, part, out=into, casting="unsafe")
            merged = total
        return np.ascontiguousarray(merged)


def _every(array: NDArray[Any], axis: int, start: int, step: int) -> NDArray[Any]:
    chosen = [slice(None)] * 3
    chosen[axis] = slice(start, None, step)
    return array[tuple(chosen)]
