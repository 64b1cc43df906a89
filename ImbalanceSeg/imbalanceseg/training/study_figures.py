"""What a run of the loss study is judged by: voxels, instances by size, the tree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.metrics.airway import airway_score
from imbalanceseg.metrics.instances import Match, connected_instances, instance_score
from imbalanceseg.metrics.overlap import overlap
from imbalanceseg.planning.prepare import PreparedCase
from imbalanceseg.training.study_sets import PreparedSet, StudySet
from imbalanceseg.training.validation import case_probability, labels_of

_SIZES = ("small", "medium", "large")
_THRESHOLD = 0.5

Labels = NDArray[np.uint8]


def judged(
    one: StudySet,
    prepared: PreparedSet,
    network: nn.Module,
    patch: Sequence[int],
    device: torch.device,
) -> dict[str, float | None]:
    """Segment the cases to judge on, at a probability of 0.5 and without any post-processing.

    Args:
        one: says what is counted beside voxels.
        prepared: its cases.
        network: in evaluation mode.
        patch: that it was trained with.
        device: where it is.

    Returns:
        Figures in [0, 1], more is better; None where nothing can be counted. Voxel figures and
        those of the tree are means over cases, instances of all cases are counted together.
    """
    cases = prepared.judging
    predictions = [
        labels_of(case_probability([network], case, patch, device).cpu(), _THRESHOLD)
        for case in cases
    ]
    spacing = prepared.plan.spacing_mm
    figures: dict[str, float | None] = {**_voxel_figures(predictions, cases)}
    if one.judged == "tree":
        return figures | _tree_figures(predictions, cases, spacing)
    return figures | instance_figures(
        predictions, [case.components() for case in cases], spacing, prepared.size_edges
    )


def instance_figures(
    predictions: Sequence[Labels],
    references: Sequence[NDArray[np.int32]],
    spacing_mm: Sequence[float],
    size_edges: Sequence[float],
) -> dict[str, float | None]:
    """F1 of instances, any overlap; of all, and of those below, between and above two sizes.

    A reference instance that is missed belongs to the size that it has, a predicted one that
    matches nothing to its own. A pair belongs to the size of the reference.

    Args:
        predictions: a mask a case.
        references: instance numbers a case, 0 on background.
        spacing_mm: along the axes of both.
        size_edges: two sizes in mm3 (pixels in 2D).
    """
    found, missed, false = (np.zeros(len(_SIZES), np.int64) for _ in range(3))
    for prediction, reference in zip(predictions, references, strict=True):
        predicted = connected_instances(prediction > 0)
        arguments = (spacing_mm, Match.OVERLAP, size_edges)
        score = instance_score(predicted, reference, *arguments)
        # The other way round, the strata are those of the predictions.
        reverse = instance_score(reference, predicted, *arguments)
        found += [stratum.found_count for stratum in score.strata]
        missed += [stratum.reference_count - stratum.found_count for stratum in score.strata]
        false += [stratum.reference_count - stratum.found_count for stratum in reverse.strata]
    by_size = {
        f"instance_f1_{size}": _f1(*(int(counts[n]) for counts in (found, missed, false)))
        for n, size in enumerate(_SIZES)
    }
    return {
        "instance_f1": _f1(int(found.sum()), int(missed.sum()), int(false.sum())),
        **by_size,
    }


def _f1(found: int, missed: int, false: int) -> float | None:
    whole = 2 * found + missed + false
    return 2 * found / whole if whole else None


def _voxel_figures(
    predictions: Sequence[Labels], cases: Sequence[PreparedCase]
) -> dict[str, float]:
    counts = [
        overlap(prediction > 0, case.label() > 0)
        for prediction, case in zip(predictions, cases, strict=True)
    ]
    return {
        name: float(np.mean([getattr(each, name) for each in counts]))
        for name in ("dice", "recall", "precision")
    }


def _tree_figures(
    predictions: Sequence[Labels], cases: Sequence[PreparedCase], spacing_mm: Sequence[float]
) -> dict[str, float | None]:
    scores = []
    for prediction, case in zip(predictions, cases, strict=True):
        z, y, x = spacing_mm
        size = (case.shape[2], case.shape[1], case.shape[0])
        # Prepared cases run to superior, posterior and left.
        grid = Grid(size, (x, y, z), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
        scores.append(
            airway_score(image_from_array(prediction, grid), image_from_array(case.label(), grid))
        )
    return {
        "length_detected": float(np.mean([score.length_detected for score in scores])),
        "branch_detected": float(np.mean([score.branch_detected for score in scores])),
        "tree_precision": float(np.mean([score.precision for score in scores])),
    }
