"""Distances between the surfaces of two masks in millimetres, computed by MONAI."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from imbalanceseg.metrics.masks import Mask, bounding_box


def hausdorff_mm(
    prediction: Mask,
    reference: Mask,
    spacing_mm: tuple[float, float, float],
    percentile: float = 100,
) -> float:
    """Hausdorff distance: the larger of the two directed percentiles of surface distances.

    Args:
        prediction: ``[z, y, x]``.
        reference: same shape.
        spacing_mm: distance of voxel centres along the same axes.
        percentile: 100 is the Hausdorff distance itself, 95 the usual robust form.

    Returns:
        Distance in mm; 0 when both masks are empty, infinite when one is.
    """
    from monai.metrics import compute_hausdorff_distance

    pair = _cut(prediction, reference)
    if pair is None:
        return _without_surface(prediction, reference)
    with _without_warnings_to_monai():
        found = compute_hausdorff_distance(
            *pair, include_background=True, percentile=percentile, spacing=_floats(spacing_mm)
        )
    return float(found.item())


def assd_mm(prediction: Mask, reference: Mask, spacing_mm: tuple[float, float, float]) -> float:
    """Average symmetric surface distance; arguments and empty masks as in :func:`hausdorff_mm`."""
    from monai.metrics import compute_average_surface_distance

    pair = _cut(prediction, reference)
    if pair is None:
        return _without_surface(prediction, reference)
    with _without_warnings_to_monai():
        found = compute_average_surface_distance(
            *pair, include_background=True, symmetric=True, spacing=_floats(spacing_mm)
        )
    return float(found.item())


def surface_dice(
    prediction: Mask,
    reference: Mask,
    spacing_mm: tuple[float, float, float],
    tolerance_mm: float,
) -> float:
    """Share of both surfaces that lies within a tolerance of the other surface.

    Args:
        prediction: ``[z, y, x]``.
        reference: same shape.
        spacing_mm: distance of voxel centres along the same axes.
        tolerance_mm: deviation that counts as none, for example what two readers differ by.

    Returns:
        0..1; surface elements weigh by their area. 1 when both masks are empty, 0 when one is.

    Source: Nikolov et al., arXiv 1809.04430.
    """
    from monai.metrics import compute_surface_dice

    pair = _cut(prediction, reference)
    if pair is None:
        return 0.0 if prediction.any() or reference.any() else 1.0
    with _without_warnings_to_monai():
        found = compute_surface_dice(
            *pair,
            [tolerance_mm],
            include_background=True,
            spacing=_floats(spacing_mm),
            use_subvoxels=True,
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


def _floats(spacing_mm: tuple[float, float, float]) -> list[float]:
    """MONAI refuses a spacing that mixes whole and real numbers."""
    return [float(step) for step in spacing_mm]


def _without_surface(prediction: Mask, reference: Mask) -> float:
    return math.inf if prediction.any() or reference.any() else 0.0


@contextmanager
def _without_warnings_to_monai() -> Iterator[None]:
    """Keep quiet that MONAI 1.6 calls one of its own deprecated arguments."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"monai\.")
        yield
