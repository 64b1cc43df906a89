"""How a scanner that takes thick slices sees a finely sampled volume."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from imbalanceseg.geometry import Grid, image_from_array

Plane = Literal["axial", "coronal", "sagittal"]

# Directions of the index axes i, j and k of each plane; k runs through the slices.
_AXES = {
    "axial": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "coronal": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "sagittal": ((0, 1, 0), (0, 0, -1), (-1, 0, 0)),
}
_LAYER_MM = 1.0


@dataclass(frozen=True)
class Slices:
    """A stack of thick slices.

    Attributes:
        grid: of the slices.
        layers: samples through each slice whose mean it shows.
    """

    grid: Grid
    layers: int

    @classmethod
    def over(
        cls,
        low_mm: Sequence[float],
        high_mm: Sequence[float],
        plane: Plane,
        pixel_mm: float,
        slice_mm: float,
    ) -> Slices:
        """Slices that cover a box between two LPS corners.

        Args:
            low_mm: corner with the smallest coordinates.
            high_mm: the opposite corner.
            plane: of the slices.
            pixel_mm: pixel size within a slice.
            slice_mm: thickness of a slice, and distance to the next.
        """
        axes = np.array(_AXES[plane], float).T
        spacing = (pixel_mm, pixel_mm, slice_mm)
        low, high = np.asarray(low_mm, float), np.asarray(high_mm, float)
        extent = np.abs(axes.T @ (high - low))
        i, j, k = (max(8, math.ceil(e / s)) for e, s in zip(extent, spacing, strict=True))
        half = np.array([(n - 1) / 2 * s for n, s in zip((i, j, k), spacing, strict=True)])
        x, y, z = (low + high) / 2 - axes @ half
        grid = Grid((i, j, k), spacing, (float(x), float(y), float(z)), tuple(axes.ravel()))
        return cls(grid, max(1, round(slice_mm / _LAYER_MM)))

    def of(self, volume: Tensor, grid: Grid) -> Tensor:
        """What the slices show of a volume; 0 beyond it.

        Args:
            volume: float32 ``[D, H, W]``.
            grid: where its voxels lie.

        Returns:
            float32 ``[k, j, i]`` on the grid of the slices.
        """
        x, y, z = self.grid.spacing_mm
        fine = self.grid.with_spacing((x, y, z / self.layers))
        source = image_from_array(volume.numpy(), grid)
        sampled = sitk.Resample(
            source, fine.size, sitk.Transform(), sitk.sitkLinear, fine.origin_mm, fine.spacing_mm,
            fine.direction, 0.0, sitk.sitkFloat32,
        )  # fmt: skip
        layers = torch.from_numpy(sitk.GetArrayFromImage(sampled))
        return layers.reshape(-1, self.layers, *layers.shape[1:]).mean(dim=1)
