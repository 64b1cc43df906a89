"""Signed distances in mm to simple bodies, negative inside, on any grid of coordinates. torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

Point = tuple[float, float, float]
Box = tuple[slice, slice, slice]
EVERYWHERE: Box = (slice(None), slice(None), slice(None))


@dataclass(frozen=True)
class Coordinates:
    """Where each voxel lies, in mm. ``x`` runs to the left, ``y`` to the back, ``z`` up (LPS).

    Attributes:
        x, y, z: tensors that broadcast to ``[D, H, W]``.
    """

    x: Tensor
    y: Tensor
    z: Tensor

    def part(self, box: Box) -> Coordinates:
        """The voxels of a box ``[D, H, W]``."""

        def cut(values: Tensor) -> Tensor:
            return values[
                tuple(slice(None) if n == 1 else b for n, b in zip(values.shape, box, strict=True))
            ]

        return Coordinates(cut(self.x), cut(self.y), cut(self.z))

    def mirrored(self) -> Coordinates:
        """Both sides folded onto the left one."""
        return Coordinates(self.x.abs(), self.y, self.z)

    def offsets(self, centre: Point) -> tuple[Tensor, Tensor, Tensor]:
        """x, y and z as seen from ``centre``."""
        return self.x - centre[0], self.y - centre[1], self.z - centre[2]

    def distance(self, centre: Point) -> Tensor:
        """Distance to a point."""
        x, y, z = self.offsets(centre)
        return (x**2 + y**2 + z**2).sqrt()


def ellipsoid(at: Coordinates, centre: Point, semi_axes_mm: Point) -> Tensor:
    """Distance to an ellipsoid along the axes; exact on its surface, close to it near by."""
    x, y, z = at.offsets(centre)
    a, b, c = semi_axes_mm
    radius = ((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2).sqrt()
    slope = ((x / a**2) ** 2 + (y / b**2) ** 2 + (z / c**2) ** 2).sqrt()
    # At the centre both vanish; the ratio there is the shortest semi-axis.
    return torch.where(
        slope > 1e-6, radius * (radius - 1) / slope.clamp(min=1e-6), -min(semi_axes_mm)
    )


def capsule(
    at: Coordinates, start: Point, end: Point, start_radius_mm: float, end_radius_mm: float
) -> Tensor:
    """Distance to a tube between two points whose radius changes from one to the other."""
    axis = [e - s for s, e in zip(start, end, strict=True)]
    x, y, z = at.offsets(start)
    length_squared = sum(a * a for a in axis) + 1e-9
    along = ((x * axis[0] + y * axis[1] + z * axis[2]) / length_squared).clamp(0, 1)
    rest = (
        (x - along * axis[0]) ** 2 + (y - along * axis[1]) ** 2 + (z - along * axis[2]) ** 2
    ).sqrt()
    return rest - (start_radius_mm + along * (end_radius_mm - start_radius_mm))


def tube(at: Coordinates, points: Sequence[tuple[Point, float]]) -> Tensor:
    """Distance to a tube through several points, each with its radius."""
    parts = [
        capsule(at, start, end, start_radius, end_radius)
        for (start, start_radius), (end, end_radius) in pairwise(points)
    ]
    return union(*parts)


def union(*distances: Tensor) -> Tensor:
    """What lies in any of the bodies."""
    total = distances[0]
    for distance in distances[1:]:
        total = torch.minimum(total, distance)
    return total


def smooth_union(first: Tensor, second: Tensor, width_mm: float) -> Tensor:
    """What lies in either body, the crease between them filled over ``width_mm``."""
    overlap = (width_mm - (first - second).abs()).clamp(min=0) / width_mm
    return torch.minimum(first, second) - overlap**2 * width_mm / 4


def smooth_common(first: Tensor, second: Tensor, width_mm: float) -> Tensor:
    """What lies in both bodies, the edge between them rounded over ``width_mm``."""
    return -smooth_union(-first, -second, width_mm)


def filled(distance_mm: Tensor, softness_mm: float) -> Tensor:
    """Share of a voxel that lies inside, the border spread over ``softness_mm``."""
    return (0.5 - distance_mm / softness_mm).clamp(0, 1)
