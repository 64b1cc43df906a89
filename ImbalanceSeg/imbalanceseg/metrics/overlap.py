"""Overlap of two masks: Dice, IoU, precision and recall from counted voxels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imbalanceseg.errors import GeometryError
from imbalanceseg.metrics.masks import Mask


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of a prediction against a reference.

    Two empty masks agree: every figure is 1. When one of the two is empty every figure is 0.

    Attributes:
        both: voxels in both masks (true positives).
        prediction_only: voxels of the prediction outside the reference (false positives).
        reference_only: voxels of the reference that the prediction misses (false negatives).
    """

    both: int
    prediction_only: int
    reference_only: int

    @property
    def dice(self) -> float:
        """Dice similarity coefficient, 2 |P and G| / (|P| + |G|)."""
        return self._share(2 * self.both, 2 * self.both + self._apart)

    @property
    def iou(self) -> float:
        """Intersection over union (Jaccard index), |P and G| / |P or G|."""
        return self._share(self.both, self.both + self._apart)

    @property
    def precision(self) -> float:
        """Share of the prediction that lies in the reference."""
        return self._share(self.both, self.both + self.prediction_only)

    @property
    def recall(self) -> float:
        """Share of the reference that the prediction covers (sensitivity)."""
        return self._share(self.both, self.both + self.reference_only)

    @property
    def volume_error(self) -> float:
        """Relative volume error | |P| - |G| | / |G|; infinite when only the reference is empty."""
        difference = abs(self.prediction_only - self.reference_only)
        reference = self.both + self.reference_only
        if reference == 0:
            return 0.0 if difference == 0 else float("inf")
        return difference / reference

    @property
    def _apart(self) -> int:
        return self.prediction_only + self.reference_only

    def _share(self, part: int, whole: int) -> float:
        if self.both + self._apart == 0:
            return 1.0
        return part / whole if whole else 0.0


def overlap(prediction: Mask, reference: Mask) -> Overlap:
    """Count the overlap of two boolean arrays of one shape.

    Raises:
        GeometryError: the shapes differ.
    """
    if prediction.shape != reference.shape:
        raise GeometryError(
            "shape-mismatch",
            f"The prediction has shape {prediction.shape}, the reference {reference.shape}.",
            "Resample one onto the other first.",
        )
    both = int(np.count_nonzero(prediction & reference))
    return Overlap(
        both=both,
        prediction_only=int(np.count_nonzero(prediction)) - both,
        reference_only=int(np.count_nonzero(reference)) - both,
    )
