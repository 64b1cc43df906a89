"""Bronchial trees built of straight round tubes, whose branches and lengths are known exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from imbalanceseg.geometry import Grid, image_from_array

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Tube:
    """A round tube from ``start`` to ``end``, points (x, y, z) in mm."""

    start: Point
    end: Point
    radius: float
    generation: int

    @property
    def length(self) -> float:
        return float(np.linalg.norm(np.subtract(self.end, self.start)))


TREE = (
    Tube((50, 25, 118), (50, 25, 70), 7.0, 0),
    Tube((50, 25, 70), (75, 25, 45), 5.0, 1),
    Tube((50, 25, 70), (28, 25, 48), 5.0, 1),
    Tube((75, 25, 45), (92, 25, 62), 3.0, 2),
    Tube((75, 25, 45), (75, 25, 12), 3.0, 2),
    Tube((28, 25, 48), (10, 25, 66), 3.0, 2),
    Tube((28, 25, 48), (28, 25, 12), 3.5, 2),
    Tube((28, 25, 12), (28, 42, 12), 2.0, 3),
    Tube((28, 25, 12), (28, 8, 12), 2.0, 3),
)
"""Nine branches in four generations; every tube runs along an axis or a diagonal."""

SIZE_MM = (102, 50, 122)


def grid_of(spacing: Point) -> Grid:
    size = tuple(round(mm / s) for mm, s in zip(SIZE_MM, spacing, strict=True))
    return Grid(size, spacing, (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def draw(tubes: tuple[Tube, ...] = TREE, spacing: Point = (1.0, 1.0, 1.0)) -> sitk.Image:
    """The mask of tubes with round ends, on a grid of :data:`SIZE_MM`."""
    grid = grid_of(spacing)
    mask = np.zeros(grid.size[::-1], bool)
    for tube in tubes:
        along, away = _along_and_away(tube, grid)
        mask |= (
            (along >= -tube.radius) & (along <= tube.length + tube.radius) & (away <= tube.radius)
        )
    return image_from_array(mask.astype(np.uint8), grid)


def without(mask: sitk.Image, region: np.ndarray) -> sitk.Image:
    """``mask`` with the voxels of a boolean array set to background."""
    values = sitk.GetArrayFromImage(mask)
    values[region] = 0
    return image_from_array(values, Grid.of(mask))


def _along_and_away(tube: Tube, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Distance along the tube's axis, and to the nearest point of the axis between its ends."""
    k, j, i = np.indices(grid.size[::-1])
    offset = np.stack([i, j, k], axis=-1) * np.asarray(grid.spacing_mm) - tube.start
    axis = np.subtract(tube.end, tube.start) / tube.length
    along = offset @ axis
    nearest = np.clip(along, 0, tube.length)[..., None] * axis
    return along, np.linalg.norm(offset - nearest, axis=-1)
