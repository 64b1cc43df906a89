"""Post-processing that a validation has shown to help."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imbalanceseg.training.validation import dice_by_class

Labels = NDArray[np.uint8]


def largest_component_helps(
    predictions: Sequence[Labels], labels: Sequence[Labels], classes: int
) -> tuple[int, ...]:
    """Classes whose mean Dice rises when only their largest component is kept.

    nnU-Net asks the same of all foreground together first; here each class answers for itself, so
    that no class is made worse for another's sake.

    Args:
        predictions: uint8, one a case.
        labels: uint8, on the same grids; 255 unlabelled.
        classes: foreground classes.

    Source: Isensee et al., Nature Methods 18, 2021.
    """
    values = range(1, classes + 1)
    gains: dict[int, list[float]] = {value: [] for value in values}
    for prediction, label in zip(predictions, labels, strict=True):
        before = dice_by_class(prediction, label, classes)
        after = dice_by_class(keep_largest(prediction, values), label, classes)
        for value, a, b in zip(values, before, after, strict=True):
            if a is not None and b is not None:
                gains[value].append(b - a)
    return tuple(value for value in values if gains[value] and np.mean(gains[value]) > 0)


def keep_largest(labels: Labels, values: Sequence[int]) -> Labels:
    """Only the largest component of each of ``values``; 26-connected, 8-connected in 2D."""
    import cc3d

    kept = labels.copy()
    for value in values:
        mask = labels == value
        largest = cc3d.largest_k(mask, k=1, connectivity=26 if labels.ndim == 3 else 8) > 0
        kept[mask & ~largest] = 0
    return kept
