"""Tumours as signed distances, grown on the ground that they find. torch, ``[D, H, W]``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from imbalanceseg.synthesis.brain import BrainAnatomy, noise_in_mm
from imbalanceseg.synthesis.shapes import Coordinates, Point, capsule, smooth_union, union


@dataclass(frozen=True)
class Tumor:
    """One tumour; distances in mm, negative inside.

    Attributes:
        distance_mm: to the surface of what is labelled.
        parts: signal name and distance of what is painted, in this order.
    """

    distance_mm: Tensor
    parts: Sequence[tuple[str, Tensor]]


@dataclass(frozen=True)
class Ground:
    """What a tumour grows in. Distances in mm, negative inside.

    Attributes:
        at: where the voxels lie.
        brain_mm: to the surface of the brain.
        ventricle_mm: to the surface of the ventricles.
        cavity_mm: to the inside of the skull.
        white: share of each voxel in which oedema can spread.
        noise: smooth noise with grains of so many mm.
    """

    at: Coordinates
    brain_mm: Tensor
    ventricle_mm: Tensor
    cavity_mm: Tensor
    white: Callable[[], Tensor]
    noise: Callable[[float], Tensor]

    @classmethod
    def of(cls, brain: BrainAnatomy, generator: torch.Generator) -> Ground:
        """A grown brain as ground, in mm of the template."""
        spacing = [s / brain.scale for s in brain.grid.spacing_mm[::-1]]

        def noise(grain_mm: float) -> Tensor:
            return noise_in_mm(brain.brain_distance_mm.shape, spacing, grain_mm, generator)

        return cls(
            brain.at,
            brain.brain_distance_mm,
            brain.ventricle_distance_mm,
            brain.cavity_distance_mm,
            lambda: brain.share("white", "deep_grey", "pallidum"),
            noise,
        )

    def places(self, count: int, depth_mm: float, rng: np.random.Generator) -> list[Point]:
        """Points in the brain, as deep or deeper and outside the ventricles; none without room."""
        free = torch.nonzero((self.brain_mm < -depth_mm) & (self.ventricle_mm > 2))
        found = []
        for pick in rng.random(count if len(free) else 0):
            z, y, x = (int(n) for n in free[int(pick * len(free))])
            at = self.at
            found.append((float(at.x[0, 0, x]), float(at.y[0, y, 0]), float(at.z[z, 0, 0])))
        return found


def schwannoma_centre(canal: tuple[Point, Point], side: float, radius: float, up: float) -> Point:
    """Where the body of a schwannoma lies that grew out of an internal auditory canal."""
    mouth = (side * canal[0][0], canal[0][1], canal[0][2])
    return (
        mouth[0] - side * 0.72 * radius,
        mouth[1] + 0.22 * radius,
        mouth[2] + up * radius,
    )


def schwannoma(
    ground: Ground,
    canal: tuple[Point, Point],
    side: float,
    centre: Point,
    radius: float,
    rng: np.random.Generator,
) -> Tumor:
    """A compact body, mostly with a cone in the canal, at times with cysts.

    Args:
        ground: where it grows.
        canal: mouth and blind end of the internal auditory canal of the left side.
        side: 1 on the left, -1 on the right.
        centre: of the body.
        radius: of the body, in mm.
        rng: source of its shape.
    """
    at, noise = ground.at, ground.noise
    mouth, end = ((side * x, y, z) for x, y, z in canal)
    squeeze = rng.uniform(0.9, 1.12, 3)
    around = Coordinates(*(o * float(q) for o, q in zip(at.offsets(centre), squeeze, strict=True)))
    ball = around.distance((0, 0, 0)) - radius * (1 + 0.09 * noise(0.9 * radius))
    distance = ball
    if rng.random() < 0.75:
        along = float(rng.uniform(0.45, 1.0))
        tip = tuple(m + along * (e - m) for m, e in zip(mouth, end, strict=True))
        root = tuple(m - 0.3 * (e - m) for m, e in zip(mouth, end, strict=True))
        cone = capsule(at, point(root), point(tip), 3.0, 2.1)
        distance = smooth_union(ball, cone, 2.0)
    parts = [("solid", distance)]
    if radius > 5 and rng.random() < 0.45:
        for _ in range(int(rng.integers(1, 4))):
            way = rng.normal(size=3)
            way *= 0.5 * radius / np.linalg.norm(way)
            where = point([c + float(w) for c, w in zip(centre, way, strict=True)])
            cyst = at.distance(where) - radius * float(rng.uniform(0.18, 0.42))
            parts.append(("cyst", torch.maximum(cyst + 0.6 * noise(4), distance + 1.2)))
    return Tumor(distance, parts)


def glioma(
    ground: Ground, centre: Point, radius: float, rng: np.random.Generator, fringe_mm: float = 0.0
) -> Tumor:
    """Irregular, with a rim, necrosis inside and fingers of oedema along the white matter.

    Args:
        ground: where it grows.
        centre: of the tumour.
        radius: of what is labelled, in mm.
        rng: source of its shape.
        fringe_mm: how far, in the mean, tumour reaches beyond its rim, which is called
            ``"fringe"`` and is part of what is labelled.
    """
    noise = ground.noise
    squeeze = rng.uniform(0.8, 1.3, 3)
    offsets = ground.at.offsets(centre)
    around = Coordinates(*(o * float(q) for o, q in zip(offsets, squeeze, strict=True)))
    ragged = 0.2 * noise(1.1 * radius) + 0.07 * noise(5)
    core = around.distance((0, 0, 0)) - radius * (1 + ragged)
    # It neither leaves the brain nor fills the ventricles.
    inside = torch.maximum(ground.brain_mm + 1.0, 0.5 - ground.ventricle_mm)
    core = torch.maximum(core, torch.minimum(inside, core + 0.45 * radius))
    core = torch.maximum(core, torch.maximum(ground.cavity_mm + 3, inside - 3))
    rim = (0.16 * radius + 1.2) * (1 + 0.35 * noise(9)).clamp(min=0.4)
    dead = 2.5 * (-0.9 - noise(0.7 * radius))
    oedema = _oedema(ground, core, float(rng.uniform(5, 18)))
    fringe = fringe_mm * (1 + 0.8 * noise(8)).clamp(min=0) if fringe_mm else 0.0
    solid = core + fringe
    parts = [("oedema", oedema), ("solid", solid), ("necrosis", torch.maximum(solid + rim, dead))]
    if fringe_mm:
        parts.insert(1, ("fringe", core))
    return Tumor(core, parts)


def metastases(
    ground: Ground, bodies: Sequence[tuple[Point, float]], rng: np.random.Generator
) -> Tumor:
    """Roundish bodies, the larger ones at times necrotic, each in oedema of its own width.

    Args:
        ground: where they grow.
        bodies: centre and radius in mm of each.
        rng: source of their shapes.
    """
    far = torch.full_like(ground.brain_mm, 60.0)
    core, necrosis, oedema = far, far, far
    bounds = torch.maximum(ground.brain_mm, 0.5 - ground.ventricle_mm)
    for centre, radius in bodies:
        squeeze = rng.uniform(0.85, 1.18, 3)
        offsets = ground.at.offsets(centre)
        around = Coordinates(*(o * float(q) for o, q in zip(offsets, squeeze, strict=True)))
        uneven = float(rng.uniform(0.04, 0.16)) * ground.noise(max(3.0, radius))
        body = torch.maximum(around.distance((0, 0, 0)) - radius * (1 + uneven), bounds)
        core = union(core, body)
        if radius > 4 and rng.random() < 0.55:
            rim = (0.2 * radius + 0.8) * (1 + 0.3 * ground.noise(6)).clamp(min=0.4)
            necrosis = union(necrosis, body + rim)
        if rng.random() < 0.75:
            oedema = union(oedema, _oedema(ground, body, float(rng.uniform(1, 14))))
    return Tumor(core, [("oedema", oedema), ("solid", core), ("necrosis", necrosis)])


def meningioma(ground: Ground, centre: Point, radius: float, rng: np.random.Generator) -> Tumor:
    """A smooth, mostly solid body that lies flat against the border of the brain."""
    squeeze = rng.uniform(0.8, 1.2, 3)
    offsets = ground.at.offsets(centre)
    around = Coordinates(*(o * float(q) for o, q in zip(offsets, squeeze, strict=True)))
    ball = around.distance((0, 0, 0)) - radius * (1 + 0.08 * ground.noise(radius))
    core = torch.maximum(ball, ground.cavity_mm)
    parts = [("solid", core)]
    if rng.random() < 0.5:
        parts.insert(0, ("oedema", _oedema(ground, core, float(rng.uniform(2, 14)))))
    if rng.random() < 0.2:
        parts.append(("cyst", torch.maximum(core + 2.5, 3 * (0.8 - ground.noise(0.7 * radius)))))
    return Tumor(core, parts)


def point(values: Sequence[float]) -> Point:
    """Three numbers as a point."""
    x, y, z = values
    return x, y, z


def _oedema(ground: Ground, core: Tensor, spread_mm: float) -> Tensor:
    fingers = spread_mm * (1 + 0.45 * ground.noise(14))
    return torch.maximum(core - fingers, (0.5 - ground.white()) * 14)
