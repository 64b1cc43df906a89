"""Score the maps that come with a segmentation: is the probability honest, is hardness right?"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, require_same_grid
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.metrics.calibration import calibration
from imbalanceseg.metrics.error_ranking import error_auroc, sparsification
from imbalanceseg.metrics.masks import Mask, foreground, label_values

REACH_VOXELS = 3
"""Voxels this near to the prediction or the reference are scored; farther ones are easy for all."""


def evaluate_maps(
    prediction: sitk.Image,
    reference: sitk.Image,
    probability: sitk.Image | None = None,
    hardness: sitk.Image | None = None,
) -> dict[str, float]:
    """Score a probability and a hardness map near the structure.

    Only labelled voxels at most :data:`REACH_VOXELS` from the foreground of the prediction or the
    reference count: with rare foreground every map is right about the rest.

    Args:
        prediction: label image.
        reference: label image on the same grid; 255 is ignored.
        probability: foreground probability on that grid.
        hardness: any map on that grid that is larger where errors are expected.

    Returns:
        ``calibration_error`` and ``brier`` for a probability (0 is best), ``hardness_auroc`` (1 is
        best) and ``hardness_sparsification_error`` (0 is best) for a hardness map. NaN where
        nothing, or everything, is wrong or there is no foreground.

    Raises:
        GeometryError: the grids differ.
        InputError: an image is no label image, or a map has values it cannot have.
    """
    require_same_grid(prediction, reference, ("prediction", "reference"))
    found, truth = label_values(prediction, "prediction"), label_values(reference, "reference")
    at = near(foreground(found) | foreground(truth)) & (truth != UNLABELLED)
    figures: dict[str, float] = {}
    if probability is not None:
        values = _map_values(probability, reference, "probability map")[at]
        scored = calibration(values, foreground(truth)[at]) if values.size else None
        figures["calibration_error"] = scored.expected_error if scored else float("nan")
        figures["brier"] = scored.brier if scored else float("nan")
    if hardness is not None:
        values, wrong = _map_values(hardness, reference, "hardness map")[at], (found != truth)[at]
        figures["hardness_auroc"] = error_auroc(values, wrong)
        figures["hardness_sparsification_error"] = (
            sparsification(values, wrong).error if wrong.any() else float("nan")
        )
    return figures


def near(mask: Mask) -> Mask:
    """Voxels within a cube of :data:`REACH_VOXELS` around the mask."""
    grown = ndimage.maximum_filter(mask.view(np.uint8), 2 * REACH_VOXELS + 1, mode="constant")
    return np.asarray(grown > 0)


def _map_values(image: sitk.Image, reference: sitk.Image, name: str) -> np.ndarray:
    Grid.of(image)
    require_same_grid(image, reference, (name, "reference"))
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            "map-not-scalar",
            f"The {name} has {image.GetNumberOfComponentsPerPixel()} values per voxel.",
            "Give an image with one value per voxel.",
        )
    return np.asarray(sitk.GetArrayViewFromImage(image), dtype=np.float64)
