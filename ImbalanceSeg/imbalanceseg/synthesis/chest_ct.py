"""Paint a CT over a chest's anatomy: tissue, partial volume, scanner, noise, disease.

Everything is torch and works on a patch as well as on a whole chest, on CPU or CUDA, so images can
be made while a network trains. Appearance is drawn wider than reality on purpose (domain
randomisation): what a network sees must include every real scan, not resemble the average one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from imbalanceseg.synthesis.fields import blur, random_tubes, smooth_noise

_DARKEST_PARENCHYMA = -975.0


@dataclass(frozen=True)
class ChestStyle:
    """How one CT looks. HU unless another unit is named.

    ``*_fraction`` are shares of the lung's volume, ``*_mm`` millimetres. ``gravity_per_mm`` is the
    rise of the lung's density towards the side that the patient lies on.
    """

    lumen: float = -990.0
    lumen_rise: float = 20.0
    wall: float = 10.0
    wall_base_mm: float = 0.45
    wall_per_radius: float = 0.11
    parenchyma: float = -850.0
    parenchyma_gradient: float = 30.0
    gravity_per_mm: float = 0.0
    parenchyma_texture: float = 25.0
    small_vessel_mm: float = 0.5
    vessel: float = 40.0
    hilar_contrast: float = 0.0
    vessel_growth_mm: float = 0.0
    fissure_mm: float = 0.15
    tissue: float = 40.0
    fat: float = -100.0
    bone: float = 350.0
    body_margin_mm: float = 35.0
    consolidation_fraction: float = 0.0
    ground_glass_fraction: float = 0.0
    emphysema_fraction: float = 0.0
    air_pockets: int = 0
    resolution_mm: float = 0.5
    sharpening: float = 0.0
    slice_thickness_mm: float = 1.0
    noise: float = 25.0
    noise_grain_mm: float = 0.5
    motion_mm: float = 0.0


def random_style(rng: np.random.Generator) -> ChestStyle:
    """Draw the appearance of one scan: patient, disease, scanner, dose and kernel."""

    def sometimes(chance: float, low: float, high: float) -> float:
        return float(rng.uniform(low, high)) if rng.random() < chance else 0.0

    sharp = rng.random() < 0.45
    return ChestStyle(
        lumen=rng.uniform(-1015, -940),
        lumen_rise=rng.uniform(0, 60),
        wall=rng.uniform(-80, 70),
        wall_base_mm=rng.uniform(0.2, 0.75),
        wall_per_radius=rng.uniform(0.06, 0.2),
        parenchyma=rng.uniform(-945, -740),
        parenchyma_gradient=rng.uniform(0, 70),
        gravity_per_mm=sometimes(0.6, 0.1, 1.0),
        parenchyma_texture=rng.uniform(5, 45),
        small_vessel_mm=rng.uniform(0.2, 0.8),
        vessel=rng.uniform(10, 80),
        hilar_contrast=sometimes(0.5, 60, 350),
        vessel_growth_mm=rng.uniform(-0.35, 0.5),
        fissure_mm=rng.uniform(0.02, 0.35),
        tissue=rng.uniform(20, 70),
        fat=rng.uniform(-125, -75),
        bone=rng.uniform(150, 700),
        body_margin_mm=rng.uniform(18, 60),
        consolidation_fraction=sometimes(0.3, 0.02, 0.35),
        ground_glass_fraction=sometimes(0.3, 0.05, 0.4),
        emphysema_fraction=sometimes(0.3, 0.02, 0.25),
        air_pockets=int(rng.integers(1, 4)) if rng.random() < 0.6 else 0,
        resolution_mm=rng.uniform(0.25, 0.5) if sharp else rng.uniform(0.35, 0.85),
        sharpening=sometimes(0.7, 0.2, 1.2) if sharp else 0.0,
        slice_thickness_mm=rng.uniform(0.6, 1.5) if rng.random() < 0.7 else rng.uniform(1.5, 3.0),
        noise=float(np.exp(rng.uniform(np.log(6), np.log(90)))),
        noise_grain_mm=rng.uniform(0.0, 0.35) if sharp else rng.uniform(0.3, 0.9),
        motion_mm=sometimes(0.12, 0.8, 2.5),
    )


def training_style(rng: np.random.Generator) -> ChestStyle:
    """Draw an appearance to train on: wider than phantoms where a real CT lay outside theirs.

    Walls of the third generation and beyond stand out more, noise and texture are finer, vessels
    reach further, and fissures are thinner.
    """
    style = random_style(rng)
    sharp = style.noise_grain_mm < 0.3
    return replace(
        style,
        wall=rng.uniform(-70, 90),
        wall_base_mm=rng.uniform(0.3, 1.2),
        parenchyma_texture=rng.uniform(5, 70),
        small_vessel_mm=rng.uniform(0.2, 1.3),
        fissure_mm=rng.uniform(0.0, 0.2),
        noise=float(np.exp(rng.uniform(np.log(8), np.log(110)))),
        noise_grain_mm=rng.uniform(0.0, 0.25) if sharp else rng.uniform(0.2, 0.75),
    )


def render_chest_ct(
    maps: Mapping[str, Tensor],
    spacing_mm: float,
    style: ChestStyle,
    generator: torch.Generator,
    slice_axis: int = 0,
) -> Tensor:
    """Hounsfield units over an anatomy.

    Args:
        maps: the maps of :class:`~imbalanceseg.synthesis.anatomy.ChestAnatomy` by name, float32
            ``[D, H, W]``, all on one device.
        spacing_mm: isotropic voxel size.
        style: appearance.
        generator: source of all randomness, on the maps' device.
        slice_axis: array axis along which the scanner's slices are stacked.

    Returns:
        float32 ``[D, H, W]``, clipped to [-1024, 3071].
    """
    painter = _Painter(maps, spacing_mm, style, generator)
    hu = painter.body()
    hu = painter.lung(hu)
    hu = painter.airways(hu)
    return _scan(hu, spacing_mm, style, generator, slice_axis).clamp_(-1024, 3071)


class _Painter:
    """Composes materials by the share of each voxel they fill."""

    def __init__(
        self,
        maps: Mapping[str, Tensor],
        spacing_mm: float,
        style: ChestStyle,
        generator: torch.Generator,
    ) -> None:
        self.maps = maps
        self.spacing = spacing_mm
        self.style = style
        self.generator = generator
        self.shape = maps["airway_distance_mm"].shape

    def noise(self, grain_mm: float) -> Tensor:
        return smooth_noise(self.shape, grain_mm / self.spacing, self.generator)

    def filled(self, distance_mm: Tensor) -> Tensor:
        """Share of the voxel that lies inside a surface at this signed distance."""
        return (0.5 - distance_mm / self.spacing).clamp(0, 1)

    def body(self) -> Tensor:
        style, maps = self.style, self.maps
        fatness = torch.sigmoid(6 * (self.noise(14) + 0.6 * self.noise(5)))
        hu = style.tissue + (style.fat - style.tissue) * fatness * 0.9
        near_pleura = (maps["lung_distance_mm"] > 2) & (maps["lung_distance_mm"] < 11)
        outer = maps["body_distance_mm"] > 0
        ribs = near_pleura & outer & (self.noise(16) > 0.35)
        hu = torch.where(ribs, style.bone + 120 * self.noise(3), hu)
        deep = maps["body_distance_mm"] < -4
        great_vessels = torch.sigmoid(8 * (self.noise(18) - 0.1)) * deep
        hu = hu + style.hilar_contrast * great_vessels * (maps["lung_distance_mm"] > 1)
        hu = self._pockets(hu)
        beyond = self.filled(style.body_margin_mm - maps["body_distance_mm"] + 3 * self.noise(12))
        return hu + (-1000 - hu) * beyond

    def _pockets(self, hu: Tensor) -> Tensor:
        """Air that is no airway: oesophagus, stomach, bowel, gas in the neck."""
        for _ in range(self.style.air_pockets):
            inside = random_tubes(self.shape, self.spacing, self.generator, (1.5, 20.0))
            clear = (
                torch.minimum(self.maps["lung_distance_mm"], self.maps["airway_distance_mm"]) - 2.5
            )
            share = self.filled(torch.maximum(inside, -clear))
            hu = hu + (-1000 - hu) * share * (
                0.6 + 0.4 * torch.rand((), generator=self.generator, device=hu.device)
            )
        return hu

    def lung(self, hu: Tensor) -> Tensor:
        style, maps = self.style, self.maps
        lung = style.parenchyma + style.parenchyma_gradient * self.noise(60)
        lung = (lung + self._gravity()).clamp(min=_DARKEST_PARENCHYMA)
        lung = lung + style.parenchyma_texture * (self.noise(1.2) + 0.7 * self.noise(4))
        lung = self._disease(lung)
        twigs = torch.hypot(self.noise(5), self.noise(5)) * 5.0 * 0.8
        lung = self._over(lung, style.vessel, self.filled(twigs - style.small_vessel_mm) * 0.8)
        fissure = (style.fissure_mm / self.spacing) * self.filled(
            maps["fissure_distance_mm"] - self.spacing / 2
        )
        lung = self._over(lung, 0.0, fissure.clamp(0, 1))
        hu = self._over(hu, lung, self.filled(maps["lung_distance_mm"]))
        solid = self.filled(maps["solid_distance_mm"] - style.vessel_growth_mm)
        return self._over(hu, style.vessel + style.hilar_contrast, solid)

    def _gravity(self) -> Tensor:
        """Density above the mean, by row: the front of a supine patient's lung is the darkest."""
        rows = self.shape[1]
        height = torch.arange(rows, device=self.generator.device) - (rows - 1) / 2
        return (self.style.gravity_per_mm * self.spacing * height)[None, :, None]

    def _disease(self, lung: Tensor) -> Tensor:
        style = self.style
        if style.emphysema_fraction > 0:
            holes = self._patches(self.noise(5) + self.noise(12), style.emphysema_fraction, 0.25)
            clear = (self.maps["airway_distance_mm"] / 2).clamp(0, 1)
            lung = self._over(lung, -985.0, holes * clear)
        if style.ground_glass_fraction > 0:
            haze = self._patches(
                self.noise(18) + 0.5 * self.noise(5), style.ground_glass_fraction, 0.5
            )
            lung = lung + 280 * haze
        if style.consolidation_fraction > 0:
            filled = self._patches(
                self.noise(20) + 0.4 * self.noise(4), style.consolidation_fraction, 0.15
            )
            lung = self._over(lung, 20 + 25 * self.noise(3), filled * 0.95)
        return lung

    def _patches(self, field: Tensor, fraction: float, softness: float) -> Tensor:
        """Soft blobs that fill about ``fraction`` of the volume."""
        sample = field.flatten()[:: max(1, field.numel() // 20000)]
        return torch.sigmoid((field - torch.quantile(sample, 1 - fraction)) / softness * 4)

    def airways(self, hu: Tensor) -> Tensor:
        style, maps = self.style, self.maps
        distance, radius = maps["airway_distance_mm"], maps["airway_radius_mm"].clamp(0.4, 12)
        thickness = (style.wall_base_mm + style.wall_per_radius * radius) * (
            1 + 0.2 * self.noise(8)
        )
        lumen = style.lumen + style.lumen_rise / (1 + radius)
        lumen_share, tube_share = self.filled(distance), self.filled(distance - thickness)
        return hu * (1 - tube_share) + style.wall * (tube_share - lumen_share) + lumen * lumen_share

    @staticmethod
    def _over(below: Tensor, above: Tensor | float, share: Tensor) -> Tensor:
        return below + (above - below) * share


def _scan(
    hu: Tensor, spacing_mm: float, style: ChestStyle, generator: torch.Generator, slice_axis: int
) -> Tensor:
    """Blur, slices, noise and kernel of the scanner."""
    hu = hu.movedim(slice_axis, 0)
    if style.motion_mm > 0:
        shift = max(1, round(style.motion_mm / spacing_mm))
        hu = (hu + torch.roll(hu, shift, 2) + torch.roll(hu, shift, 1)) / 3
    hu = blur(hu, style.resolution_mm / spacing_mm)
    size = hu.shape
    slices = max(8, round(size[0] * spacing_mm / style.slice_thickness_mm))
    native = _stacked(hu, slices)
    noise = torch.randn(native.shape, generator=generator, device=hu.device)
    noise = blur(noise, style.noise_grain_mm / spacing_mm)
    level = style.noise / float(noise.std() + 1e-6)
    native = native + noise * level
    if style.sharpening > 0:
        native = native + style.sharpening * (native - blur(native, 0.9))
    native = F.interpolate(native[None, None], size=tuple(size), mode="trilinear")[0, 0]
    return native.movedim(0, slice_axis)


def _stacked(hu: Tensor, slices: int) -> Tensor:
    """Average thin layers into ``slices`` slices along the first axis."""
    if slices >= hu.shape[0]:
        return F.interpolate(hu[None, None], size=(slices, *hu.shape[1:]), mode="trilinear")[0, 0]
    ratio = hu.shape[0] / slices
    hu = blur(hu, (0.35 * ratio, 0, 0))
    return F.interpolate(hu[None, None], size=(slices, *hu.shape[1:]), mode="trilinear")[0, 0]
