"""The template of an adult's brain: signed distances in mm, negative inside, before any chance.

Ellipsoids, tubes and sheets placed by eye in the proportions of an adult; the anterior commissure
is the origin, x runs to the left, y to the back, z up.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from imbalanceseg.synthesis.shapes import (
    Coordinates,
    Point,
    capsule,
    ellipsoid,
    smooth_common,
    smooth_union,
    tube,
    union,
)

INTERNAL_CANAL = ((22.0, 25.0, -36.0), (33.0, 24.0, -36.0))
"""Internal auditory canal of the left side in the template: its mouth, and its blind end (mm)."""

SPHERE_CENTRE = (0.0, 18.0, 14.0)
SPHERE_AXES = (66.0, 87.0, 64.0)
"""The ellipsoid under the convexity of both hemispheres: centre and semi-axes (mm)."""


def turned(at: Coordinates, centre: Point, degrees: float) -> Coordinates:
    """Coordinates in which a body at ``centre`` is turned about the vertical axis."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y, _ = at.offsets(centre)
    return Coordinates(c * x + -s * y + centre[0], s * x + c * y + centre[1], at.z)


def cerebrum(at: Coordinates) -> Tensor:
    """The outline of both hemispheres without sulci."""
    # The head is narrower in front.
    narrowed = Coordinates(at.x * (1.06 - 0.0016 * (at.y - 18)), at.y, at.z)
    dome = ellipsoid(narrowed, SPHERE_CENTRE, SPHERE_AXES)
    floor = -14 - 0.03 * (at.y - 10) - at.z
    upper = smooth_common(dome, floor + 0 * dome, 10)
    side = at.mirrored()
    temporal = ellipsoid(side, (42, 16, -18), (21, 42, 23))
    hippocampal = ellipsoid(side, (24, 16, -17), (10, 26, 10))
    return union(upper, smooth_union(temporal, hippocampal, 6))


def cavity_of_skull(at: Coordinates) -> Tensor:
    """The space that the skull leaves for the brain."""
    upper = smooth_union(cerebrum(at), ellipsoid(at.mirrored(), (36, 14, -18), (26, 40, 22)), 10)
    lower = ellipsoid(at, (0, 60, -33), (52, 33, 26))
    passage = tube(at, [((0, 22, -10), 18.0), ((0, 27, -36), 16.0), ((0, 42, -70), 10.5)])
    return smooth_union(smooth_union(upper, lower, 10), passage, 10) - 2.2


def sylvian_fissure(at: Coordinates, wiggle: Tensor) -> Tensor:
    """Distance to the sheets of the lateral fissure and of the cistern over the insula."""
    side = at.mirrored()
    height = (side.z - 3 - 0.45 * (side.y - 2) + 2.5 * wiggle) * 0.85
    beyond = torch.maximum(37 - side.x, (side.y - 2).abs() - 26)
    opening = torch.hypot(height, beyond.clamp(min=0))
    bowed = side.x - 38 + 0.012 * (side.y - 2) ** 2 + 2.0 * wiggle
    edge = torch.maximum((side.y - 2).abs() - 15, (side.z - 4).abs() - 11)
    narrow = 0.5 - 0.4 * wiggle
    return torch.minimum(opening, torch.hypot(bowed, edge.clamp(min=0)) + narrow)


def lateral_ventricle(at: Coordinates, wide: float) -> Tensor:
    """The lateral ventricle of the left side, ``wide`` times the usual."""
    body = tube(
        at,
        [
            ((8, -31, 3), 2.4 * wide),
            ((7.5, -20, 11), 3.2 * wide),
            ((7, 0, 19), 3.0 * wide),
            ((12, 22, 21), 3.2 * wide),
            ((22, 39, 13), 4.6 * wide),
            ((25, 58, 6), 1.8 * wide),
        ],
    )
    horn = tube(
        at, [((23, 38, 11), 3.6 * wide), ((32, 28, -6), 1.6 * wide), ((31, 10, -17), 1.3 * wide)]
    )
    return torch.maximum(smooth_union(body, horn, 3), 0.6 - at.x)


def cerebellum(at: Coordinates, wiggle: Tensor, rough: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to the surface, and to the white matter inside (negative in it)."""
    side = at.mirrored()
    bulk = smooth_union(
        ellipsoid(side, (24, 62, -34), (28, 29, 23)), ellipsoid(at, (0, 64, -28), (14, 22, 24)), 6
    )
    core = ellipsoid(side, (20, 56, -34), (21, 17, 9))
    shells = bulk.abs() / 2.0 + (at.z * 0.5 + at.y * 0.15) + 0.8 * wiggle
    leaves = torch.cos(2 * math.pi * shells / 3.4)
    outer = 1 - (-bulk / 5).clamp(0, 1)
    surface = bulk + (leaves - 0.75).clamp(min=0) * 4 * outer.sqrt()
    branches = torch.maximum(core - 7, (0.55 + leaves) * 1.6)
    return surface, torch.minimum(core + 1.2 * rough, branches)


def brainstem(at: Coordinates) -> Tensor:
    """Midbrain, pons, medulla and the peduncles of the cerebellum."""
    axis = tube(
        at, [((0, 20, -4), 16.0), ((0, 25, -20), 14.0), ((0, 34, -46), 8.0), ((0, 42, -70), 6.5)]
    )
    pons = ellipsoid(at, (0, 26, -32), (16, 12.5, 13))
    peduncles = capsule(at.mirrored(), (10, 32, -34), (22, 50, -36), 7, 7)
    return smooth_union(smooth_union(axis, pons, 5), peduncles, 5)
