"""Whether a probability means what it says: of voxels given 0.7, seven in ten are foreground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imbalanceseg.errors import InputError


@dataclass(frozen=True, eq=False)
class Calibration:
    """The reliability diagram of a foreground probability and the two figures drawn from it.

    Attributes:
        predicted: mean probability of each bin, ``[bins]``; NaN where a bin is empty.
        observed: share of foreground in each bin, ``[bins]``; NaN where a bin is empty.
        counts: voxels in each bin, ``[bins]``.
        expected_error: mean gap between the two, each bin weighed by its voxels (ECE), 0..1.
        largest_error: the largest gap of any bin (MCE), 0..1.
        brier: mean squared difference of probability and label, 0..1.
    """

    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    counts: NDArray[np.int64]
    expected_error: float
    largest_error: float
    brier: float


def calibration(
    probability: NDArray[np.floating], foreground: NDArray[np.bool_], bins: int = 15
) -> Calibration:
    """Compare foreground probabilities with what was there.

    Easy background makes any map of a rare structure look calibrated: pass the voxels near the
    structure only, see :func:`~imbalanceseg.metrics.maps.evaluate_maps`.

    Args:
        probability: in [0, 1], any shape.
        foreground: same shape.
        bins: equally wide bins of probability.

    Raises:
        InputError: the shapes differ, there is no voxel, or a probability is not in [0, 1].

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, in its binary form.
    """
    p = np.asarray(probability, dtype=np.float64).ravel()
    g = np.asarray(foreground, dtype=bool).ravel()
    if p.shape != g.shape or not p.size:
        raise InputError(
            "calibration-shapes",
            f"{p.size} probabilities cannot be compared with {g.size} labels.",
            "Give one probability for each voxel, and at least one voxel.",
        )
    # Written so that NaN fails it.
    if not (p.min() >= 0 and p.max() <= 1):
        raise InputError(
            "probability-out-of-range",
            f"The probability map has values from {p.min():g} to {p.max():g}, not from 0 to 1.",
            "Give the probability of foreground, not logits or labels above 1.",
        )
    which = np.minimum((p * bins).astype(np.int64), bins - 1)
    counts = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        predicted = np.bincount(which, p, bins) / counts
        observed = np.bincount(which, g, bins) / counts
    gap = np.abs(predicted - observed)[counts > 0]
    return Calibration(
        predicted,
        observed,
        counts,
        expected_error=float((gap * counts[counts > 0]).sum() / p.size),
        largest_error=float(gap.max()),
        brier=float(np.mean((p - g) ** 2)),
    )
