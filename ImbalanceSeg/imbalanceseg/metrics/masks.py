"""Label images as the boolean arrays that metrics count in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, image_from_array, resample
from imbalanceseg.labels import BACKGROUND, UNLABELLED

Mask = NDArray[np.bool_]


def label_values(image: sitk.Image, name: str) -> NDArray[np.integer]:
    """The voxels of a label image, ``[z, y, x]``.

    Args:
        image: 3D scalar image of whole numbers; the pixel type may be real.
        name: what the image is, for the error message: ``"prediction"``, ``"reference"``.

    Raises:
        InputError: vector pixels, or values that are not whole numbers from 0 to 65535.
        GeometryError: the image is not 3D.
    """
    Grid.of(image)
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            "labels-not-scalar",
            f"The {name} has {image.GetNumberOfComponentsPerPixel()} values per voxel, "
            "one label is needed.",
            "Export the segmentation as one labelmap.",
        )
    values = sitk.GetArrayViewFromImage(image)
    if values.dtype == np.uint8:
        return np.asarray(values)
    low, high = float(values.min()), float(values.max())
    # Written so that NaN fails it.
    if not (low >= 0 and high <= np.iinfo(np.uint16).max):
        raise InputError(
            "labels-out-of-range",
            f"The {name} has values from {low:g} to {high:g}, labels are whole numbers from 0.",
            "Give a label image, not intensities or a distance map.",
        )
    labels = values.astype(np.uint16)
    if np.issubdtype(values.dtype, np.floating) and not np.array_equal(labels, values):
        raise InputError(
            "labels-not-whole",
            f"The {name} has values between the whole numbers, so it is no label image.",
            "Threshold the probability map first, for example at 0.5.",
        )
    return np.asarray(labels)


def foreground(labels: NDArray[np.integer]) -> Mask:
    """Where a label other than background stands; unlabelled voxels are not foreground."""
    return np.asarray((labels != BACKGROUND) & (labels != UNLABELLED))


def bounding_box(mask: Mask) -> tuple[slice, slice, slice]:
    """The smallest box around a mask; one voxel in the corner when the mask is empty."""
    spans = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        hits = np.flatnonzero(mask.any(axis=others))
        spans.append(slice(int(hits[0]), int(hits[-1]) + 1) if len(hits) else slice(0, 1))
    return spans[0], spans[1], spans[2]


def upright(
    masks: Sequence[Mask], grid: Grid, around: Mask | None = None
) -> tuple[list[Mask], Grid]:
    """Masks cut to one box and turned so that their axes run nearest to S, P, L.

    Thinning visits voxels in index order; turning first makes a result the same for every storage
    order of one anatomy.

    Args:
        masks: ``[z, y, x]`` arrays on ``grid``.
        grid: where they lie.
        around: the box is that of this mask; that of all ``masks`` together when None.

    Returns:
        The masks on the new grid, and that grid: axis 0 ascends towards the head.
    """
    box = bounding_box(np.logical_or.reduce(list(masks)) if around is None else around)
    start = [span.start for span in reversed(box)]
    size = [span.stop - span.start for span in reversed(box)]
    part = grid.cropped(start, size)
    turned = part.oriented_lps()
    images = [image_from_array(mask[box].astype(np.uint8), part) for mask in masks]
    arrays = [sitk.GetArrayFromImage(resample(i, turned, "nearest")) > 0 for i in images]
    return arrays, turned
