"""Training cases for one network that finds tumours in head MR of many kinds.

One part is heads that never existed, another is real scans with a tumour that never existed. Both
vary far beyond what one scanner shows: levels of the tissues, coil, noise, thickness and plane of
the slices, with the skull or the brain alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F
from torch import Tensor

from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.synthesis.brain import grow_brain
from imbalanceseg.synthesis.brain_mr import Contrast, head_grid, mr_style, paint_tissues
from imbalanceseg.synthesis.difficulty import between
from imbalanceseg.synthesis.fields import blur
from imbalanceseg.synthesis.implant_tumor import (
    ImplantKind,
    draw_signals,
    implant_tumor,
    paint_tumor,
)
from imbalanceseg.synthesis.real_tumor import read_real_glioma
from imbalanceseg.synthesis.thick_slices import Plane, Slices
from imbalanceseg.synthesis.tumor import HEAD_EXTENT_MM, TumorKind, grow_tumor, with_mimics
from imbalanceseg.synthesis.tumor_growth import Ground
from imbalanceseg.synthesis.tumor_hosts import Host, read_head, read_metastases, read_mni

_Name = TypeVar("_Name", bound=str)

_PROCEDURAL = 0.55
_WITHOUT_TUMOR = 0.06
_BRAIN_ONLY = 0.35
_FINE_MM = (0.9, 0.9, 1.2)
_PLANES: Mapping[Plane, float] = {"axial": 0.7, "coronal": 0.15, "sagittal": 0.15}
_CONTRASTS: Mapping[Contrast, float] = {"T1c": 0.4, "T2": 0.3, "FLAIR": 0.3}
_PROCEDURAL_KINDS: Mapping[TumorKind, float] = {"schwannoma": 1, "glioma": 1, "metastasis": 1}
_IMPLANT_KINDS: Mapping[ImplantKind, float] = {
    "glioma": 0.4,
    "metastasis": 0.3,
    "meningioma": 0.2,
    "schwannoma": 0.1,
}


@dataclass(frozen=True)
class TumorSources:
    """Real scans that lend their texture.

    Attributes:
        training: hosts of training cases.
        validation: hosts of validation cases, of other patients.
        glioma: folder of a patient whose tumour is real, for validation; None without one.
    """

    training: Sequence[Host] = ()
    validation: Sequence[Host] = ()
    glioma: Path | None = None

    @classmethod
    def read(cls, data: Path | None) -> TumorSources:
        """What a folder of scans holds of them; sets that are missing are left out.

        Args:
            data: folder with one folder a set; None for heads that never existed alone.
        """
        if data is None:
            return cls()
        training = [
            *read_head(data / "dicom_mr"),
            *read_metastases(data / "tumour_mets_aurora"),
            *read_mni(data / "ms_lesions_mni", "patient19"),
        ]
        validation = read_mni(data / "ms_lesions_mni", "patient07")
        return cls(training, validation, data / "tumour_glioma")

    @cached_property
    def real(self) -> list[tuple[sitk.Image, sitk.Image, str]]:
        """Validation cases that are real throughout: image, label and what they are.

        Made when first asked for, as it takes a registration each.
        """
        return read_real_glioma(self.glioma) if self.glioma else []


@dataclass(frozen=True)
class _Scene:
    """A finely sampled volume ``[D, H, W]``, before the scanner.

    Attributes:
        image: signal, about 1 in the brain.
        core: 1 in what is labelled.
        unlabelled: 1 where nobody knows.
        grid: LPS grid of them.
        brain_only: whether all but the brain was removed; the scanner leaves 0 there.
        noise: standard deviation of what the scanner adds.
        made_of: in words.
    """

    image: Tensor
    core: Tensor
    unlabelled: Tensor | None
    grid: Grid
    brain_only: bool
    noise: float
    made_of: str


def tumor_case(
    seed: int, sources: TumorSources, validation: bool = False
) -> tuple[sitk.Image, sitk.Image, str]:
    """One head MR in thick slices, its label, and a word on what it is made of.

    The first validation seeds are the cases of ``sources.real``, one each.

    Args:
        seed: same seed and sources, same case.
        sources: real scans to implant into.
        validation: draw from hosts and heads that no training case is drawn from.

    Returns:
        float32 image in arbitrary units; uint8 label on the same grid: 1 in voxels at least half of
        which is tumour without its oedema, 255 where a host shows disease that nobody has outlined.
    """
    if validation and seed < len(sources.real):
        return sources.real[seed]
    rng = np.random.default_rng([seed, int(validation)])
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    hosts = sources.validation if validation else sources.training
    pixel_mm, slice_mm = _log_uniform(rng, 0.4, 1.0), _log_uniform(rng, 1.5, 6.5)
    with_tumor = bool(rng.random() >= _WITHOUT_TUMOR)
    if rng.random() < _PROCEDURAL or not hosts:
        scene = _procedural(with_tumor, rng, generator)
    else:
        host = _any_host(hosts, rng)
        scene = _implanted(host, with_tumor, slice_mm, rng)
    return _scanned(scene, pixel_mm, slice_mm, rng, generator)


def _procedural(with_tumor: bool, rng: np.random.Generator, generator: torch.Generator) -> _Scene:
    kind, contrast = _drawn(_PROCEDURAL_KINDS, rng), _drawn(_CONTRASTS, rng)
    difficulty = float(rng.uniform(0, 0.6))
    grid = head_grid(_FINE_MM, None, HEAD_EXTENT_MM, (0.0, 15.0, 6.0))
    vessels = between(0.6, 1.8, difficulty)
    if with_tumor:
        brain, tumor = grow_tumor(kind, grid, rng, generator, vessels)
    else:
        brain = grow_brain(grid, int(rng.integers(2**31)), float(rng.uniform(0.86, 0.94)))
    style = mr_style(difficulty, rng)
    image = paint_tissues(brain, contrast, rng, style, spread=float(rng.uniform(0.05, 0.22)))
    image = with_mimics(image, brain, contrast, round(8 * difficulty), rng)
    core = torch.zeros_like(image)
    if with_tumor:
        grain = Ground.of(brain, generator).noise(float(rng.uniform(2.5, 7)))
        texture = float(rng.uniform(0.02, 0.1)) * grain
        soft = float(rng.uniform(0.2, 2.0))
        signals = draw_signals(contrast, rng)
        image = paint_tumor(image, tumor, signals, _FINE_MM[0] / brain.scale, soft, texture)
        core = (tumor.distance_mm < 0).float()
    brain_only = bool(rng.random() < _BRAIN_ONLY)
    if brain_only:
        # Extraction follows the brain, not its sulci, and takes more or less of what lies around.
        margin = float(rng.uniform(0.5, 3.0))
        near = blur((brain.brain_distance_mm < margin).float(), 2.0) > 0.5
        image = image * (near & (brain.cavity_distance_mm < -0.5) | (core > 0))
    what = kind if with_tumor else "head without tumour"
    return _Scene(image, core, None, grid, brain_only, style.noise, f"procedural {what} {contrast}")


def _any_host(hosts: Sequence[Host], rng: np.random.Generator) -> Host:
    """Each patient as often as another, however many scans there are of each."""
    scans = [sum(other.terrain is host.terrain for other in hosts) for host in hosts]
    weights = 1 / np.array(scans)
    return hosts[int(rng.choice(len(hosts), p=weights / weights.sum()))]


def _implanted(host: Host, with_tumor: bool, slice_mm: float, rng: np.random.Generator) -> _Scene:
    host = host.mirrored() if rng.random() < 0.5 else host
    seed = int(rng.integers(2**31))
    noise = float(rng.uniform(0, 0.03))
    gamma = _log_uniform(rng, 0.75, 1.3)
    terrain = host.terrain
    if with_tumor:
        shares = {k: v for k, v in _IMPLANT_KINDS.items() if k != "schwannoma" or terrain.canal}
        kind = _drawn(shares, rng)
        made = implant_tumor(host, kind, 0.75 * slice_mm, seed)
        image, core = made.image, made.core
        made_of = f"implanted {kind} in {host.name}"
    else:
        image, core = host.image, torch.zeros_like(host.image)
        made_of = f"{host.name} without implant"
    own = (terrain.unlabelled_mm < 0).float() if (terrain.unlabelled_mm < 0).any() else None
    image = (image / host.white) ** gamma
    return _Scene(image, core, own, terrain.grid, not terrain.skull, noise, made_of)


def _scanned(
    scene: _Scene,
    pixel_mm: float,
    slice_mm: float,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> tuple[sitk.Image, sitk.Image, str]:
    plane = _drawn(_PLANES, rng)
    low, high = _field_of_view(scene, plane, rng)
    slices = Slices.over(low, high, plane, pixel_mm, slice_mm)
    image = slices.of(scene.image, scene.grid)
    label = (slices.of(scene.core, scene.grid) >= 0.5).to(torch.uint8)
    if scene.unlabelled is not None:
        label[slices.of(scene.unlabelled, scene.grid) > 0] = UNLABELLED
    nothing = image == 0
    image = image * torch.exp(float(rng.uniform(0.03, 0.35)) * _coil(image.shape, generator))
    image = blur(image, (0, *2 * [float(rng.uniform(0, 0.6)) / pixel_mm]))
    image = _noisy(image, scene.noise, float(rng.uniform(0, 0.5)) / pixel_mm, generator)
    if scene.brain_only:
        image = image.masked_fill(nothing, 0)
    image = image * _log_uniform(rng, 50, 3000)
    return (
        image_from_array(image.numpy().astype(np.float32), slices.grid),
        image_from_array(label.numpy(), slices.grid),
        f"{scene.made_of}, {plane} {pixel_mm:.2f} x {slice_mm:.1f} mm",
    )


def _field_of_view(
    scene: _Scene, plane: Plane, rng: np.random.Generator
) -> tuple[list[float], list[float]]:
    """Two corners in LPS mm: all that is to be seen, or fewer slices around the tumour."""
    size, spacing = np.array(scene.grid.size), np.array(scene.grid.spacing_mm)
    low = np.array(scene.grid.origin_mm) - spacing / 2
    high = low + size * spacing
    spare = rng.uniform(-4, 14, 3)
    axis = {"axial": 2, "coronal": 1, "sagittal": 0}[plane]
    spare[axis] = 0
    low, high = low - spare, high + spare
    if rng.random() < 0.3:
        extent = float(rng.uniform(0.4, 0.8)) * (high - low)[axis]
        seen = torch.nonzero(scene.core.amax(dim=[n for n in range(3) if n != 2 - axis]) > 0)
        middle = float(seen.float().mean()) if len(seen) else 0.5 * size[axis]
        centre = scene.grid.origin_mm[axis] + middle * spacing[axis] + rng.normal(0, 0.1) * extent
        start = float(np.clip(centre - extent / 2, low[axis], high[axis] - extent))
        low[axis], high[axis] = start, start + extent
    return low.tolist(), high.tolist()


def _coil(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    coarse = torch.randn(3, 3, 3, generator=generator)[None, None]
    return F.interpolate(coarse, size=tuple(shape), mode="trilinear", align_corners=True)[0, 0]


def _noisy(image: Tensor, noise: float, grain_voxels: float, generator: torch.Generator) -> Tensor:
    """Rician noise, smooth where the pixels are finer than what was measured."""

    def channel() -> Tensor:
        raw = torch.randn(image.shape, generator=generator)
        even = blur(raw, (0, grain_voxels, grain_voxels))
        return even * (noise / float(even.std()))

    return torch.hypot(image + channel(), channel())


def _drawn(shares: Mapping[_Name, float], rng: np.random.Generator) -> _Name:
    names = list(shares)
    weights = np.array(list(shares.values()))
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))
