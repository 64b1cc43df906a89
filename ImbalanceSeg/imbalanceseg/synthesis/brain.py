"""A head that never existed: skull, ventricles, folded cortex, white matter, brainstem.

:mod:`brain_template` says what heads have in common. What makes them differ comes from random
fields: the course of the sulci, the width of ventricles and fissures, the size of the head. Sulci
are where a band-limited random field vanishes on a sphere, carried inwards, which gives gyri of
equal width that meander as real ones do. It is no atlas: named gyri are not to be found in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from imbalanceseg.geometry import Grid
from imbalanceseg.synthesis.brain_template import (
    INTERNAL_CANAL,
    SPHERE_AXES,
    SPHERE_CENTRE,
    brainstem,
    cavity_of_skull,
    cerebellum,
    cerebrum,
    lateral_ventricle,
    sylvian_fissure,
    turned,
)
from imbalanceseg.synthesis.fields import smooth_noise
from imbalanceseg.synthesis.shapes import (
    EVERYWHERE,
    Box,
    Coordinates,
    Point,
    capsule,
    ellipsoid,
    filled,
    smooth_union,
    tube,
    union,
)

TISSUES = (
    "air", "fat", "muscle", "bone", "marrow", "csf", "grey", "white", "deep_grey", "pallidum",
    "vein", "artery", "dura", "choroid",
)  # fmt: skip
"""Everything a head is made of here."""

_CORTEX_MM = 3.1
_GYRI_MM = 18.0
_FIELD_STEP_MM = 2.5
_FAR_MM = 60.0


@dataclass(frozen=True)
class Push:
    """Something grew at ``centre_mm`` (template) and pressed a ball's volume of brain aside."""

    centre_mm: Point
    radius_mm: float


@dataclass(frozen=True)
class Layer:
    """A tissue, and the share of each voxel of ``box`` that it covers."""

    tissue: str
    share: Tensor
    box: Box


@dataclass(frozen=True)
class BrainAnatomy:
    """Where the tissues of one head lie. Tensors are float32 ``[D, H, W]`` on ``grid``.

    Attributes:
        grid: LPS grid of the tensors, axes along the patient's.
        scale: size of the head against the template.
        at: template coordinates of the voxels, nothing pushed aside.
        layers: painted in this order.
        brain_distance_mm: to the surface of the brain, sulci included, negative inside.
        ventricle_distance_mm: to the surface of the lateral ventricles, negative inside.
        cavity_distance_mm: to the inner table of the skull, negative inside.
    """

    grid: Grid
    scale: float
    at: Coordinates
    layers: Sequence[Layer]
    brain_distance_mm: Tensor
    ventricle_distance_mm: Tensor
    cavity_distance_mm: Tensor

    def paint(self, values: Mapping[str, float]) -> Tensor:
        """One value a tissue, mixed by the shares of the tissues in each voxel."""
        image = torch.full(self.brain_distance_mm.shape, values["air"])
        for layer in self.layers:
            part = image[layer.box]
            part += (values[layer.tissue] - part) * layer.share
        return image

    def share(self, *tissues: str) -> Tensor:
        """Share of each voxel that the given tissues fill, 0 to 1."""
        return self.paint({name: float(name in tissues) for name in TISSUES})

    def template_to_physical(self, point_mm: Point) -> np.ndarray:
        """LPS position in mm of a point of the template."""
        return np.asarray(point_mm) * self.scale


def grow_brain(
    grid: Grid, seed: int, scale: float = 0.9, pushes: Sequence[Push] = (), vessels: float = 1.0
) -> BrainAnatomy:
    """The anatomy of a head.

    Args:
        grid: where to make it; its axes must run to L, P and S. The anterior commissure lies at the
            origin of physical space.
        seed: same seed, same head.
        scale: size against the template, whose brain is 135 mm wide and 174 mm long.
        pushes: bodies that press the brain aside; the skull stays.
        vessels: number of vessels on the surface, 1 for the usual.
    """
    return _Grower(grid, seed, scale, vessels).grown(pushes)


def band_noise(
    shape: Sequence[int], step_mm: float, wavelength_mm: float, generator: torch.Generator
) -> Tensor:
    """Noise of zero mean and unit variance around one wavelength, periodic, ``[D, H, W]``."""
    white = torch.randn(tuple(shape), generator=generator)
    spectrum = torch.fft.rfftn(white)
    axes = [torch.fft.fftfreq(n, step_mm) for n in shape[:2]]
    axes.append(torch.fft.rfftfreq(shape[2], step_mm))
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    frequency = (x**2 + y**2 + z**2).sqrt() * wavelength_mm
    spectrum *= torch.exp(-0.5 * ((frequency - 1) / 0.22) ** 2)
    noise = torch.fft.irfftn(spectrum, s=tuple(shape))
    return (noise - noise.mean()) / noise.std()


def noise_in_mm(
    shape: Sequence[int], spacing_mm: Sequence[float], grain_mm: float, generator: torch.Generator
) -> Tensor:
    """Smooth noise ``[D, H, W]`` whose grains are equally wide in mm along all axes.

    Args:
        shape: of the result.
        spacing_mm: along D, H and W.
        grain_mm: width of the features.
        generator: source of the noise.
    """
    if max(spacing_mm) < 1.01 * min(spacing_mm):
        return smooth_noise(shape, grain_mm / spacing_mm[0], generator)
    steps = [max(1.0, grain_mm / s / 1.5) for s in spacing_mm]
    coarse = [max(2, math.ceil(n / step) + 1) for n, step in zip(shape, steps, strict=True)]
    noise = smooth_noise(coarse, 1.5, generator)
    return F.interpolate(noise[None, None], size=tuple(shape), mode="trilinear")[0, 0] * 1.2


class _Grower:
    """Makes the tissues one after another on one grid."""

    def __init__(self, grid: Grid, seed: int, scale: float, vessels: float) -> None:
        self.grid, self.scale, self.vessels = grid, scale, vessels
        self.generator = torch.Generator().manual_seed(seed)
        self.random = np.random.default_rng(seed)
        self.shape = grid.size[::-1]
        self.spacing = [s / scale for s in grid.spacing_mm[::-1]]
        self.softness = max(self.spacing[1:])
        self.axes = [
            (torch.arange(n, dtype=torch.float32) * s + o) / scale
            for n, s, o in zip(grid.size, grid.spacing_mm, grid.origin_mm, strict=True)
        ]
        x, y, z = self.axes
        self.at = Coordinates(x[None, None, :], y[None, :, None], z[:, None, None])
        self.layers: list[Layer] = []

    def cover(
        self, tissue: str, distance_mm: Tensor, box: Box = EVERYWHERE, most: float = 1.0
    ) -> None:
        self.layers.append(Layer(tissue, filled(distance_mm, self.softness) * most, box))

    def noise(self, grain_mm: float, box: Box = EVERYWHERE) -> Tensor:
        """Smooth noise whose grains are as wide in mm along all axes."""
        shape = [len(range(*b.indices(n))) for b, n in zip(box, self.shape, strict=True)]
        return noise_in_mm(shape, self.spacing, grain_mm, self.generator)

    def box(self, low: Point, high: Point, both_sides: bool = False) -> Box:
        """The voxels between two corners in the template, x taken on both sides where asked."""
        if both_sides:
            low = (-high[0], low[1], low[2])
        first, last = (
            [int(torch.searchsorted(a, c)) for a, c in zip(self.axes, corner, strict=True)]
            for corner in (low, high)
        )
        # An empty box would need special care everywhere; one voxel too many does no harm.
        spans = [
            slice(min(f, len(a) - 1), max(e, min(f, len(a) - 1) + 1))
            for f, e, a in zip(first, last, self.axes, strict=True)
        ]
        return spans[2], spans[1], spans[0]

    def everywhere(self, distance_mm: Tensor, box: Box) -> Tensor:
        """A distance known in a box, large outside it."""
        whole = torch.full(self.shape, _FAR_MM)
        whole[box] = distance_mm
        return whole

    def grown(self, pushes: Sequence[Push]) -> BrainAnatomy:
        inner = _pushed(self.at, pushes)
        cavity = cavity_of_skull(self.at) + 0.8 * self.noise(30)
        self._head(cavity)
        self.cover("csf", cavity)
        petrous = self._skull_base(cavity)
        ventricles = self._ventricles(inner)
        brain, depth = self._cortex(inner)
        apart = torch.maximum(cavity + 1.2, -petrous - 1.0)
        brain = torch.maximum(brain, apart)
        self._dura(cavity)
        self.cover("grey", brain)
        self.cover("white", torch.maximum(brain + 1.0, _CORTEX_MM - depth))
        everything = union(brain, self._hindbrain(inner, apart))
        self._deep_nuclei(inner)
        self.cover("csf", ventricles)
        self._midline_ventricles(inner)
        self._named_vessels(inner)
        self._threads(cavity, everything)
        to_mm = self.scale
        return BrainAnatomy(
            self.grid, self.scale, self.at, tuple(self.layers),
            everything * to_mm, ventricles * to_mm, cavity * to_mm,
        )  # fmt: skip

    def _head(self, cavity: Tensor) -> None:
        at, thick = self.at, 5.5 + 1.2 * self.noise(35)
        jaw = ellipsoid(at, (0, -34, -52), (56, 50, 52))
        neck = ellipsoid(at, (0, 40, -75), (54, 58, 50))
        face = smooth_union(jaw, neck, 20)
        skin = smooth_union(cavity - thick - 5.5 + 1.5 * self.noise(40), face, 14)
        self.cover("fat", skin)
        self.cover("muscle", torch.maximum(skin + 4.0, 0.5 - 2.2 * self.noise(11)), most=0.9)
        self.cover("air", torch.maximum(skin + 9, (0.55 - self.noise(9)) * 8 + (at.y + 30) / 6))
        box = self.box((0, -85, -52), (52, -30, -8), both_sides=True)
        side = at.part(box).mirrored()
        self.cover("fat", ellipsoid(side, (31, -58, -30), (17, 20, 15)), box)
        self.cover("csf", ellipsoid(side, (31, -66, -30), (12, 12, 12)), box)
        self.cover("muscle", skin.abs() - 0.6)
        self.cover("bone", cavity - thick)
        self.cover("marrow", (cavity - thick / 2 - 0.3).abs() - (thick / 2 - 1.7))

    def _skull_base(self, cavity: Tensor) -> Tensor:
        """Bones under the brain; distance to the petrous bones."""
        box = self.box((0, -35, -75), (75, 65, -5), both_sides=True)
        at, near = self.at.part(box), cavity[box]
        petrous = capsule(at.mirrored(), (15, 8, -34), (58, 38, -36), 7, 11)
        self.cover("bone", torch.maximum(petrous, near - 12), box)
        cells = (0.2 - self.noise(4, box)) * 4
        mastoid = ellipsoid(at.mirrored(), (52, 40, -38), (11, 13, 14))
        self.cover("air", torch.maximum(torch.maximum(mastoid, cells), 1 - near), box)
        clivus = capsule(at, (0, 0, -22), (0, 11, -54), 7.5, 5)
        self.cover("bone", clivus, box)
        self.cover("marrow", clivus + 2, box)
        self.cover("air", ellipsoid(at, (0, -16, -27), (13, 12, 9)), box)
        self.cover("csf", capsule(at.mirrored(), *INTERNAL_CANAL, 2.6, 1.9), box)
        return self.everywhere(petrous, box)

    def _ventricles(self, at: Coordinates) -> Tensor:
        wide = float(self.random.uniform(0.75, 1.5))
        box = self.box((0, -65, -45), (65, 95, 55), both_sides=True)
        near = at.part(box)
        sides = []
        for sign in (-1.0, 1.0):
            own = wide * float(self.random.uniform(0.9, 1.1))
            sides.append(lateral_ventricle(Coordinates(near.x * sign, near.y, near.z), own))
        return self.everywhere(union(*sides) + 0.35 * self.noise(12, box), box)

    def _cortex(self, at: Coordinates) -> tuple[Tensor, Tensor]:
        """Distance to the folded surface, and depth below it (mm)."""
        outline = cerebrum(at)
        wide = float(self.random.uniform(0.3, 0.8))
        callosum = ellipsoid(at, (0, 4, 2), (90, 38, 25))
        medial = (at.x + 0.8 * self.noise(25)).abs()
        fissure = torch.hypot(medial, (-callosum - 1.0).clamp(min=0)) - 0.4
        # Sulci of the medial wall are shallow, and none crosses the corpus callosum.
        deep = 17.0 + 5.0 * self.noise(20)
        walls = (7.0 - medial + 3 * self.noise(15)).clamp(max=10) + 3 * callosum.clamp(-30, 0)
        core = ellipsoid(at, (0, 4, 2), (34, 36, 22))
        reach = torch.minimum(torch.maximum(deep + outline, walls), core)
        floor = (-reach).clamp(min=0)
        opened = 0.45 + 0.55 * (1 + outline / 14).clamp(0, 1)
        mouth = 1.3 * (1 + outline / 5).clamp(0, 1) ** 2
        sulcus = torch.hypot(self._folds(at), floor) - wide * opened - mouth
        sylvian = sylvian_fissure(at, self.noise(14)) - 0.5 - wide
        depth = torch.minimum(torch.minimum(torch.minimum(-outline, fissure), sulcus), sylvian)
        return -depth, depth

    def _folds(self, at: Coordinates) -> Tensor:
        """Distance to the sheets of the sulci, as if they went down without end."""
        half = 104.0
        shape = [math.ceil(2 * half / _FIELD_STEP_MM)] * 3
        symmetric = band_noise(shape, _FIELD_STEP_MM, _GYRI_MM, self.generator)
        own = band_noise(shape, _FIELD_STEP_MM, _GYRI_MM, self.generator)
        x, y, z = at.offsets(SPHERE_CENTRE)
        a, b, c = SPHERE_AXES
        radius = ((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2).sqrt().clamp(min=0.25)
        pull = (0.55 + 0.45 / radius) / half
        lateral, y, z = x * pull, y * pull, z * pull

        def sampled(field: Tensor, sideways: Tensor) -> Tensor:
            where = torch.stack([sideways, y, z], dim=-1)
            return F.grid_sample(
                field[None, None], where[None], align_corners=True, padding_mode="reflection"
            )[0, 0]

        field = sampled(symmetric, lateral.abs() + 0.03) + sampled(own, lateral)
        slopes = torch.gradient(field * 0.7, spacing=self.spacing)
        steep = (slopes[0] ** 2 + slopes[1] ** 2 + slopes[2] ** 2).sqrt()
        return 0.7 * field.abs() / steep.clamp(min=0.08)

    def _hindbrain(self, at: Coordinates, apart: Tensor) -> Tensor:
        """Cerebellum and brainstem; distance to both."""
        box = self.box((0, -5, -95), (70, 110, 15), both_sides=True)
        at, apart = at.part(box), apart[box]
        surface, white = cerebellum(at, self.noise(14, box), self.noise(6, box))
        surface, stem = torch.maximum(surface, apart), torch.maximum(brainstem(at), apart)
        self.cover("grey", surface, box)
        self.cover("white", torch.maximum(surface + 1.0, white), box)
        self.cover("white", stem, box)
        return self.everywhere(union(surface, stem), box)

    def _deep_nuclei(self, at: Coordinates) -> None:
        box = self.box((0, -50, -35), (55, 65, 50), both_sides=True)
        side, rough = at.part(box).mirrored(), 0.6 * self.noise(8, box)
        nuclei = union(
            ellipsoid(side, (11, 18, 7), (9.5, 15, 9)),
            tube(side, [((13, -18, 3), 6.0), ((15, -8, 14), 4.0), ((18, 15, 22), 2.0)]),
            ellipsoid(turned(side, (26.5, -2, 2), 12), (26.5, -2, 2), (5.2, 16, 10)),
        )
        self.cover("deep_grey", nuclei + rough, box)
        pallidum = ellipsoid(turned(side, (20, 4, 0), 25), (20, 4, 0), (3.6, 8.5, 6))
        self.cover("pallidum", pallidum + rough, box)
        self.cover("deep_grey", ellipsoid(side, (33.5, -2, 3), (0.8, 16, 11)), box, most=0.5)

    def _midline_ventricles(self, at: Coordinates) -> None:
        box = self.box((-25, -20, -60), (25, 65, 25))
        at = at.part(box)
        third = ellipsoid(at, (0, 14, -1), (1.9, 15, 10))
        aqueduct = capsule(at, (0, 28, -8), (0, 36, -22), 0.9, 0.9)
        fourth = ellipsoid(at, (0, 42, -32), (7, 4.5, 11))
        self.cover("csf", union(third, aqueduct, fourth), box)

    def _dura(self, cavity: Tensor) -> None:
        at = self.at
        self.cover("dura", (cavity + 0.3).abs() - 0.5, most=0.8)
        box = self.box((-8, -95, -25), (8, 130, 95))
        near, inside = at.part(box), cavity[box]
        falx = torch.maximum(near.x.abs() - 0.4, 30 - torch.hypot(near.y - 6, near.z - 4))
        self.cover("dura", torch.maximum(falx, inside), box, most=0.5)
        sagittal = torch.hypot(near.x * 0.8, inside + 2.0) - 3.0
        self.cover("vein", torch.maximum(sagittal, -6 - near.z), box)
        box = self.box((0, 25, -65), (75, 120, -8), both_sides=True)
        side, inside = at.part(box).mirrored(), cavity[box]
        transverse = torch.hypot(side.z + 15 + 0.12 * side.x, inside + 2.2) - 2.4
        self.cover("vein", torch.maximum(transverse, 45 - side.y), box)
        self.cover("vein", capsule(side, (55, 46, -22), (38, 36, -52), 4.2, 4.5), box)

    def _named_vessels(self, at: Coordinates) -> None:
        box = self.box((0, -60, -60), (60, 105, 40), both_sides=True)
        at = at.part(box)
        side = at.mirrored()
        basilar = capsule(at, (1, 11.5, -22), (-1, 12.0, -46), 1.7, 1.6)
        carotid = tube(side, [((12, -4, -30), 2.4), ((13, -7, -14), 2.2)])
        middle = tube(side, [((13, -6, -13), 1.6), ((28, -6, -12), 1.4), ((37, -2, -4), 1.2)])
        front = tube(side, [((13, -6, -13), 1.3), ((2, -18, -10), 1.2), ((2, -36, 6), 1.1)])
        self.cover("artery", union(basilar, carotid, middle, front), box)
        inner_vein = tube(side, [((2, -2, 12), 0.9), ((3, 28, 14), 1.2), ((0, 42, 8), 2.2)])
        straight = capsule(at, (0, 42, 8), (0, 88, -12), 1.8, 2.2)
        self.cover("vein", union(inner_vein, straight), box)
        plexus = tube(side, [((8, 10, 19), 1.0), ((17, 30, 20), 1.4), ((23, 40, 11), 2.6)])
        self.cover("choroid", plexus + 0.8 * self.noise(4, box), box)

    def _threads(self, cavity: Tensor, brain: Tensor) -> None:
        """Small veins in the sulci."""
        course = torch.hypot(self.noise(9), self.noise(9)) * 8.0 - 1.1 * self.vessels
        outside = torch.maximum(-brain - 0.8, cavity + 0.5)
        self.cover("vein", torch.maximum(course, outside), most=0.9)


def _pushed(at: Coordinates, pushes: Sequence[Push]) -> Coordinates:
    """Where the tissue of each voxel was before; the volume of tissue is kept."""
    for push in pushes:
        x, y, z = at.offsets(push.centre_mm)
        distance = (x**2 + y**2 + z**2).sqrt().clamp(min=1e-3)
        before = (distance**3 - push.radius_mm**3).clamp(min=0) ** (1 / 3)
        # Far away the brain is held by the skull.
        held = torch.exp(-((distance / (3.5 * push.radius_mm + 8)) ** 2))
        ratio = 1 + (before / distance - 1) * held
        cx, cy, cz = push.centre_mm
        at = Coordinates(x * ratio + cx, y * ratio + cy, z * ratio + cz)
    return at
