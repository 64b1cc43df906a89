"""Is this image something a segmentation model can look at?"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid


def check_scan(image: sitk.Image, one_slice: bool = False) -> None:
    """Refuse an image that no model can segment.

    Args:
        image: the scan, meant to be 3D and scalar, LPS geometry in mm.
        one_slice: let a single slice pass, for 2D models.

    Raises:
        InputError: ``image-not-3d``, ``image-not-scalar``, ``image-too-thin`` (one voxel along an
            axis), ``geometry-singular``, ``image-not-finite`` (NaN or infinity) or
            ``image-constant``.
    """
    _check_shape(image, 1 if one_slice else 2)
    _check_geometry(image)
    _check_values(image)


def _check_shape(image: sitk.Image, thinnest: int) -> None:
    size = " x ".join(map(str, image.GetSize()))
    if image.GetDimension() != 3:
        raise InputError(
            "image-not-3d",
            f"The image has {image.GetDimension()} dimensions (size {size}), three are needed.",
            "Give one 3D volume; split a 4D image into its volumes first.",
        )
    complex_types = (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64)
    if image.GetNumberOfComponentsPerPixel() != 1 or image.GetPixelID() in complex_types:
        raise InputError(
            "image-not-scalar",
            "The image has several values a voxel (colour, vector or complex), one is needed.",
            "Convert it to one grey value a voxel.",
        )
    if min(image.GetSize()) < thinnest:
        raise InputError(
            "image-too-thin",
            f"The image has a single voxel along an axis (size {size}), which makes no volume.",
            "Give a volume of several slices.",
        )


def _check_geometry(image: sitk.Image) -> None:
    grid = Grid.of(image)
    if grid.is_sound():
        return
    raise InputError(
        "geometry-singular",
        f"The image has unusable geometry (spacing {grid.spacing_mm} mm, origin "
        f"{grid.origin_mm} mm, direction {grid.direction}).",
        "Correct spacing, origin and direction in the header, or export the image again.",
    )


def _check_values(image: sitk.Image) -> None:
    voxels = sitk.GetArrayViewFromImage(image)
    low, high = voxels.min(), voxels.max()
    # NaN travels through minimum and maximum, infinity is one of them.
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(
            "image-not-finite",
            "The image holds voxels that are NaN or infinite.",
            "Replace them with the value of air or background and save the image again.",
        )
    if low == high:
        raise InputError(
            "image-constant",
            f"Every voxel of the image has the value {low:g}.",
            "Check that the right image was exported.",
        )
