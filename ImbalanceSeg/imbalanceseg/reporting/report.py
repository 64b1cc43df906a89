"""The machine-readable account of a result, ``report.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk

from imbalanceseg.geometry import Grid
from imbalanceseg.inference.segmentation import Segmentation
from imbalanceseg.labels import SegmentInfo
from imbalanceseg.reporting.environment import (
    peak_device_memory_mib,
    peak_memory_mib,
    software_versions,
)
from imbalanceseg.reporting.statistics import SegmentStatistics, segment_statistics

if TYPE_CHECKING:
    from imbalanceseg.models.bundle import Model

SCHEMA_VERSION = 1
NOT_FOR_CLINICAL_USE = "Not for clinical use."
_CARD_FIELDS = ("title", "intended_use", "modality", "body_part", "license", "limitations")


def build_report(
    image: sitk.Image,
    result: Segmentation,
    model: Model,
    *,
    case: str,
    seconds: Mapping[str, float],
    files: Sequence[str] = (),
) -> dict[str, Any]:
    """What was made from what, by which weights, how much of it there is and what it cost.

    Nothing in it identifies the patient: no header field of the scan is taken over, only its
    geometry and intensity range.

    Args:
        image: the scan.
        result: its segmentation.
        model: the model that made it.
        case: name of the case, the last part of the path it was read from.
        seconds: wall time of each stage outside the model, added to ``result.seconds``.
        files: names of the files that lie beside the report.

    Returns:
        A dict that JSON can hold (no NaN, no numpy types).
    """
    stages = {name: round(value, 3) for name, value in (*seconds.items(), *result.seconds.items())}
    return {
        "schema_version": SCHEMA_VERSION,
        "disclaimer": NOT_FOR_CLINICAL_USE,
        "case": case,
        "software": software_versions(),
        "model": _model_part(model),
        "image": _image_part(image),
        "segments": _segment_parts(result),
        "seconds": stages,
        "total_seconds": round(sum(stages.values()), 3),
        "peak_memory_mib": _rounded(peak_memory_mib(), 1),
        "peak_device_memory_mib": _rounded(peak_device_memory_mib(), 1),
        "device": result.device,
        "backend": result.backend,
        "hardness": result.hardness_kind,
        "notes": list(result.notes),
        "files": list(files),
    }


def _model_part(model: Model) -> dict[str, Any]:
    card = model.card.model_dump(mode="json", include=set(_CARD_FIELDS))
    sums = [weights.sha256 for weights in model.card.weights]
    return {
        "name": model.name,
        "version": model.version,
        "sha256": sums[0] if sums else None,
        # what is the average of several networks has several files of weights
        "sha256_of_all": sums,
        "card": card,
    }


def _image_part(image: sitk.Image) -> dict[str, Any]:
    grid = Grid.of(image)
    array = sitk.GetArrayViewFromImage(image)
    return {
        "size": list(grid.size),
        "spacing_mm": [round(v, 6) for v in grid.spacing_mm],
        "origin_lps_mm": [round(v, 4) for v in grid.origin_mm],
        "direction_lps": [round(v, 9) for v in grid.direction],
        "pixel_type": image.GetPixelIDTypeAsString(),
        "intensity_range": [float(np.min(array)), float(np.max(array))],
    }


def _segment_parts(result: Segmentation) -> list[dict[str, Any]]:
    statistics = segment_statistics(result.labels, result.segments, result.hardness)
    return [_segment_part(s, one) for s, one in zip(result.segments, statistics, strict=True)]


def _segment_part(segment: SegmentInfo, statistics: SegmentStatistics) -> dict[str, Any]:
    figures = asdict(statistics)
    box = figures.pop("bounding_box_lps_mm")
    return figures | {
        "volume_ml": round(statistics.volume_ml, 6),
        "mean_hardness": _rounded(statistics.mean_hardness, 4),
        "bounding_box_lps_mm": None if box is None else {"low": box[0], "high": box[1]},
        "category": asdict(segment.category),
        "type": asdict(segment.type),
        "region": None if segment.region is None else asdict(segment.region),
        "color": list(segment.color),
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, digits)
