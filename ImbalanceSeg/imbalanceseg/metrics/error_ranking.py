"""Whether a hardness map points at the errors: what is hard should be what is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from imbalanceseg.errors import InputError


def error_auroc(hardness: NDArray[np.floating], wrong: NDArray[np.bool_]) -> float:
    """Chance that a wrong voxel is harder than a right one; ties count as half.

    Args:
        hardness: any shape, finite.
        wrong: same shape; where the segmentation differs from the reference.

    Returns:
        Area under the ROC curve: 1 when every wrong voxel is harder than every right one, 0.5 for a
        map that knows nothing, NaN when all voxels are right or all are wrong.

    Raises:
        InputError: the shapes differ or a value is not finite.
    """
    score, errors = _flat(hardness, wrong)
    hits = int(errors.sum())
    misses = errors.size - hits
    if not hits or not misses:
        return float("nan")
    ranks = rankdata(score)
    return float((ranks[errors].sum() - hits * (hits + 1) / 2) / (hits * misses))


@dataclass(frozen=True, eq=False)
class Sparsification:
    """How fast errors vanish when the hardest voxels are taken away first.

    Attributes:
        removed: share of the voxels taken away, ``[n]``, from 0 to just below 1.
        remaining: error rate of the rest, ``[n]``, as a share of the rate over all voxels.
        perfect: the same for a map that takes wrong voxels first, ``[n]``.
        error: area between the two curves (AUSE): 0 for a perfect ranking. A map that knows nothing
            has about one minus the area under ``perfect``.
    """

    removed: NDArray[np.float64]
    remaining: NDArray[np.float64]
    perfect: NDArray[np.float64]
    error: float


def sparsification(
    hardness: NDArray[np.floating], wrong: NDArray[np.bool_], steps: int = 50
) -> Sparsification:
    """The sparsification curve of a hardness map; arguments as in :func:`error_auroc`.

    Equally hard voxels leave together, each with the mean error of its kind, so that the order in
    which they are stored does not matter.

    Raises:
        InputError: as :func:`error_auroc`; also when no voxel is wrong.

    Source: Ilg et al., Uncertainty Estimates and Multi-Hypotheses Networks, ECCV 2018.
    """
    score, errors = _flat(hardness, wrong)
    if not errors.any():
        raise InputError(
            "sparsification-no-error",
            "Nothing is wrong, so there are no errors to rank.",
            "Leave out the hardness map for this case.",
        )
    hardest_first = np.argsort(-score, kind="stable")
    _, first, size = np.unique(-score[hardest_first], return_index=True, return_counts=True)
    of_kind = np.add.reduceat(errors[hardest_first].astype(np.float64), first) / size
    removed = np.arange(steps) / steps
    at = np.floor(removed * errors.size).astype(np.int64)
    remaining = _rest(np.repeat(of_kind, size), at)
    perfect = _rest(np.sort(errors)[::-1].astype(np.float64), at)
    area = float(np.trapezoid(remaining - perfect, removed))
    return Sparsification(removed, remaining, perfect, area)


def _rest(errors: NDArray[np.float64], at: NDArray[np.int64]) -> NDArray[np.float64]:
    """Error rate of what is left after ``at`` voxels, as a share of the rate of all."""
    left = errors.sum() - np.concatenate([[0.0], np.cumsum(errors)])[at]
    return np.asarray(left / (errors.size - at) / errors.mean())


def _flat(
    hardness: NDArray[np.floating], wrong: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    score = np.asarray(hardness, dtype=np.float64).ravel()
    errors = np.asarray(wrong, dtype=bool).ravel()
    if score.shape != errors.shape or not np.isfinite(score).all():
        raise InputError(
            "hardness-unusable",
            f"A hardness map of {score.size} values cannot rank {errors.size} voxels.",
            "Give one finite value for each voxel.",
        )
    return score, errors
