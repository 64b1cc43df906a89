"""How much hardness painted slices have resolved, and how much another one would."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.annotation.hard_regions import Coarse, distance_mm
from imbalanceseg.annotation.patient_order import PatientOrder
from imbalanceseg.labels import UNLABELLED

REACH_MM = 3.0
"""Standard deviation of the Gaussian by which a painted voxel tells of others; at least the
largest distance of slices, and the same along all axes, so that thick slices have no advantage."""
FAR_MM = 60.0
"""Distances to single painted voxels are measured up to here."""

Profile = NDArray[np.float64]


class Unresolved:
    """The hardness of a scan that nobody has resolved yet.

    A painted slice resolves the share ``exp(-d**2 / (2 * reach_mm**2))`` of what is still there at
    the distance ``d`` in mm. That share depends on one coordinate only, so what all slices leave
    over is a product of three profiles. What single painted voxels leave over is no such product
    and is taken off the map itself.

    Attributes:
        total: of the hardness before anything was painted.
        reach_mm: see :data:`REACH_MM`.
        painted: along each patient axis, which slices are painted.
    """

    def __init__(self, amount: Coarse, order: PatientOrder, annotation: Annotation | None) -> None:
        self._order = order
        self._amount = amount
        self._loose_mm: Coarse | None = None
        self.total = float(amount.sum(dtype=np.float64))
        slices = zip(order.grid.size, order.grid.spacing_mm, strict=True)
        self.reach_mm = max(REACH_MM, *(step for size, step in slices if size > 1), 0.0)
        self.painted = [np.zeros(n, bool) for n in order.grid.size]
        self._left: list[Profile] = [np.ones(n) for n in order.grid.size]
        self._share = [
            _gaussian(np.subtract.outer(np.arange(n), np.arange(n)) * step, self.reach_mm)
            for n, step in zip(order.grid.size, order.grid.spacing_mm, strict=True)
        ]
        if annotation is not None:
            self._take_off(annotation)
        self._annotated = [painted.copy() for painted in self.painted]

    def paint(self, patient_axis: int, position: int) -> None:
        """Count a slice of the turned scan as painted."""
        self.painted[patient_axis][position] = True
        self._left[patient_axis] *= 1 - self._share[patient_axis][position]

    def gains(self) -> list[Profile]:
        """Hardness that painting each slice would resolve, along each patient axis."""
        left = [self._coarse(n, self._left[n]) for n in range(3)]
        planes = self._amount @ left[0]
        profiles = (
            left[2] @ np.tensordot(left[1], self._amount, (0, 1)),
            left[2] @ planes,
            planes @ left[1],
        )
        gains = []
        for n, profile in enumerate(profiles):
            lengths = self._order.block_lengths(n)
            remaining = np.repeat(profile / lengths, lengths) * self._left[n]
            gains.append(self._share[n] @ remaining)
        return gains

    def peak(self, patient_axis: int, position: int) -> tuple[float, float, float]:
        """Where in a slice most of what it would resolve lies together.

        Returns:
            Continuous index (i, j, k) of the turned grid.
        """
        from scipy import ndimage

        row = self._left[patient_axis] * self._share[patient_axis][position]
        plane = np.tensordot(self._coarse(patient_axis, row), self._amount, (0, 2 - patient_axis))
        across = [n for n in (2, 1, 0) if n != patient_axis]
        first, second = (self._coarse(n, self._left[n]) for n in across)
        steps = [self._order.coarse_spacing_mm[2 - n] for n in across]
        plane = ndimage.gaussian_filter(
            plane * first[:, None] * second,
            [self.reach_mm / 2 / step for step in steps],
            mode="constant",
        )
        at = np.unravel_index(int(plane.argmax()), plane.shape)
        index = [float(position)] * 3
        for n, block in zip(across, at, strict=True):
            index[n] = float(self._order.block_centres(n)[block])
        i, j, k = index
        return i, j, k

    def slice_distance_mm(self, index: tuple[float, float, float]) -> float:
        """From a point of the turned grid to the nearest slice of the annotation.

        Infinite without any.
        """
        nearest = float("inf")
        for n in range(3):
            painted = np.flatnonzero(self._annotated[n])
            if len(painted):
                gap = float(np.abs(painted - index[n]).min()) * self._order.grid.spacing_mm[n]
                nearest = min(nearest, gap)
        return nearest

    def stroke_distance_mm(self, index: tuple[float, float, float]) -> float:
        """From a point of the turned grid to the nearest painted voxel outside of such slices.

        Infinite without any, and at most :data:`FAR_MM`.
        """
        if self._loose_mm is None:
            return float("inf")
        i, j, k = (int(x) // f for x, f in zip(index, self._order.factors, strict=True))
        return min(FAR_MM, float(self._loose_mm[k, j, i]))

    def _take_off(self, annotation: Annotation) -> None:
        loose = self._order.turned(annotation.labels != UNLABELLED)
        for one in annotation.confirmed:
            n = self._order.patient_axis(one.axis)
            position = self._order.position(n, one.index)
            self.paint(n, position)
            loose[tuple(position if a == 2 - n else slice(None) for a in range(3))] = False
        blocks = self._order.anywhere(loose)
        if not blocks.any():
            return
        self._loose_mm = distance_mm(blocks, self._order, FAR_MM)
        told = _gaussian(self._loose_mm, self.reach_mm)
        self._amount = np.asarray(self._amount * (1 - told), np.float32)

    def _coarse(self, patient_axis: int, profile: Profile) -> NDArray[np.float32]:
        """The mean of a profile over each block."""
        lengths = self._order.block_lengths(patient_axis)
        starts = np.cumsum(lengths) - lengths
        means = np.add.reduceat(profile, starts) / lengths
        return means.astype(np.float32)


def _gaussian(distance_mm: NDArray[np.floating], reach_mm: float) -> NDArray[np.floating]:
    return np.asarray(np.exp(-0.5 * (distance_mm / reach_mm) ** 2))
