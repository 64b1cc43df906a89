"""MR over the anatomy of a head: contrasts, coil, slices, noise. torch, ``[D, H, W]``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid
from imbalanceseg.synthesis.brain import BrainAnatomy, noise_in_mm
from imbalanceseg.synthesis.difficulty import between, between_by_ratio
from imbalanceseg.synthesis.fields import blur

Contrast = Literal["T1c", "T2", "FLAIR"]
CONTRASTS: tuple[str, ...] = get_args(Contrast)

TISSUE_SIGNAL = {
    "T1c": {
        "air": 0.01, "fat": 1.75, "muscle": 0.62, "bone": 0.06, "marrow": 0.95, "csf": 0.36,
        "grey": 0.68, "white": 0.83, "deep_grey": 0.73, "pallidum": 0.80, "vein": 1.65,
        "artery": 0.95, "dura": 0.95, "choroid": 1.45,
    },
    "T2": {
        "air": 0.01, "fat": 1.05, "muscle": 0.32, "bone": 0.05, "marrow": 0.60, "csf": 1.75,
        "grey": 0.92, "white": 0.66, "deep_grey": 0.78, "pallidum": 0.52, "vein": 0.45,
        "artery": 0.08, "dura": 0.25, "choroid": 1.25,
    },
    "FLAIR": {
        "air": 0.01, "fat": 0.85, "muscle": 0.40, "bone": 0.05, "marrow": 0.50, "csf": 0.13,
        "grey": 1.0, "white": 0.78, "deep_grey": 0.88, "pallidum": 0.68, "vein": 0.45,
        "artery": 0.15, "dura": 0.45, "choroid": 0.75,
    },
}  # fmt: skip
"""Signal of each tissue by contrast; 1 is about as bright as cortex in FLAIR."""


def require_one_of(what: str, value: str, known: Sequence[str]) -> None:
    """Refuse a name that is not known.

    Raises:
        InputError: ``<what>-unknown``.
    """
    if value not in known:
        raise InputError(
            f"{what}-unknown",
            f"There is no {what} {value!r} among the phantoms.",
            f"Choose one of {', '.join(known)}.",
        )


@dataclass(frozen=True)
class MrStyle:
    """How one MR looks.

    Attributes:
        noise: standard deviation of the noise in each of both channels, in the units of
            :data:`TISSUE_SIGNAL`.
        blur_mm: standard deviation of the point spread within a slice.
        bias: how much the coil's sensitivity varies over the head, as a share.
        texture: how much the signal varies within one tissue, as a share.
    """

    noise: float
    blur_mm: float
    bias: float
    texture: float


def mr_style(difficulty: float, rng: np.random.Generator) -> MrStyle:
    """The scanner at a difficulty in [0, 1]: noise and blur grow with it."""
    return MrStyle(
        noise=between_by_ratio(0.012, 0.085, difficulty),
        blur_mm=between(0.30, 0.95, difficulty),
        bias=float(rng.uniform(0.06, 0.2)),
        texture=between(0.012, 0.03, difficulty),
    )


def head_grid(
    spacing_mm: Sequence[float],
    shape: Sequence[int] | None,
    extent_mm: Sequence[float],
    centre_mm: Sequence[float],
) -> Grid:
    """A grid over a head whose axes run to L, P and S.

    Args:
        spacing_mm: along x, y and z.
        shape: voxels ``[Z, Y, X]``; as many as ``extent_mm`` needs when None.
        extent_mm: along x, y and z.
        centre_mm: of the grid, LPS; the anterior commissure is the origin.

    Raises:
        InputError: a spacing is no positive number, or there are fewer than 8 voxels along an axis.
    """
    if len(spacing_mm) != 3 or not all(math.isfinite(s) and s > 0 for s in spacing_mm):
        raise InputError(
            "spacing-invalid",
            f"The spacing {tuple(spacing_mm)} mm is not positive along three axes.",
            "Give three positive numbers in mm.",
        )
    size = [round(e / s) for e, s in zip(extent_mm, spacing_mm, strict=True)]
    size = size if shape is None else [int(n) for n in reversed(shape)]
    if len(size) != 3 or min(size) < 8:
        raise InputError(
            "shape-too-small",
            f"A phantom of {' x '.join(map(str, size))} voxels is too small to show a head.",
            "Give at least 8 voxels along each axis, or smaller voxels.",
        )
    origin = [c - (n - 1) / 2 * s for c, n, s in zip(centre_mm, size, spacing_mm, strict=True)]
    i, j, k = size
    x, y, z = (float(s) for s in spacing_mm)
    ox, oy, oz = origin
    return Grid((i, j, k), (x, y, z), (ox, oy, oz), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def fine_grid(grid: Grid) -> tuple[Grid, int]:
    """The grid on which a scan with thick slices is painted, and its layers per slice."""
    layers = max(1, round(grid.spacing_mm[2] / 1.5))
    if layers == 1:
        return grid, 1
    x, y, z = grid.spacing_mm
    return grid.with_spacing((x, y, z / layers)), layers


def in_slices(volume: Tensor, layers: int) -> Tensor:
    """The mean of every ``layers`` layers: what a thick slice sees."""
    if layers == 1:
        return volume
    return volume.reshape(-1, layers, *volume.shape[1:]).mean(dim=1)


def paint_tissues(
    brain: BrainAnatomy,
    contrast: Contrast,
    rng: np.random.Generator,
    style: MrStyle,
    spread: float = 0.04,
) -> Tensor:
    """The signal of the tissues, before the scanner: ``[D, H, W]`` on the anatomy's grid.

    Args:
        brain: the anatomy.
        contrast: whose signals the tissues have.
        rng: source of chance.
        style: the scanner.
        spread: how far the signal of each tissue can be from its usual one, as a share.
    """
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    signal = {
        tissue: value * float(rng.uniform(1 - spread, 1 + spread))
        for tissue, value in TISSUE_SIGNAL[contrast].items()
    }
    image = brain.paint(signal)
    spacing = brain.grid.spacing_mm[::-1]
    grain = noise_in_mm(image.shape, spacing, 3.0, generator)
    clouds = noise_in_mm(image.shape, spacing, 18.0, generator)
    return image * (1 + style.texture * grain + 1.2 * style.texture * clouds)


def scanned(
    image: Tensor, grid: Grid, layers: int, style: MrStyle, generator: torch.Generator
) -> Tensor:
    """What the scanner makes of a signal: coil, point spread, slices and Rician noise.

    Args:
        image: signal on the fine grid.
        grid: the fine grid.
        layers: layers of the fine grid in one slice.
        style: the scanner.
        generator: source of the noise.

    Returns:
        float32 ``[D / layers, H, W]``, not negative.
    """
    coarse = torch.randn(3, 3, 3, generator=generator)[None, None]
    bias = F.interpolate(coarse, size=image.shape, mode="trilinear", align_corners=True)[0, 0]
    image = image * torch.exp(style.bias * bias)
    in_plane = style.blur_mm / grid.spacing_mm[0]
    across = style.blur_mm / grid.spacing_mm[2] if layers == 1 else 0.35 * layers
    image = in_slices(blur(image, (across, in_plane, in_plane)), layers)
    real = image + style.noise * torch.randn(image.shape, generator=generator)
    imaginary = style.noise * torch.randn(image.shape, generator=generator)
    return torch.hypot(real, imaginary)
