"""Annotations in files: a NRRD image whose header says which slices are finished.

The voxels are what every reader understands: 0 background, 1..K classes, 255 unlabelled. What an
image cannot say stands in the key/value fields of the header, as JSON.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from imbalanceseg.annotation.annotation import Annotation, ConfirmedSlice
from imbalanceseg.errors import GeometryError, InputError, OutputError
from imbalanceseg.geometry import Grid, require_same_grid
from imbalanceseg.io import read_image, write_image
from imbalanceseg.labels import UNLABELLED

FORMAT_VERSION = 1
"""Raised when an older reader would misunderstand the file."""

VERSION_KEY = "ImbalanceSeg_FormatVersion"
CONFIRMED_KEY = "ImbalanceSeg_ConfirmedSlices"
"""JSON ``[[axis, index], ...]``, axes and indices as in :class:`ConfirmedSlice`."""
CLASSES_KEY = "ImbalanceSeg_Classes"
"""JSON list of the classes that were looked for; absent where all were."""

_REPAIR = "Save the annotation again, or remove the ImbalanceSeg fields of its header."


def save_annotation(annotation: Annotation, path: str | os.PathLike[str]) -> None:
    """Write an annotation without loss, compressed, whole or not at all.

    Args:
        annotation: also one in which nothing is labelled.
        path: file name that ends in ``.nrrd`` (so also ``.seg.nrrd``); its folder must exist.

    Raises:
        OutputError: the name ends otherwise, or the file cannot be written.
    """
    target = Path(path)
    if not target.name.lower().endswith(".nrrd"):
        raise OutputError(
            "annotation-format",
            f"An annotation cannot be kept in a file of the name {target.name}.",
            "End the name in .seg.nrrd or .nrrd.",
        )
    image = annotation.image
    for key, value in header_fields(annotation).items():
        image.SetMetaData(key, value)
    write_image(image, target)


def load_annotation(path: str | os.PathLike[str], image: sitk.Image | None = None) -> Annotation:
    """Read an annotation, or take a label image as one.

    Args:
        path: a file of :func:`save_annotation`, or a label image in any format that
            :func:`~imbalanceseg.io.read_image` reads. Of a plain label image the voxels 255 are
            unlabelled and no slice is confirmed.
        image: the scan; with it the annotation must lie on the scan's grid.

    Returns:
        The annotation, on the scan's own grid where the scan is given.

    Raises:
        InputError: the file cannot be read (see :func:`~imbalanceseg.io.read_image`), it holds
            something else than labels, its header is damaged (``annotation-header``,
            ``slice-outside``, ``annotation-classes``) or a newer program wrote it
            (``annotation-too-new``).
        GeometryError: ``grid-mismatch``.
    """
    labels = read_image(path)
    name = Path(path).name
    if image is not None:
        _require_grid_of(image, labels, name)
        Grid.of(image).placed(labels)
    return annotation_from(labels, name)


def header_fields(annotation: Annotation) -> dict[str, str]:
    """What its voxels do not say, as fields of a header: the keys above."""
    confirmed = [[int(one.axis), int(one.index)] for one in annotation.confirmed]
    fields = {VERSION_KEY: str(FORMAT_VERSION), CONFIRMED_KEY: _json(confirmed)}
    if annotation.classes is not None:
        fields[CLASSES_KEY] = _json([int(value) for value in annotation.classes])
    return fields


def annotation_from(labels: sitk.Image, name: str) -> Annotation:
    """A label image, with :func:`header_fields` in its meta data or without, as an annotation.

    Args:
        labels: 0..K, 255 unlabelled.
        name: of what it was read from, for messages.

    Raises:
        InputError: as :func:`load_annotation`.
    """
    _require_known_version(labels, name)
    confirmed = _confirmed(labels, name)
    return Annotation.from_labels(labels, confirmed, _classes(labels, name))


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _require_grid_of(image: sitk.Image, labels: sitk.Image, name: str) -> None:
    try:
        require_same_grid(image, labels, ("scan", f"annotation {name}"))
    except GeometryError as error:
        raise GeometryError(
            error.code,
            error.message,
            "Give the annotation that was painted on this scan, or resample it onto the scan with "
            "nearest neighbours.",
        ) from error


def _require_known_version(labels: sitk.Image, name: str) -> None:
    version = _field(labels, VERSION_KEY, name)
    if version is None:
        return
    if not _is_whole(version) or version < 1:
        raise _damaged(name, "its format version is no whole number from 1")
    if version > FORMAT_VERSION:
        raise InputError(
            "annotation-too-new",
            f"The annotation {name} has format {_short(version)}, this program knows up to "
            f"{FORMAT_VERSION}.",
            "Update ImbalanceSeg, or save the annotation as a plain label image.",
        )


def _confirmed(labels: sitk.Image, name: str) -> list[ConfirmedSlice]:
    listed = _field(labels, CONFIRMED_KEY, name)
    if listed is None:
        return []
    if not isinstance(listed, list) or not all(
        isinstance(one, list) and len(one) == 2 and all(map(_is_whole, one)) for one in listed
    ):
        raise _damaged(name, "its finished slices are no list of pairs of whole numbers")
    if len(listed) > sum(labels.GetSize()):
        raise _damaged(name, f"it lists {len(listed)} finished slices, more than the scan has")
    size = labels.GetSize()
    for axis, index in listed:
        if axis not in range(3) or not 0 <= index < size[axis]:
            raise InputError(
                "slice-outside",
                f"The annotation {name} says that slice {_short(index)} along axis "
                f"{_short(axis)} is finished, and its {' x '.join(map(str, size))} voxels have "
                "no such slice.",
                _REPAIR,
            )
    return [ConfirmedSlice(axis, index) for axis, index in listed]


def _classes(labels: sitk.Image, name: str) -> list[int] | None:
    listed = _field(labels, CLASSES_KEY, name)
    if listed is None:
        return None
    if not isinstance(listed, list) or not all(
        _is_whole(value) and 0 < value < UNLABELLED for value in listed
    ):
        raise _damaged(name, "its classes are no list of whole numbers from 1 to 254")
    return listed


def _field(labels: sitk.Image, key: str, name: str) -> Any:
    """The value of a JSON field of the header, or None where there is no such field."""
    if not labels.HasMetaDataKey(key):
        return None
    try:
        value = json.loads(labels.GetMetaData(key))
    except (ValueError, RecursionError) as error:
        raise _damaged(name, f"its field {key} is no JSON") from error
    if value is None:
        raise _damaged(name, f"its field {key} is empty")
    return value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(number: int) -> str:
    """A number for people; a hostile header may hold one of thousands of digits."""
    text = str(number)
    return text if len(text) <= 10 else f"{text[:9]}..."


def _damaged(name: str, why: str) -> InputError:
    return InputError(
        "annotation-header", f"The header of the annotation {name} is damaged: {why}.", _REPAIR
    )
