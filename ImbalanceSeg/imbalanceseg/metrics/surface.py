"""Distances between the surfaces of two masks in millimetres, computed by MONAI."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from imbalanceseg.metrics.masks import Mask, bounding_box


def hd95_mm(prediction: Mask, reference: Mask, spacing_mm: tuple[float, float, float]) -> float:
    """95th percentile Hausdorff distance: the larger of the two directed 95th percentiles.

    Args:
        prediction: ``[z, y, x]``.
        reference: same shape.
        spacing_mm: distance of voxel centres along the same axes.

    Returns:
        Distance in mm; 0 when both masks are empty, infinite when one is.
    """
    from monai.metrics import compute_hausdorff_distance

    pair = _cut(prediction, reference)
    if pair is None:
        return _without_surface(prediction, reference)
    with _without_warnings_to_monai():
        found = compute_hausdorff_distance(
            *pair, include_background=True, percentile=95, spacing=list(spacing_mm)
        )
    return float(found.item())


def assd_mm(prediction: Mask, reference: Mask, spacing_mm: tuple[float, float, float]) -> float:
    """Average symmetric surface distance; arguments and empty masks as in :func:`hd95_mm`."""
    from monai.metrics import compute_average_surface_distance

    pair = _cut(prediction, reference)
    if pair is None:
        return _without_surface(prediction, reference)
    with _without_warnings_to_monai():
        found = compute_average_surface_distance(
            *pair, include_background=True, symmetric=True, spacing=list(spacing_mm)
        )
    return float(found.item())


def _cut(prediction: Mask, reference: Mask) -> tuple[Any, Any] | None:
    """Both masks within the box around them as MONAI wants them, or None when one is empty."""
    import torch

    if not (prediction.any() and reference.any()):
        return None
    box = bounding_box(prediction | reference)
    first, second = (torch.from_numpy(m[box].astype(np.uint8)) for m in (prediction, reference))
    return first[None, None], second[None, None]


def _without_surface(prediction: Mask, reference: Mask) -> float:
    return math.inf if prediction.any() or reference.any() else 0.0


@contextmanager
def _without_warnings_to_monai() -> Iterator[None]:
    """Keep quiet that MONAI 1.6 calls one of its own deprecated arguments."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"monai\.")
        yield
