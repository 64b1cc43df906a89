"""Random fields that textures are made of. torch, ``[D, H, W]``, any device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def smooth_noise(shape: Sequence[int], grain_voxels: float, generator: torch.Generator) -> Tensor:
    """Noise of zero mean and about unit variance whose features are ``grain_voxels`` wide."""
    device = generator.device
    step = max(1.0, grain_voxels / 1.5)
    coarse = [max(2, math.ceil(n / step) + 1) for n in shape]
    noise = torch.randn(coarse, generator=generator, device=device)
    noise = blur(noise, 0.7)
    noise = (noise - noise.mean()) / (noise.std() + 1e-6)
    if coarse == list(shape):
        return noise
    return F.interpolate(noise[None, None], size=tuple(shape), mode="trilinear")[0, 0] * 1.2


def blur(volume: Tensor, sigma_voxels: float | Sequence[float]) -> Tensor:
    """Separable Gaussian blur with replicated borders; a sigma below 0.1 leaves its axis alone."""
    sigmas = [sigma_voxels] * 3 if isinstance(sigma_voxels, int | float) else list(sigma_voxels)
    out = volume
    for axis, sigma in enumerate(sigmas):
        if sigma < 0.1:
            continue
        reach = min(max(1, math.ceil(2.5 * sigma)), out.shape[axis] - 1)
        offsets = torch.arange(-reach, reach + 1, device=out.device, dtype=out.dtype)
        weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
        out = _convolved(out, (weights / weights.sum()).tolist(), axis, reach)
    return out


def _convolved(volume: Tensor, weights: list[float], axis: int, reach: int) -> Tensor:
    length = volume.shape[axis]
    first = volume.narrow(axis, 0, 1).expand(*_with(volume.shape, axis, reach))
    last = volume.narrow(axis, length - 1, 1).expand(*_with(volume.shape, axis, reach))
    padded = torch.cat([first, volume, last], dim=axis)
    total = padded.narrow(axis, 0, length) * weights[0]
    for n, weight in enumerate(weights[1:], start=1):
        total.add_(padded.narrow(axis, n, length), alpha=weight)
    return total


def _with(shape: Sequence[int], axis: int, size: int) -> list[int]:
    return [size if n == axis else s for n, s in enumerate(shape)]


def random_tubes(
    shape: Sequence[int],
    spacing_mm: float,
    generator: torch.Generator,
    radius_mm: tuple[float, float],
) -> Tensor:
    """Signed distance in mm to one straight tube of random place, course, length and radius."""
    device = generator.device

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator, device=device))

    centre = [uniform(0, n * spacing_mm) for n in shape]
    axis = torch.randn(3, generator=generator, device=device)
    axis = axis / axis.norm()
    half_length = uniform(0.0, 30.0)
    radius = uniform(*radius_mm)
    offsets = [
        (torch.arange(n, device=device, dtype=torch.float32) * spacing_mm - c).reshape(
            [-1 if a == k else 1 for k in range(3)]
        )
        for a, (n, c) in enumerate(zip(shape, centre, strict=True))
    ]
    z, y, x = offsets
    uz, uy, ux = axis.tolist()
    along = (z * uz + y * uy + x * ux).clamp(-half_length, half_length)
    return ((z - along * uz) ** 2 + (y - along * uy) ** 2 + (x - along * ux) ** 2).sqrt() - radius
