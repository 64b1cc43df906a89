"""Every change of grid in the engine, and its inverse.

A :class:`Grid` says where the voxels of an image lie in the patient (LPS, millimetres). Cropping,
re-orienting and resampling are all the same operation here: make the grid that is wanted, then
:func:`resample` onto it. The way back is :func:`resample` onto the grid one came from, so no
bookkeeping of offsets exists that could go wrong.

SimpleITK orders axes ``(x, y, z)``; arrays are ``[z, y, x]``. This module speaks SimpleITK order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Literal

import numpy as np
import SimpleITK as sitk

from imbalanceseg.errors import GeometryError

_NO_COSINE = 1e-12
_LARGE_VOXELS = 2**27
"""Larger images are resampled slab by slab, so that no whole copy of them in float32 is made."""
_SLAB_VOXELS = 2**26
_MAX_SHEAR = 1e-2

Interpolation = Literal["linear", "nearest", "bspline"]
_INTERPOLATORS = {
    "linear": sitk.sitkLinear,
    "nearest": sitk.sitkNearestNeighbor,
    "bspline": sitk.sitkBSpline3,
}


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a 3D image lie, in LPS millimetres.

    Attributes:
        size: number of voxels along the index axes (i, j, k).
        spacing_mm: distance between voxel centres along i, j, k.
        origin_mm: LPS position of the centre of voxel (0, 0, 0).
        direction: 3x3 matrix, row-major; column n is the LPS direction of index axis n.
    """

    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    direction: tuple[float, ...]

    def __post_init__(self) -> None:
        # ITK cannot invert a direction with cosines as small as 1e-200, and rounding leaves such.
        cosines = tuple(0.0 if abs(c) < _NO_COSINE else float(c) for c in self.direction)
        object.__setattr__(self, "direction", cosines)

    @classmethod
    def of(cls, image: sitk.Image) -> Grid:
        """The grid of a 3D image.

        Raises:
            GeometryError: the image is not 3D.
        """
        if image.GetDimension() != 3:
            raise GeometryError(
                "image-not-3d",
                f"The image has {image.GetDimension()} dimensions, three are needed.",
                "Give one 3D volume.",
            )
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    def is_sound(self) -> bool:
        """Whether all numbers are finite, spacing is positive and the axes are orthonormal."""
        numbers = np.concatenate([self.spacing_mm, self.origin_mm, self.direction])
        if not np.isfinite(numbers).all() or min(self.spacing_mm) <= 0:
            return False
        return bool(np.abs(self.matrix.T @ self.matrix - np.eye(3)).max() <= _MAX_SHEAR)

    def placed(self, image: sitk.Image) -> sitk.Image:
        """``image`` with its voxels on this grid: only the header changes, nothing is sampled."""
        image.SetSpacing(self.spacing_mm)
        image.SetOrigin(self.origin_mm)
        image.SetDirection(self.direction)
        return image

    @property
    def matrix(self) -> np.ndarray:
        """Direction cosines as a 3x3 float64 array."""
        return np.asarray(self.direction, dtype=np.float64).reshape(3, 3)

    def index_to_physical(self, index: np.ndarray | Sequence[float]) -> np.ndarray:
        """LPS points in mm of continuous indices (i, j, k); shape ``[..., 3]`` in and out."""
        scaled = np.asarray(index, dtype=np.float64) * np.asarray(self.spacing_mm)
        return scaled @ self.matrix.T + np.asarray(self.origin_mm)

    def physical_to_index(self, point_mm: np.ndarray | Sequence[float]) -> np.ndarray:
        """Continuous indices (i, j, k) of LPS points in mm; shape ``[..., 3]`` in and out."""
        offset = np.asarray(point_mm, dtype=np.float64) - np.asarray(self.origin_mm)
        return offset @ np.linalg.inv(self.matrix).T / np.asarray(self.spacing_mm)

    def same_as(self, other: Grid, tolerance_mm: float = 1e-3) -> bool:
        """Whether both grids put every voxel in the same place to within ``tolerance_mm``."""
        if self.size != other.size:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.size], indexing="ij"))
        corners = corners.reshape(3, -1).T
        gap = self.index_to_physical(corners) - other.index_to_physical(corners)
        return bool(np.abs(gap).max() <= tolerance_mm)

    def difference_to(self, other: Grid) -> str:
        """What sets another grid apart, for people: the first of size, spacing, origin and axes."""
        for name, mine, theirs in (
            ("size", self.size, other.size),
            ("spacing in mm", self.spacing_mm, other.spacing_mm),
            ("origin in mm", self.origin_mm, other.origin_mm),
            ("direction", self.direction, other.direction),
        ):
            if not np.allclose(mine, theirs, rtol=0, atol=1e-5):
                return f"its {name} is {_shown(mine)}, not {_shown(theirs)}"
        return "its voxels lie elsewhere by a little"

    def oriented_lps(self) -> Grid:
        """The same voxels with axes permuted and flipped so that i, j, k run nearest to L, P, S."""
        cosines = self.matrix
        axis_for = _closest_permutation(np.abs(cosines))
        origin_index = np.zeros(3)
        columns = []
        for patient_axis, index_axis in enumerate(axis_for):
            column = cosines[:, index_axis]
            if column[patient_axis] < 0:
                column = -column
                origin_index[index_axis] = self.size[index_axis] - 1
            columns.append(column)
        i, j, k = axis_for
        return Grid(
            size=(self.size[i], self.size[j], self.size[k]),
            spacing_mm=(self.spacing_mm[i], self.spacing_mm[j], self.spacing_mm[k]),
            origin_mm=_triple(self.index_to_physical(origin_index)),
            direction=tuple(np.stack(columns, axis=1).ravel()),
        )

    def with_spacing(self, spacing_mm: Sequence[float]) -> Grid:
        """A grid over the same physical extent with another spacing (voxel borders aligned).

        Raises:
            GeometryError: a spacing is not a positive number.
        """
        if not all(np.isfinite(s) and s > 0 for s in spacing_mm):
            raise GeometryError(
                "spacing-invalid",
                f"The spacing {tuple(spacing_mm)} mm is not positive along every axis.",
                "Give three positive numbers in mm.",
            )
        extent = [n * s for n, s in zip(self.size, self.spacing_mm, strict=True)]
        i, j, k = (max(1, round(e / s)) for e, s in zip(extent, spacing_mm, strict=True))
        first_centre = [
            (new - old) / (2 * old) for new, old in zip(spacing_mm, self.spacing_mm, strict=True)
        ]
        return replace(
            self,
            size=(i, j, k),
            spacing_mm=_triple(spacing_mm),
            origin_mm=_triple(self.index_to_physical(first_centre)),
        )

    def cropped(self, start: Sequence[int], size: Sequence[int]) -> Grid:
        """The part that begins at index ``start`` (i, j, k); it may reach beyond this grid."""
        i, j, k = (int(n) for n in size)
        return replace(self, size=(i, j, k), origin_mm=_triple(self.index_to_physical(start)))


def resample(
    image: sitk.Image,
    grid: Grid,
    interpolation: Interpolation = "linear",
    outside: float = 0.0,
    pixel_type: int | None = None,
) -> sitk.Image:
    """Sample an image on another grid.

    Continuous images are low-pass filtered first along the axes that get coarser, so that thin
    structures fade instead of breaking up. Points beyond the image by up to half a voxel take the
    border value; further out they take ``outside``.

    Args:
        image: 3D scalar image.
        grid: where to sample.
        interpolation: ``"nearest"`` for labels, ``"linear"`` or ``"bspline"`` for intensities.
        outside: value of voxels that lie outside ``image``.
        pixel_type: of the result; that of ``image`` when None.

    Returns:
        Image on ``grid``.
    """
    source = Grid.of(image)
    pixel_type = image.GetPixelID() if pixel_type is None else pixel_type
    if source == grid:
        return sitk.Cast(image, pixel_type)
    if interpolation == "linear" and image.GetNumberOfPixels() > _LARGE_VOXELS:
        return _resampled_by_slabs(_shrunk_towards(image, grid), grid, outside, pixel_type)
    if interpolation != "nearest":
        image = _smooth_for(_as_real(image), source, grid)
    return _as_type(_sampled(image, grid, interpolation, outside), pixel_type)


def _sampled(
    image: sitk.Image, grid: Grid, interpolation: Interpolation, outside: float
) -> sitk.Image:
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(grid.size)
    resampler.SetOutputSpacing(grid.spacing_mm)
    resampler.SetOutputOrigin(grid.origin_mm)
    resampler.SetOutputDirection(grid.direction)
    resampler.SetInterpolator(_INTERPOLATORS[interpolation])
    resampler.SetDefaultPixelValue(outside)
    return resampler.Execute(image)


def _shrunk_towards(image: sitk.Image, grid: Grid) -> sitk.Image:
    """Means of as many voxels as fit into one of a coarser grid: a cheap low-pass."""
    source = Grid.of(image)
    step = np.abs(source.matrix.T @ grid.matrix) @ np.asarray(grid.spacing_mm)
    factors = [max(1, int(s / own)) for s, own in zip(step, source.spacing_mm, strict=True)]
    return image if max(factors) == 1 else sitk.BinShrink(image, factors)


def _resampled_by_slabs(
    image: sitk.Image, grid: Grid, outside: float, pixel_type: int
) -> sitk.Image:
    """Linear :func:`resample` that holds a slab of the image in floating point at a time."""
    source = Grid.of(image)
    columns, rows, depth = grid.size
    ratio = max(1.0, image.GetNumberOfPixels() / (columns * rows * depth))
    step = max(1, int(_SLAB_VOXELS / (columns * rows * ratio)))
    margin = np.ceil(4 * _sigma_voxels(source, grid)).astype(int) + 2
    parts = []
    for first in range(0, depth, step):
        slab = grid.cropped((0, 0, first), (columns, rows, min(step, depth - first)))
        ends = [(0, n - 1) for n in slab.size]
        corners = np.array(np.meshgrid(*ends, indexing="ij")).reshape(3, -1).T
        index = source.physical_to_index(slab.index_to_physical(corners))
        low = np.clip(np.floor(index.min(0)).astype(int) - margin, 0, source.size)
        high = np.clip(np.ceil(index.max(0)).astype(int) + margin + 1, 0, source.size)
        if np.any(high <= low):
            part = slab.placed(sitk.Image(slab.size, pixel_type)) + outside
        else:
            piece = image[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
            smooth = _smooth_for(_as_real(piece), Grid.of(piece), grid)
            part = _as_type(_sampled(smooth, slab, "linear", outside), pixel_type)
        parts.append(sitk.GetArrayFromImage(part))
    whole = np.concatenate(parts)
    parts.clear()
    return image_from_array(whole, grid)


def image_from_array(array: np.ndarray, grid: Grid) -> sitk.Image:
    """A SimpleITK image of ``array`` ``[z, y, x]`` placed on ``grid``."""
    if array.shape != grid.size[::-1]:
        raise GeometryError(
            "shape-mismatch",
            f"An array of shape {array.shape} does not fit a grid of size {grid.size}.",
            "Arrays are ordered [z, y, x], grids (x, y, z).",
        )
    if array.dtype == bool:
        array = array.astype(np.uint8)
    return grid.placed(sitk.GetImageFromArray(np.ascontiguousarray(array)))


def require_same_grid(first: sitk.Image, second: sitk.Image, names: tuple[str, str]) -> None:
    """Refuse two images that do not share a grid.

    Raises:
        GeometryError: sizes, spacing, origin or direction differ.
    """
    a, b = Grid.of(first), Grid.of(second)
    if a.same_as(b):
        return
    raise GeometryError(
        "grid-mismatch",
        f"The {names[1]} does not lie on the same grid as the {names[0]}: {b.difference_to(a)}.",
        "Resample one onto the other first.",
    )


def _triple(values: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z


def _shown(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in values) + ")"


def _closest_permutation(weights: np.ndarray) -> tuple[int, int, int]:
    """Index axis for each patient axis, the assignment that keeps most of the direction."""

    def kept(order: tuple[int, ...]) -> float:
        return float(sum(weights[r, a] for r, a in enumerate(order)))

    i, j, k = max(permutations(range(3)), key=kept)
    return i, j, k


def _sigma_voxels(source: Grid, target: Grid) -> np.ndarray:
    """Of the low-pass filter along each axis of the source; 0 where no axis gets much coarser."""
    alignment = np.abs(source.matrix.T @ target.matrix)
    target_step = alignment @ np.asarray(target.spacing_mm)
    ratio = target_step / np.asarray(source.spacing_mm)
    if np.all(ratio < 1.25):
        return np.zeros(3)
    return 0.425 * np.sqrt(np.maximum(ratio**2 - 1.0, 0.0))


def _smooth_for(image: sitk.Image, source: Grid, target: Grid) -> sitk.Image:
    sigma_mm = _sigma_voxels(source, target) * np.asarray(source.spacing_mm)
    if not sigma_mm.any():
        return image
    variance_mm2 = [float(s * s) for s in sigma_mm]
    return sitk.DiscreteGaussian(image, variance=variance_mm2, maximumKernelWidth=64)


def _as_real(image: sitk.Image) -> sitk.Image:
    """In a floating-point type, because filters on integers cut the fraction off."""
    if image.GetPixelID() in (sitk.sitkFloat32, sitk.sitkFloat64):
        return image
    wide = image.GetSizeOfPixelComponent() > 2
    return sitk.Cast(image, sitk.sitkFloat64 if wide else sitk.sitkFloat32)


def _as_type(image: sitk.Image, pixel_type: int) -> sitk.Image:
    """Back in ``pixel_type``, rounded to the nearest integer and clamped where it is one."""
    if image.GetPixelID() == pixel_type:
        return image
    return sitk.Clamp(sitk.Round(image), pixel_type)
