"""A DICOM series as a volume: which series a folder holds, in what order its slices lie, and where.

A series is taken only if its slices form a regular grid. Everything else is refused with the
reason, because a reader that guesses would put voxels in the wrong place of the patient.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
import SimpleITK as sitk

from imbalanceseg.dicom_tags import tag_numbers, tag_text
from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid
from imbalanceseg.reading import printable, quiet_readers, require_memory
from imbalanceseg.slice_stack import stack

_NOT_IMAGES = {"SEG", "PR", "SR", "KO", "REG", "RTSTRUCT", "RTPLAN", "RTDOSE", "DOC", "PLAN"}


@dataclass(frozen=True)
class SeriesInfo:
    """What a person needs to tell one series of a folder from another.

    Attributes:
        uid: Series Instance UID; empty where the files carry none.
        modality: ``"CT"``, ``"MR"``, ...
        description: Series Description, one line.
        files: the image files of the series, ordered by name.
        kind: ``"slices"`` one placed image a file, ``"multiframe"`` several images in a file,
            ``"unplaced"`` images without a position in the patient, such as screenshots.
    """

    uid: str
    modality: str
    description: str
    files: tuple[Path, ...]
    kind: Literal["slices", "multiframe", "unplaced"] = "slices"

    def __str__(self) -> str:
        images = "1 image" if len(self.files) == 1 else f"{len(self.files)} images"
        what = f"{self.modality} '{self.description}'" if self.description else self.modality
        return f"{self.uid or 'no UID'} ({what}, {images})"


@dataclass(frozen=True)
class Series:
    """A series whose slices form a regular grid.

    Attributes:
        info: which series it is.
        headers: datasets without pixels, ordered along the slice normal.
        files: their files, in the same order.
        grid: where the voxels lie; k runs along the slice normal.
    """

    info: SeriesInfo
    headers: tuple[pydicom.Dataset, ...]
    files: tuple[Path, ...]
    grid: Grid


def list_series(folder: str | os.PathLike[str]) -> list[SeriesInfo]:
    """The image series whose files lie directly in ``folder``, those with most images first.

    Files that are not DICOM, and DICOM objects that are not images, are passed over.

    Raises:
        InputError: no such folder, nothing in it, no DICOM image in it, or a damaged DICOM file.
    """
    return [info for info, _ in _grouped(Path(folder))]


def holds_image(folder: str | os.PathLike[str]) -> bool:
    """Whether a DICOM image lies directly in ``folder``, or a file too damaged to tell.

    Raises:
        InputError: there is no such folder, or it cannot be opened.
    """
    try:
        files = _files_in(Path(folder))
    except InputError as error:
        if error.code == "folder-empty":
            return False
        raise
    for path in files:
        try:
            header = _read_header(path)
            if header is not None and _is_image(header, path):
                return True
        except InputError as error:
            if not isinstance(error.__cause__, OSError):
                return True
    return False


def series_uid_of(path: str | os.PathLike[str]) -> str:
    """Series Instance UID of one DICOM file; empty where it carries none.

    Raises:
        InputError: the file is not a readable DICOM file.
    """
    header = _read_header(Path(path))
    return "" if header is None else tag_text(header, "SeriesInstanceUID")


def open_series(folder: str | os.PathLike[str], series_uid: str | None = None) -> Series:
    """Read the headers of one series and check that its slices form a regular grid.

    Args:
        folder: folder whose files are looked at; folders inside it are not.
        series_uid: Series Instance UID, needed where the folder holds several placed series.

    Raises:
        InputError: no or several series, or a series that is not one regular volume.
    """
    info, headers = _choose(_grouped(Path(folder)), Path(folder), series_uid)
    order, grid = stack(headers, info.files, str(info))
    return Series(
        info=info,
        headers=tuple(headers[n] for n in order),
        files=tuple(info.files[n] for n in order),
        grid=grid,
    )


def read_series(series: Series) -> sitk.Image:
    """The voxels of a series, rescaled, on ``series.grid``.

    Returns:
        int16 image where the values fit, else int32, or float32 where the rescale is fractional.

    Raises:
        InputError: a file cannot be decoded, or the volume is too large for the memory.
    """
    pixel_type = _pixel_type(series)
    require_memory(6 * math.prod(series.grid.size), f"The series {series.info}")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(p) for p in series.files])
    reader.SetOutputPixelType(pixel_type)
    reader.LoadPrivateTagsOff()
    reader.MetaDataDictionaryArrayUpdateOff()
    with quiet_readers():
        try:
            image = reader.Execute()
        except RuntimeError as error:
            raise _undecodable(series) from error
    if image.GetSize() != series.grid.size:
        raise _undecodable(series)
    return _narrowed(series.grid.placed(image))


def _grouped(folder: Path) -> list[tuple[SeriesInfo, list[pydicom.Dataset]]]:
    groups: dict[str, list[tuple[Path, pydicom.Dataset]]] = {}
    for path in _files_in(folder):
        header = _read_header(path)
        if header is not None and _is_image(header, path):
            groups.setdefault(tag_text(header, "SeriesInstanceUID"), []).append((path, header))
    if not groups:
        raise InputError(
            "no-dicom",
            f"The folder {folder} holds no DICOM image.",
            "Give the folder that directly holds the slices, or a volume file.",
        )
    found = [(_describe(uid, members), [h for _, h in members]) for uid, members in groups.items()]
    return sorted(found, key=lambda item: (-len(item[0].files), item[0].uid))


def _files_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(
            "path-not-found", f"There is no folder {folder}.", "Check the path for typing errors."
        )
    try:
        files = sorted(p for p in folder.iterdir() if p.is_file())
    except OSError as error:
        raise InputError(
            "file-not-readable",
            f"The folder {folder} cannot be opened ({printable(error.strerror).lower()}).",
            "Check that you may read the folder.",
        ) from error
    if not files:
        raise InputError(
            "folder-empty",
            f"The folder {folder} holds no files.",
            "Give the folder that directly holds the slices.",
        )
    return [p for p in files if p.name != "DICOMDIR" and not p.name.startswith(".")]


def _read_header(path: Path) -> pydicom.Dataset | None:
    """The dataset without pixels, or None for a file that is not DICOM."""
    try:
        with open(path, "rb") as stream:
            if stream.read(132)[128:] != b"DICM":
                return None
        with quiet_readers():
            header = pydicom.dcmread(path, stop_before_pixels=True)
    except Exception as error:  # a damaged file makes the parser raise almost anything
        raise _unreadable(path) from error
    if not tag_text(header, "Modality"):
        raise _unreadable(path)
    return header


def _unreadable(path: Path) -> InputError:
    return InputError(
        "dicom-unreadable",
        f"The DICOM file {path.name} is damaged or incomplete.",
        "Copy or export the series again.",
    )


def _is_image(header: pydicom.Dataset, path: Path) -> bool:
    if tag_text(header, "Modality") in _NOT_IMAGES:
        return False
    if "Rows" in header and "Columns" in header:
        return True
    storage = pydicom.uid.UID(str(header.file_meta.get("MediaStorageSOPClassUID", ""))).name
    if storage.endswith("Image Storage"):
        raise _unreadable(path)
    return False


def _describe(uid: str, members: list[tuple[Path, pydicom.Dataset]]) -> SeriesInfo:
    first = members[0][1]
    placed = [h for _, h in members if "ImagePositionPatient" in h]
    kind: Literal["slices", "multiframe", "unplaced"]
    if any(tag_text(h, "NumberOfFrames") not in ("", "1") for _, h in members):
        kind = "multiframe"
    else:
        kind = "slices" if placed else "unplaced"
    return SeriesInfo(
        uid=uid,
        modality=tag_text(first, "Modality") or "unknown modality",
        description=tag_text(first, "SeriesDescription"),
        files=tuple(p for p, _ in members),
        kind=kind,
    )


def _choose(
    found: list[tuple[SeriesInfo, list[pydicom.Dataset]]], folder: Path, series_uid: str | None
) -> tuple[SeriesInfo, list[pydicom.Dataset]]:
    if series_uid is not None:
        chosen = [item for item in found if item[0].uid == series_uid]
        if not chosen:
            raise InputError(
                "series-not-found",
                f"The folder {folder} has no series {printable(series_uid, 70)}, "
                f"it holds {_listing(found)}.",
                "Give one of the UIDs that are listed.",
            )
    else:
        chosen = [item for item in found if item[0].kind == "slices"] or found
    if len(chosen) > 1:
        raise InputError(
            "several-series",
            f"The folder {folder} holds {len(chosen)} series: {_listing(chosen)}.",
            "Pick one with --series UID.",
        )
    _require_slices(chosen[0][0])
    return chosen[0]


def _require_slices(info: SeriesInfo) -> None:
    if info.kind == "unplaced":
        raise InputError(
            "dicom-no-position",
            f"The images of the series {info} have no position in the patient "
            "(ImagePositionPatient (0020,0032)), so they make no volume.",
            "Give the original slices, not screenshots or projections.",
        )
    if info.kind == "multiframe":
        raise InputError(
            "dicom-multiframe",
            f"The series {info} keeps several frames in one file, which is not supported.",
            "Convert it to NIfTI or to one file a slice first.",
        )


def _listing(found: Sequence[tuple[SeriesInfo, Any]], limit: int = 12) -> str:
    named = [str(info) for info, _ in found[:limit]]
    if len(found) > limit:
        named.append(f"and {len(found) - limit} more")
    return "; ".join(named)


def _pixel_type(series: Series) -> int:
    """SimpleITK pixel type that holds every rescaled value of the series without loss."""
    low, high = 0.0, 0.0
    for header, path in zip(series.headers, series.files, strict=True):
        slope = float(tag_numbers(header, "RescaleSlope", 1, path, default=1.0)[0])
        intercept = float(tag_numbers(header, "RescaleIntercept", 1, path, default=0.0)[0])
        if not (slope.is_integer() and intercept.is_integer()):
            return sitk.sitkFloat32
        bits = min(32, int(tag_numbers(header, "BitsStored", 1, path, default=16)[0]))
        signed = tag_text(header, "PixelRepresentation") == "1"
        stored = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        ends = [slope * value + intercept for value in stored]
        low, high = min(low, *ends), max(high, *ends)
    limits = np.iinfo(np.int16)
    return sitk.sitkInt16 if limits.min <= low and high <= limits.max else sitk.sitkInt32


def _narrowed(image: sitk.Image) -> sitk.Image:
    if image.GetPixelID() != sitk.sitkInt32:
        return image
    values = sitk.GetArrayViewFromImage(image)
    limits = np.iinfo(np.int16)
    if values.min() < limits.min or values.max() > limits.max:
        return image
    return sitk.Cast(image, sitk.sitkInt16)


def _undecodable(series: Series) -> InputError:
    """Names the first file that cannot be decoded alone, and how it is encoded."""
    for path, header in zip(series.files, series.headers, strict=True):
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        try:
            with quiet_readers():
                reader.Execute()
        except RuntimeError:
            syntax = pydicom.uid.UID(str(header.file_meta.get("TransferSyntaxUID", ""))).name
            return InputError(
                "dicom-undecodable",
                f"The pixels of the DICOM file {path.name} cannot be decoded "
                f"({printable(syntax) or 'unknown encoding'}).",
                "Copy or export the series again, uncompressed if the file is not damaged.",
            )
    return _unreadable(series.files[0])
