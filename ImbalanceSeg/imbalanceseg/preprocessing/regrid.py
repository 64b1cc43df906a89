"""The grid that a network works on, and how an image gets there without mixing thick slices."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from imbalanceseg.geometry import Grid, Interpolation, resample
from imbalanceseg.reading import require_memory

_THICK = 3
_VOXEL_BYTES = 4

Steps = list[tuple[Grid, bool]]
"""Grids to go through one after the other; True where the nearest slice is taken."""


def steps_to(
    grid: Grid, spacing_mm: Sequence[float], axes: Sequence[int], anisotropic: bool
) -> Steps:
    """The way from a grid to one of another spacing over the same extent.

    Where slices are thick, more than three times the spacing within them, they are not mixed:
    across them the nearest slice is taken.

    Args:
        grid: of an image turned to LPS.
        spacing_mm: wanted, along the axes of the network.
        axes: the array's axis (Z, Y, X) that each axis of the network is, slices first.
        anisotropic: treat slices as thick, whatever those of ``grid`` are.

    Source: Isensee et al., Nature Methods 18, 2021.
    """
    target = list(grid.spacing_mm)
    for network_axis, case_axis in enumerate(axes):
        target[2 - case_axis] = spacing_mm[network_axis]
    across = 2 - axes[0]
    others = [step for axis, step in enumerate(grid.spacing_mm) if axis != across]
    thick = anisotropic or grid.spacing_mm[across] > _THICK * max(others)
    if not thick:
        return [(grid.with_spacing(target), False)]
    within = [grid.spacing_mm[a] if a == across else target[a] for a in range(3)]
    in_plane = grid.with_spacing(within)
    return [(in_plane, False), (in_plane.with_spacing(target), True)]


def regridded(
    image: sitk.Image,
    steps: Steps,
    interpolation: Interpolation,
    outside: float = 0.0,
    pixel_type: int | None = None,
) -> sitk.Image:
    """The image on the last grid of ``steps``; arguments of :func:`~.geometry.resample`.

    Raises:
        InputError: ``image-too-large``, mostly of a spacing that cannot be right.
    """
    largest = max((grid.size for grid, _ in steps), key=prod, default=image.GetSize())
    require_memory(
        _VOXEL_BYTES * prod(largest),
        f"The image of {' x '.join(map(str, image.GetSize()))} voxels, "
        f"{' x '.join(f'{step:.4g}' for step in image.GetSpacing())} mm, "
        f"as {' x '.join(map(str, largest))} voxels,",
        "Check the spacing in its header.",
    )
    for grid, nearest in steps:
        how: Interpolation = "nearest" if nearest else interpolation
        image = resample(image, grid, how, outside, pixel_type)
    return image


def nonzero_box(inside: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """The smallest box ``[Z, Y, X]`` that holds all of a mask; all of it where it is empty."""
    spans = []
    for axis in range(3):
        hits = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        low, high = (int(hits[0]), int(hits[-1]) + 1) if len(hits) else (0, inside.shape[axis])
        spans.append(slice(low, high))
    return spans[0], spans[1], spans[2]
