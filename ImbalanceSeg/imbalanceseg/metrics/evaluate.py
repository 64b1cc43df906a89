"""Compare a segmentation with a reference: one call, figures by name.

| figure | meaning | both empty | one empty |
|---|---|---|---|
| dice, iou, precision, recall | overlap in voxels, 0..1 | 1 | 0 |
| volume_error | abs(P - G) / G | 0 | 1, or infinite when G is |
| hd_mm, hd95_mm | Hausdorff distance and its 95th percentile, mm | 0 | infinite |
| assd_mm | average symmetric surface distance, mm | 0 | infinite |
| surface_dice | share of both surfaces within a tolerance of the other, 0..1 | 1 | 0 |
| instance_f1, instance_sensitivity, instance_precision | lesions found, any overlap, 0..1 | 1 | 0 |
| instance_f1_iou50 | the same F1, an IoU of one half needed | 1 | 0 |
| instance_sensitivity_small, _medium, _large | below 100 mm3, up to 1000, above | NaN | 0 or NaN |
| length_detected, branch_detected | shares of the tree found, 0..1 | 1 | 0 |
| leakage_mm3 | volume of the largest component outside G, mm3 | 0 | that volume |

``"airway"`` stands for the last three, which take every label as airway; see
:func:`~imbalanceseg.metrics.airway.airway_score`. ``"instances"`` stands for those that count
instances, see :mod:`imbalanceseg.metrics.instances`; a sensitivity is NaN where the reference has
no instance of that size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import SimpleITK as sitk

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, require_same_grid
from imbalanceseg.labels import BACKGROUND, UNLABELLED
from imbalanceseg.metrics.masks import Mask, bounding_box, label_values
from imbalanceseg.metrics.overlap import overlap

OVERLAP_METRICS = ("dice", "iou", "precision", "recall", "volume_error")
SURFACE_METRICS = ("hd_mm", "hd95_mm", "assd_mm", "surface_dice")
SIZE_EDGES_MM3 = (100.0, 1000.0)
_SIZES = ("small", "medium", "large")
INSTANCE_METRICS = (
    "instance_f1",
    "instance_sensitivity",
    "instance_precision",
    "instance_f1_iou50",
    *(f"instance_sensitivity_{size}" for size in _SIZES),
)
AIRWAY_METRICS = ("length_detected", "branch_detected", "leakage_mm3")
METRIC_GROUPS = {"airway": AIRWAY_METRICS, "instances": INSTANCE_METRICS}
DEFAULT_METRICS = ("dice", "iou", "precision", "recall", "hd95_mm", "assd_mm", "volume_error")

_Spacing = tuple[float, float, float]


def evaluate(
    prediction: sitk.Image,
    reference: sitk.Image,
    metrics: Iterable[str] = DEFAULT_METRICS,
    labels: Sequence[int] | None = None,
    tolerance_mm: float = 1.0,
    smallest_instance_mm3: float = 0.0,
) -> dict[str, float]:
    """Score a segmentation.

    Args:
        prediction: 3D label image.
        reference: label image on the same grid; voxels with 255 are ignored in both.
        metrics: names from the table of this module.
        labels: label values to score; those that occur in either image when None, and 1 when
            none does.
        tolerance_mm: of ``surface_dice``.
        smallest_instance_mm3: smaller components of either image are no instances.

    Returns:
        Each figure by its name, as the mean over ``labels``. With more than one label also the
        figure of each, ``"dice[2]"``. Figures of one label appear under the plain name only.

    Raises:
        GeometryError: the images are not 3D or do not share a grid.
        InputError: an unknown metric, an unusable label value, tolerance or size, or an image that
            is no label image.
        DependencyError: instances are to be counted and panoptica is not installed.
    """
    names = _expanded(metrics)
    if not 0 <= tolerance_mm < float("inf"):
        raise InputError(
            "tolerance-invalid",
            f"A tolerance of {tolerance_mm} mm cannot be used.",
            "Give a distance in mm that is not negative.",
        )
    if not 0 <= smallest_instance_mm3 < float("inf"):
        raise InputError(
            "size-invalid",
            f"Instances of at least {smallest_instance_mm3} mm3 cannot be counted.",
            "Give a volume in mm3 that is not negative.",
        )
    require_same_grid(prediction, reference, ("prediction", "reference"))
    found = label_values(prediction, "prediction")
    truth = label_values(reference, "reference")
    known = truth != UNLABELLED
    values = _checked(labels) if labels is not None else _occurring(found, truth, known)
    x, y, z = Grid.of(reference).spacing_mm
    # Rounding must not leave out a component of exactly the size.
    smallest = max(1, math.ceil(smallest_instance_mm3 / (x * y * z) - 1e-6))
    each = {
        value: _figures(
            (found == value) & known, truth == value, names, (z, y, x), tolerance_mm, smallest
        )
        for value in values
    }
    airway = _airway_figures(prediction, reference, names)
    figures: dict[str, float] = {}
    for name in names:
        figures.update({name: airway[name]} if name in airway else _averaged(name, each))
    return figures


def _averaged(name: str, each: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    """The mean of a figure over labels, then the figure of each where there are several."""
    of_label = {f"{name}[{value}]": figures[name] for value, figures in each.items()}
    defined = [figure for figure in of_label.values() if not np.isnan(figure)]
    mean = {name: float(np.mean(defined)) if defined else float("nan")}
    return mean | of_label if len(of_label) > 1 else mean


def _expanded(metrics: Iterable[str]) -> list[str]:
    if isinstance(metrics, str):
        metrics = [metrics]
    names: dict[str, None] = {}
    known = (*OVERLAP_METRICS, *SURFACE_METRICS, *INSTANCE_METRICS, *AIRWAY_METRICS)
    for metric in metrics:
        if metric not in METRIC_GROUPS and metric not in known:
            raise InputError(
                "metric-unknown",
                f"There is no metric {metric!r}.",
                f"Choose from {', '.join((*known, *METRIC_GROUPS))}.",
            )
        names.update(dict.fromkeys(METRIC_GROUPS.get(metric, (metric,))))
    return list(names)


def _checked(labels: Sequence[int]) -> list[int]:
    for value in labels:
        if not 1 <= value < UNLABELLED:
            raise InputError(
                "label-out-of-range",
                f"Label {value} cannot be scored; labels are 1 to {UNLABELLED - 1}.",
            )
    if not len(labels):
        raise InputError("labels-none", "No label to score was given.", "Name at least one.")
    return [int(value) for value in dict.fromkeys(labels)]


def _occurring(found: np.ndarray, truth: np.ndarray, known: Mask) -> list[int]:
    values = set(np.unique(found[known]).tolist()) | set(np.unique(truth).tolist())
    return sorted(values - {BACKGROUND, UNLABELLED}) or [1]


def _figures(
    found: Mask,
    truth: Mask,
    names: Sequence[str],
    spacing_mm: _Spacing,
    tolerance_mm: float,
    smallest_instance: int,
) -> dict[str, float]:
    box = bounding_box(found | truth)
    found, truth = found[box], truth[box]
    counts = overlap(found, truth)
    figures = {name: float(getattr(counts, name)) for name in names if name in OVERLAP_METRICS}
    for name in names:
        if name in SURFACE_METRICS:
            figures[name] = _surface_metric(name, tolerance_mm)(found, truth, spacing_mm)
    if any(name in INSTANCE_METRICS for name in names):
        figures |= _instance_figures(found, truth, spacing_mm, smallest_instance)
    return figures


def _surface_metric(name: str, tolerance_mm: float) -> Callable[[Mask, Mask, _Spacing], float]:
    from imbalanceseg.metrics import surface

    of_name: dict[str, Callable[[Mask, Mask, _Spacing], float]] = {
        "hd_mm": surface.hausdorff_mm,
        "hd95_mm": partial(surface.hausdorff_mm, percentile=95),
        "assd_mm": surface.assd_mm,
        "surface_dice": partial(surface.surface_dice, tolerance_mm=tolerance_mm),
    }
    return of_name[name]


def _instance_figures(
    found: Mask, truth: Mask, spacing_mm: _Spacing, smallest: int
) -> dict[str, float]:
    from imbalanceseg.metrics.instances import Match, connected_instances, instance_score

    pair = connected_instances(found, smallest), connected_instances(truth, smallest)
    touching = instance_score(*pair, spacing_mm, Match.OVERLAP, SIZE_EDGES_MM3)
    figures = {
        "instance_f1": touching.f1,
        "instance_sensitivity": touching.sensitivity,
        "instance_precision": touching.precision,
        "instance_f1_iou50": instance_score(*pair, spacing_mm, Match.HALF).f1,
    }
    for size, stratum in zip(_SIZES, touching.strata, strict=True):
        figures[f"instance_sensitivity_{size}"] = stratum.sensitivity
    return figures


def _airway_figures(
    prediction: sitk.Image, reference: sitk.Image, names: Sequence[str]
) -> dict[str, float]:
    wanted = [name for name in names if name in AIRWAY_METRICS]
    if not wanted:
        return {}
    from imbalanceseg.metrics.airway import airway_score

    score = airway_score(prediction, reference)
    return {name: float(getattr(score, name)) for name in wanted}
