"""Change a training patch: where its voxels lie, and what they look like.

Rotation, zoom and bending make one map from the voxels of the patch to those of the case, so that
the image is interpolated once. Where none is drawn, nothing is interpolated at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from imbalanceseg.labels import BACKGROUND, UNLABELLED
from imbalanceseg.training.recipe import Augmentation

_DEGREES, _IN_PLANE_DEGREES = 30.0, 180.0
_NOISE = (0.0, 0.3)
_BLUR_VOXELS = (0.5, 1.0)
_BRIGHTNESS = (0.75, 1.25)
_CONTRAST = (0.75, 1.25)
_LOW_RESOLUTION = (0.5, 1.0)
_GAMMA = (0.7, 1.5)

_BLUR_REACH = 3
_SPLINE_VARIANCE = 151 / 315
"""Of a uniform cubic B-spline with coefficients of variance 1, along one axis, on average."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """How the voxels of a patch lie in the case.

    Attributes:
        offsets: float32 ``[d, ...]``: how far from the middle of the patch, in voxels of the case,
            each voxel lies along the last ``d`` axes; broadcasts to the patch. None where the patch
            is cut out as it is.
        flipped: axes that are turned round afterwards.
    """

    offsets: Tensor | None
    flipped: tuple[int, ...]


def draw_geometry(
    augmentation: Augmentation,
    patch: Sequence[int],
    spacing_mm: Sequence[float],
    anisotropic: bool,
    draw: np.random.Generator,
) -> Geometry:
    """Draw rotation, zoom, bending and mirroring of one patch.

    Rotation and zoom are in mm, so long voxels do not shear. Zoom is as likely to shrink as to
    enlarge by the same ratio. Bending is a cubic B-spline whose displacements have the same spread
    everywhere.

    Args:
        augmentation: how often, and how much.
        patch: voxels along 2 or 3 axes.
        spacing_mm: along the same axes.
        anisotropic: the first of three axes stays as it is.
        draw: random numbers.

    Source: Isensee et al., Nature Methods 18, 2021; bending as in Ronneberger et al., MICCAI 2015,
    and Milletari et al., 3DV 2016.
    """
    in_plane = stays_in_plane(patch, anisotropic)
    moved = 2 if in_plane else 3
    spacing = np.asarray(spacing_mm[-moved:], np.float64)
    matrix = np.eye(moved)
    rotated, zoomed, bent = draw.random(3) < (
        augmentation.rotation,
        augmentation.zoom,
        augmentation.elastic,
    )
    if rotated:
        most = augmentation.rotation_degrees
        if most is None:
            most = _IN_PLANE_DEGREES if in_plane else _DEGREES
        matrix = _rotation(np.deg2rad(draw.uniform(-most, most, 1 if in_plane else 3)))
    if zoomed:
        matrix = matrix / np.exp(draw.uniform(*np.log(augmentation.zoom_range)))
    offsets = None
    if rotated or zoomed or bent:
        offsets = _affine(matrix * spacing / spacing[:, None], patch)
    if bent:
        assert offsets is not None
        if len(patch) > moved:
            offsets = offsets[:, None]
        offsets = offsets + _bending(augmentation, patch, spacing_mm, moved, draw)
    mirrored = draw.random() < augmentation.mirror
    flipped = tuple(np.flatnonzero((draw.random(len(patch)) < 0.5) & mirrored).tolist())
    return Geometry(offsets, flipped)


def stays_in_plane(patch: Sequence[int], anisotropic: bool) -> bool:
    """Whether patches move along their last two axes only: pictures, and thick slices."""
    return len(patch) == 2 or anisotropic


def sampled(
    image: Tensor, label: Tensor, components: Tensor, voxels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Take a patch from a window: the image linearly, the rest from the nearest voxel.

    Slices are sampled each for itself; what moves in three dimensions is one slice of 3D windows.
    Outside the window the image goes on as at its border, and nothing is labelled.

    Args:
        image: float32 ``[slices, C, *window]``.
        label: uint8 ``[slices, *window]``.
        components: int32 ``[slices, *window]``.
        voxels: float32 ``[d, slices or 1, *patch]``, position in the window along each axis.

    Returns:
        Image ``[slices, C, *patch]``, label and components ``[slices, *patch]``.
    """
    slices, window = len(image), image.shape[2:]
    grid = torch.empty(*voxels.shape[1:], len(window))
    for axis, (position, n) in enumerate(zip(voxels, window, strict=True), 1):
        grid[..., -axis] = position * (2 / n) + (1 / n - 1)
    grid = grid.expand(slices, *grid.shape[1:])
    image = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
    # int32: several times as fast as int64, and a window is far from 2^31 voxels.
    nearest = (voxels + 0.5).floor_().int()
    index = torch.zeros_like(nearest[0])
    outside = torch.zeros_like(index, dtype=torch.bool)
    for position, n in zip(nearest, window, strict=True):
        within = position.clamp(0, n - 1)
        outside |= within != position
        index = index.mul_(n).add_(within)
    shape = (slices, *index.shape[1:])
    index = index.long().expand(shape).flatten(1)
    label, components = (x.flatten(1).gather(1, index).view(shape) for x in (label, components))
    return (
        image,
        label.masked_fill_(outside, UNLABELLED),
        components.masked_fill_(outside, BACKGROUND),
    )


def vary_intensities(
    image: Tensor, augmentation: Augmentation, in_plane: bool, draw: np.random.Generator
) -> Tensor:
    """Noise, blur, brightness, contrast, low resolution and gamma, each as often as is told.

    A patch has a change in all of its channels, in each with a strength of its own.

    Args:
        image: float32 ``[C, ...]``, normalised: a standard deviation is about 1.
        augmentation: how often.
        in_plane: blur and low resolution leave the first of three axes alone.
        draw: random numbers.

    Returns:
        As ``image``, which is not changed.

    Source: Isensee et al., Nature Methods 18, 2021; order and constants are nnU-Net v2's.
    """
    names = ("noise", "blur", "brightness", "contrast", "low_resolution", "inverted_gamma", "gamma")
    happens = {name: draw.random() < getattr(augmentation, name) for name in names}
    if not any(happens.values()):
        return image
    axes = tuple(range(-2 if in_plane else 1 - image.ndim, 0))
    changed = []
    for channel in image:
        if happens["noise"]:
            channel = with_noise(channel, draw.uniform(*_NOISE), draw)
        if happens["blur"]:
            channel = blurred(channel, draw.uniform(*_BLUR_VOXELS), axes)
        if happens["brightness"]:
            channel = channel * draw.uniform(*_BRIGHTNESS)
        if happens["contrast"]:
            channel = with_contrast(channel, draw.uniform(*_CONTRAST))
        if happens["low_resolution"]:
            channel = at_low_resolution(channel, draw.uniform(*_LOW_RESOLUTION), axes)
        if happens["inverted_gamma"]:
            channel = -with_gamma(-channel, draw.uniform(*_GAMMA))
        if happens["gamma"]:
            channel = with_gamma(channel, draw.uniform(*_GAMMA))
        changed.append(channel)
    return torch.stack(changed)


def with_noise(channel: Tensor, deviation: float, draw: np.random.Generator) -> Tensor:
    """Gaussian noise added."""
    noise = torch.from_numpy(draw.standard_normal(tuple(channel.shape), np.float32))
    return channel + deviation * noise


def blurred(channel: Tensor, sigma_voxels: float, axes: Sequence[int]) -> Tensor:
    """Smoothed by a Gaussian along some axes; beyond the border it goes on as there."""
    steps = torch.arange(-_BLUR_REACH, _BLUR_REACH + 1)
    bell = torch.exp(-0.5 * (steps / sigma_voxels) ** 2)
    kernel = (bell / bell.sum()).tolist()
    for axis in axes:
        n = channel.shape[axis]
        index = torch.arange(-_BLUR_REACH, n + _BLUR_REACH).clamp(0, n - 1)
        roomy = channel.index_select(axis, index)
        total = kernel[0] * roomy.narrow(axis, 0, n)
        for step, weight in enumerate(kernel[1:], 1):
            total.add_(roomy.narrow(axis, step, n), alpha=weight)
        channel = total
    return channel


def with_contrast(channel: Tensor, factor: float) -> Tensor:
    """Stretched about the mean, kept between the smallest and the largest value it had."""
    low, high = channel.aminmax()
    mean = channel.mean()
    return ((channel - mean) * factor + mean).clamp_(low, high)


def at_low_resolution(channel: Tensor, factor: float, axes: Sequence[int]) -> Tensor:
    """Some of the voxels along some axes, and linear interpolation between them.

    Args:
        channel: ``[...]``.
        factor: share of the voxels that is kept along each axis, at least one.
        axes: negative, without gaps up to -1.
    """
    shape = channel.shape[-len(axes) :]
    small = [max(1, round(n * factor)) for n in shape]
    slices = channel.reshape(1, -1, *shape)
    slices = F.interpolate(slices, size=small, mode="nearest-exact")
    mode = "bilinear" if len(axes) == 2 else "trilinear"
    return F.interpolate(slices, size=shape, mode=mode, align_corners=False).view(channel.shape)


def with_gamma(channel: Tensor, exponent: float) -> Tensor:
    """The values' place between smallest and largest to a power; mean and deviation stay."""
    mean = channel.mean()
    low, high = channel.aminmax()
    curved = ((channel - low) / (high - low).clamp(min=1e-7)).pow_(exponent)
    curved -= curved.mean()
    # Norms of what is left of the means: torch.std takes several times as long.
    norm = torch.linalg.vector_norm
    return curved * (norm(channel - mean) / norm(curved).clamp(min=1e-7)) + mean


def with_quantiles(channel: Tensor, own: NDArray[np.float32], other: NDArray[np.float32]) -> Tensor:
    """Grey values of one case turned into those of another, linearly between quantiles.

    Values that are exactly 0 stay: what lies outside the body was blanked out.

    Args:
        channel: ``[...]``, part of a case.
        own: quantiles of the whole of that case, ascending.
        other: the same quantiles of the other.

    Source: Milletari et al., V-Net, 3DV 2016, section 3; Nyul et al., IEEE TMI 2000.
    """
    values = channel.numpy()
    steps, first = np.unique(own, return_index=True)
    within = np.clip(values, steps[0], steps[-1])
    matched = np.interp(within, steps, other[first]) + (values - within)
    return torch.from_numpy(np.where(values == 0, 0, matched).astype(np.float32))


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrix of a rotation in the plane, or about each of three axes in turn."""
    if len(angles) == 1:
        cos, sin = np.cos(angles[0]), np.sin(angles[0])
        return np.array([[cos, -sin], [sin, cos]])
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("xyz", angles).as_matrix()


def _affine(matrix: NDArray[np.float64], patch: Sequence[int]) -> Tensor:
    """Offsets from the middle along the last axes, ``[d, ...]``; 1 where an axis does not move."""
    moved = len(matrix)
    patch = patch[-moved:]
    rows = []
    for row in matrix:
        total = torch.zeros(1)
        for axis, (n, factor) in enumerate(zip(patch, row, strict=True)):
            along = torch.arange(n, dtype=torch.float64) - (n - 1) / 2
            shape = [n if axis == other else 1 for other in range(moved)]
            total = total + (along * float(factor)).float().view(shape)
        rows.append(total)
    return torch.stack(rows)


def _bending(
    augmentation: Augmentation,
    patch: Sequence[int],
    spacing_mm: Sequence[float],
    moved: int,
    draw: np.random.Generator,
) -> Tensor:
    """Displacements in voxels, ``[moved, *patch]``."""
    bases = [
        _spline_basis((np.arange(n) - (n - 1) / 2) * step / augmentation.elastic_grid_mm)
        for n, step in zip(patch, spacing_mm, strict=True)
    ]
    points = draw.standard_normal((moved, *(basis.shape[1] for basis in bases)))
    field = points * augmentation.elastic_mm * _SPLINE_VARIANCE ** (-len(patch) / 2)
    for basis in bases:
        # Contracts the first axis left and puts the new one last, so the order comes out again.
        field = np.tensordot(field, basis, axes=(1, 1))
    spacing = np.asarray(spacing_mm[-moved:]).reshape(-1, *[1] * len(patch))
    return torch.from_numpy((field / spacing).astype(np.float32))


def _spline_basis(positions: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Weights of the uniform cubic B-spline's control points, ``[positions, points]``."""
    first = np.floor(positions).astype(int)
    t = positions - first
    weights = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    basis = np.zeros((len(positions), int(first[-1] - first[0]) + 4))
    rows = np.arange(len(positions))
    for step, weight in enumerate(weights):
        basis[rows, first - first[0] + step] = weight
    return basis
