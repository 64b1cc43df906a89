"""Give one scan the grey values of another, as V-Net's augmentation does."""

from __future__ import annotations

import SimpleITK as sitk

from imbalanceseg.errors import InputError

_LEVELS = 1024


def match_histogram(image: sitk.Image, other: sitk.Image, match_points: int = 10) -> sitk.Image:
    """Map the intensities of an image so that its quantiles become those of another.

    Quantiles are taken over all voxels at ``match_points`` equal steps between the extremes, and
    intensities between two of them are mapped linearly, so order is kept and no structure appears.

    Args:
        image: 3D scalar image.
        other: 3D scalar image of the same kind, for example another patient's MR; its size may
            differ.
        match_points: quantiles to match besides the two extremes.

    Returns:
        float32 image on the grid of ``image``.

    Raises:
        InputError: ``match_points`` is below 1 or above 256.

    Source: Milletari et al., V-Net, 3DV 2016, section 3 (augmentation); Nyul et al., IEEE TMI 2000.
    """
    if not 1 <= match_points <= 256:
        raise InputError(
            "match-points-invalid",
            f"{match_points} match points cannot be used.",
            "Use 1 to 256; ten keep tissue contrasts apart.",
        )
    return sitk.HistogramMatching(
        sitk.Cast(image, sitk.sitkFloat32),
        sitk.Cast(other, sitk.sitkFloat32),
        numberOfHistogramLevels=_LEVELS,
        numberOfMatchPoints=match_points,
        thresholdAtMeanIntensity=False,
    )
