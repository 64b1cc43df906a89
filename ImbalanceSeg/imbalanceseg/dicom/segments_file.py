"""What label values mean, in dcmqi's JSON: names, codes and colours of one's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imbalanceseg.errors import InputError
from imbalanceseg.labels import UNLABELLED, CodedConcept, SegmentInfo
from imbalanceseg.reading import printable

_COLOR = (230, 92, 66)
_HINT = (
    "It is dcmqi's JSON: segmentAttributes, a list of lists of objects with labelID, SegmentLabel, "
    "SegmentedPropertyCategoryCodeSequence and SegmentedPropertyTypeCodeSequence."
)


def read_segments_file(path: Path) -> tuple[SegmentInfo, ...]:
    """Segments that a file describes for dcmqi's ``itkimage2segimage``.

    Raises:
        InputError: ``segments-file``.
    """
    try:
        groups = json.loads(path.read_text(encoding="utf-8"))["segmentAttributes"]
        found = tuple(_segment(item) for group in groups for item in group)
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(
            "segments-file",
            f"The segments in {path} cannot be read ({printable(error, 80)}).",
            _HINT,
        ) from error
    if not found:
        raise InputError("segments-file", f"{path} describes no segment.", _HINT)
    return found


def _segment(item: Mapping[str, Any]) -> SegmentInfo:
    label = item["labelID"]
    if not isinstance(label, int) or isinstance(label, bool) or not 0 < label < UNLABELLED:
        raise ValueError(f"the labelID {label!r} is none of 1 to {UNLABELLED - 1}")
    red, green, blue = (int(c) for c in item.get("recommendedDisplayRGBValue", _COLOR))
    if not all(0 <= c <= 255 for c in (red, green, blue)):
        raise ValueError(f"the colour of label {label} is beyond 0 to 255")
    kind = _concept(item["SegmentedPropertyTypeCodeSequence"])
    region = item.get("AnatomicRegionSequence")
    return SegmentInfo(
        label=label,
        name=str(item.get("SegmentLabel") or item.get("SegmentDescription") or kind.meaning),
        category=_concept(item["SegmentedPropertyCategoryCodeSequence"]),
        type=kind,
        color=(red, green, blue),
        region=None if region is None else _concept(region),
    )


def _concept(code: Mapping[str, Any]) -> CodedConcept:
    return CodedConcept(
        str(code["CodeValue"]), str(code["CodeMeaning"]), str(code["CodingSchemeDesignator"])
    )
