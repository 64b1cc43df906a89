"""Attribute values of a DICOM dataset as plain text and numbers, whatever a file puts there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom

from imbalanceseg.errors import InputError
from imbalanceseg.reading import printable, quiet_readers


def tag_text(header: pydicom.Dataset, keyword: str) -> str:
    """An attribute as one printable line; empty where it is absent, empty or unparsable."""
    try:
        with quiet_readers():
            value = header.get(keyword)
    except Exception:  # an unparsable descriptive value must not stop the reading
        return ""
    return "" if value is None else printable(value, 64)


def tag_numbers(
    header: pydicom.Dataset,
    keyword: str,
    count: int,
    path: Path,
    default: float | None = None,
) -> np.ndarray:
    """The finite numbers of an attribute, float64 of shape ``[count]``.

    Args:
        header: dataset to look into.
        keyword: DICOM keyword.
        count: how many numbers it must have.
        path: file of the dataset, for the messages.
        default: value that stands for an absent or empty attribute; None makes it required.

    Raises:
        InputError: ``dicom-tag-missing`` or ``dicom-tag-invalid``, naming the attribute.
    """
    try:
        with quiet_readers():
            value = header.get(keyword)
            empty = value is None or value == ""
            values = np.empty(0) if empty else np.array(value, dtype=np.float64).reshape(-1)
    except Exception as error:  # the parser raises almost anything
        raise invalid_tag(path, keyword) from error
    if empty and default is not None:
        return np.full(count, default)
    if empty:
        raise InputError(
            "dicom-tag-missing",
            f"The DICOM file {path.name} lacks {tag_label(keyword)}.",
            "Export the series again with all its attributes.",
        )
    if values.size != count or not np.isfinite(values).all():
        raise invalid_tag(path, keyword)
    return values


def invalid_tag(path: Path, keyword: str) -> InputError:
    """The error for an attribute whose value cannot be used."""
    return InputError(
        "dicom-tag-invalid",
        f"The DICOM file {path.name} has an unusable value in {tag_label(keyword)}.",
        "Export the series again from its source.",
    )


def tag_label(keyword: str) -> str:
    """A keyword with its number: ``"PixelSpacing (0028,0030)"``."""
    tag = pydicom.tag.Tag(keyword)
    return f"{keyword} ({tag.group:04X},{tag.element:04X})"
