"""Where a structure must go on that painted slices cut through.

A model that has seen one slice is often wrong about how far the structure reaches, and sure of it.
What the slice itself shows is a better guess: what is broad in it goes on for about as long.
"""

from __future__ import annotations

import cc3d
import numpy as np
from numpy.typing import NDArray

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.annotation.hard_regions import Coarse
from imbalanceseg.annotation.painted_result import hangs_together, shown_in
from imbalanceseg.annotation.patient_order import PatientOrder
from imbalanceseg.labels import BACKGROUND, UNLABELLED

_MOST_PIECES = 2
"""In the only painted slice, for one structure."""


def continuation(annotation: Annotation, order: PatientOrder) -> Coarse:
    """Foreground that is to be expected beside painted slices, in voxels of each block.

    A piece of the area ``a`` goes on along the normal of its slice as a Gaussian with a standard
    deviation of ``sqrt(a) / 2``, so that a ball is expected to be about as long as it is wide.
    Lesions, which do not hang together from slice to slice, are not expected to go on.

    Args:
        annotation: of the scan.
        order: of the scan.

    Returns:
        ``[s, p, l]``, 0 where nothing is expected.
    """
    expected = np.zeros(order.block_voxels.shape, np.float32)
    if not _is_one_structure(annotation):
        return expected
    labels = order.turned(annotation.labels)
    for one in shown_in(annotation):
        axis = order.patient_axis(one.axis)
        position = order.position(axis, one.index)
        plane = np.ascontiguousarray(labels.take(position, 2 - axis))
        across = [n for n in (2, 1, 0) if n != axis]
        spacing = [order.grid.spacing_mm[n] for n in across]
        shown, width_mm = _pieces(plane, spacing[0] * spacing[1])
        blocks = [order.block_lengths(n) for n in across]
        covered = _by_block(np.add, shown.astype(np.float32), blocks)
        covered /= np.multiply.outer(*blocks)
        width_mm = np.maximum(_by_block(np.maximum, width_mm, blocks), 1e-6)
        gap_mm = np.abs(order.block_centres(axis) - position) * order.grid.spacing_mm[axis]
        goes_on = np.exp(-0.5 * np.multiply.outer(gap_mm, 1 / width_mm) ** 2) * covered
        np.maximum(expected, np.moveaxis(goes_on, 0, 2 - axis), out=expected)
    return expected * order.block_voxels


def _is_one_structure(annotation: Annotation) -> bool:
    shown = shown_in(annotation)
    if len(shown) != 1:
        return hangs_together(annotation)
    plane = annotation.plane(shown[0].axis, shown[0].index)
    pieces = cc3d.connected_components(_foreground(plane), connectivity=8)
    return int(pieces.max()) <= _MOST_PIECES


def _pieces(
    plane: NDArray[np.uint8], pixel_mm2: float
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Foreground of a slice, and half the edge of a square of the area of each piece in mm."""
    shown = _foreground(plane)
    pieces = cc3d.connected_components(shown, connectivity=8)
    areas = np.bincount(pieces.ravel()) * pixel_mm2
    areas[0] = 0
    return shown, (np.sqrt(areas) / 2).astype(np.float32)[pieces]


def _by_block(
    combine: np.ufunc, plane: NDArray[np.float32], lengths: list[NDArray[np.int64]]
) -> NDArray[np.float32]:
    for axis, steps in enumerate(lengths):
        plane = combine.reduceat(plane, np.cumsum(steps) - steps, axis=axis)
    return plane


def _foreground(plane: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray((plane != BACKGROUND) & (plane != UNLABELLED))
