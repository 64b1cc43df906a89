"""What is around a voxel, at several scales: smoothed intensity, edges, blobs, tubes and sheets.

Pixel classifiers such as ilastik (Berg et al., Nature Methods 16, 2019) look at the same. All of it
is convolution, so it says of a voxel the same in every tile that has enough around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi, sqrt

import torch
from torch import Tensor
from torch.nn.functional import avg_pool3d, conv3d, interpolate, pad

from imbalanceseg.networks.blocks import Size

STRUCTURE_MAPS = 5
"""Maps of :func:`local_structure` for each channel and scale."""
_REACH = 3.0
_COARSEST = 4
_TINY = 1e-6


def smoothed(x: Tensor, sigma_mm: float, spacing_mm: Sequence[float]) -> Tensor:
    """Each channel smoothed by a Gaussian; beyond the border it goes on as there.

    Wide Gaussians are computed on pooled voxels, which is nearly the same.

    Args:
        x: ``[B, C, Z, Y, X]``; sides are multiples of :func:`pooling` of this Gaussian.
        sigma_mm: standard deviation.
        spacing_mm: of the voxels along Z, Y and X.
    """
    small, factor, _ = _smoothed(x, sigma_mm, spacing_mm)
    return _enlarged(small, factor)


def pooling(sigma_mm: float, spacing_mm: Sequence[float]) -> Size:
    """By what each axis is pooled before a Gaussian: 1, 2 or 4."""
    z, y, x = (
        max(f for f in (1, 2, _COARSEST) if f == 1 or f * step <= sigma_mm / 3.0)
        for step in spacing_mm
    )
    return z, y, x


def local_structure(x: Tensor, sigma_mm: float, spacing_mm: Sequence[float]) -> Tensor:
    """Smoothed intensity, gradient magnitude and the eigenvalues of the Hessian, of one scale.

    Derivatives are per ``sigma_mm``, so that all scales have values of the same size, and do not
    depend on how the anatomy lies.

    Args:
        x: ``[B, C, Z, Y, X]``.
        sigma_mm: the scale.
        spacing_mm: along Z, Y and X.

    Returns:
        ``[B, C * 5, Z, Y, X]``; eigenvalues from the largest to the smallest.
    """
    # Derivatives before enlarging: between two coarse voxels there is a straight line.
    smooth, factor, spacing = _smoothed(x, sigma_mm, spacing_mm)
    steps = [sigma_mm / step for step in spacing]
    z, y, x_ = (_derivative(smooth, axis, steps[axis]) for axis in range(3))
    zz, yy, xx = (_second(smooth, axis, steps[axis]) for axis in range(3))
    zy, zx = (_derivative(z, axis, steps[axis]) for axis in (1, 2))
    yx = _derivative(y, 2, steps[2])
    gradient = (z * z + y * y + x_ * x_ + _TINY).sqrt()
    found = [smooth, gradient, *_eigenvalues(zz, yy, xx, zy, zx, yx)]
    return _enlarged(torch.stack(found, dim=2).flatten(1, 2), factor)


def _smoothed(
    x: Tensor, sigma_mm: float, spacing_mm: Sequence[float]
) -> tuple[Tensor, Size, list[float]]:
    """On pooled voxels, with what they were pooled by and their spacing."""
    factor = pooling(sigma_mm, spacing_mm)
    small = avg_pool3d(x, factor) if max(factor) > 1 else x
    flat = small.flatten(0, 1)[:, None]
    for axis, (step, f) in enumerate(zip(spacing_mm, factor, strict=True)):
        # Pooling has smoothed already.
        variance = (sigma_mm / step) ** 2 - (f**2 - 1) / 12
        flat = _along(flat, axis, sqrt(max(variance, 0.0)) / f)
    found = flat[:, 0].unflatten(0, small.shape[:2])
    return found, factor, [step * f for step, f in zip(spacing_mm, factor, strict=True)]


def _enlarged(x: Tensor, factor: Size) -> Tensor:
    if max(factor) == 1:
        return x
    scale = [float(f) for f in factor]
    return interpolate(x, scale_factor=scale, mode="trilinear", align_corners=False)


def _along(x: Tensor, axis: int, sigma: float) -> Tensor:
    """``[N, 1, ...]`` smoothed along one axis of space."""
    if sigma < 0.2:
        return x
    reach = max(1, round(_REACH * sigma))
    steps = torch.arange(-reach, reach + 1, dtype=torch.float32)
    bell = torch.exp(-0.5 * (steps / sigma) ** 2)
    sides = [1, 1, 1, 1, 1]
    sides[axis + 2] = -1
    kernel = (bell / bell.sum()).view(sides).to(x)
    around = [0] * 6
    around[2 * (2 - axis)] = around[2 * (2 - axis) + 1] = reach
    return conv3d(pad(x, around, mode="replicate"), kernel)


def _derivative(x: Tensor, axis: int, step: float) -> Tensor:
    """Central differences; the border goes on as it is."""
    before, after = _neighbours(x, axis)
    return (after - before) * (step / 2)


def _second(x: Tensor, axis: int, step: float) -> Tensor:
    before, after = _neighbours(x, axis)
    return (after - 2 * x + before) * step**2


def _neighbours(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    around = [0] * 6
    around[2 * (2 - axis)] = around[2 * (2 - axis) + 1] = 1
    roomy, n = pad(x, around, mode="replicate"), x.shape[axis + 2]
    return roomy.narrow(axis + 2, 0, n), roomy.narrow(axis + 2, 2, n)


def _eigenvalues(
    a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Of symmetric matrices with the diagonal a, b, c and d = ab, e = ac, f = bc beside it."""
    mean = (a + b + c) / 3
    a, b, c = a - mean, b - mean, c - mean
    size = ((a * a + b * b + c * c + 2 * (d * d + e * e + f * f)) / 6 + _TINY**2).sqrt()
    determinant = a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e)
    angle = torch.acos((determinant / (2 * size**3)).clamp(-1, 1)) / 3
    largest = mean + 2 * size * torch.cos(angle)
    smallest = mean + 2 * size * torch.cos(angle + 2 * pi / 3)
    return largest, 3 * mean - largest - smallest, smallest
