"""A DICOM series as a volume: which series a folder holds, in what order its slices lie, and where.

A series whose slices form no regular grid is resampled onto one where it is certain how, and what
was decided is told. Everything else is refused with the reason, because a reader that guesses would
put voxels in the wrong place of the patient.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataelem import RawDataElement
from pydicom.pixels import apply_modality_lut
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from imbalanceseg.dicom_tags import tag_numbers, tag_text
from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.multiframe import multiframe_grid, multiframe_voxels
from imbalanceseg.progress import ProgressCallback, ProgressEvent, ignore_progress
from imbalanceseg.reading import printable, quiet_readers, require_memory
from imbalanceseg.slice_stack import Stack, resampled_stack, stack

_NOT_IMAGES = {"SEG", "PR", "SR", "KO", "REG", "RTSTRUCT", "RTPLAN", "RTDOSE", "DOC", "PLAN"}


_PLAIN_SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
_DEFERRED_BYTES = 256


class SeriesDecision(UserWarning):
    """What was decided about the slices of a series, in a sentence that names no patient."""


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


@dataclass(frozen=True, eq=False)
class Series:
    """A series that makes a volume.

    Attributes:
        info: which series it is.
        headers: datasets without pixels, ordered along the slice normal.
        files: their files, in the same order.
        grid: where the voxels of the volume lie; k runs along the slice normal.
        slices: how the files become the volume; None where one file holds all of it.
    """

    info: SeriesInfo
    headers: tuple[pydicom.Dataset, ...]
    files: tuple[Path, ...]
    grid: Grid
    slices: Stack | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided about its slices, a sentence each."""
        return () if self.slices is None else self.slices.notes

    def on_slices(self, voxels: np.ndarray) -> np.ndarray:
        """Voxels of the volume ``[z, y, x, ...]``, on the slices of the files instead.

        Where the volume was resampled, each pixel gets the nearest voxel.
        """
        if self.slices is None or self.slices.regular:
            return voxels
        rows, columns = (int(self.headers[0].get(k)) for k in ("Rows", "Columns"))
        steps = self.slices.depth_mm / self.grid.spacing_mm[2]
        aside = np.rint(self.slices.aside_mm / np.array(self.grid.spacing_mm[:2])).astype(int)
        return np.stack(
            [
                voxels[int(np.rint(k)), y : y + rows, x : x + columns]
                for k, (x, y) in zip(steps, aside, strict=True)
            ]
        )


def list_series(folder: str | os.PathLike[str]) -> list[SeriesInfo]:
    """The image series whose files lie directly in ``folder``, those with most images first.

    Files that are not DICOM, and DICOM objects that are not images, are passed over.

    Raises:
        InputError: no such folder, nothing in it, no DICOM image in it, or a damaged DICOM file.
    """
    return [info for info, _ in _grouped(Path(folder))]


@dataclass(frozen=True)
class IndexedSeries:
    """A series somewhere below a folder, and what would become of it.

    Attributes:
        folder: that its files lie in.
        uid: Series Instance UID.
        modality: ``"CT"``, ``"MR"``, ...
        description: Series Description.
        images: how many files.
        size: voxels of the volume along i, j, k; None where it makes none.
        spacing_mm: of the volume; None likewise.
        notes: what would be decided about its slices.
        problem: why it makes no volume; empty where it does.
    """

    folder: Path
    uid: str
    modality: str
    description: str
    images: int
    size: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    notes: tuple[str, ...] = ()
    problem: str = ""


def index_series(
    folder: str | os.PathLike[str], progress: ProgressCallback = ignore_progress
) -> list[IndexedSeries]:
    """The image series in a folder and in all folders inside it, by folder.

    Args:
        folder: what to search; links to other folders are not followed.
        progress: receives an event a folder.

    Raises:
        InputError: no such folder, or no DICOM image in any of them.
    """
    root = Path(folder)
    if not root.is_dir():
        _files_in(root)
    folders = [Path(place) for place, _, files in os.walk(root) if files]
    found: list[IndexedSeries] = []
    for done, place in enumerate(sorted(folders)):
        progress(ProgressEvent("index", done, len(folders), printable(place.name)))
        try:
            listed = list_series(place)
        except InputError as error:
            if error.code not in ("no-dicom", "folder-empty"):
                found.append(IndexedSeries(place, "", "", "", 0, problem=error.message))
            continue
        found += [_indexed(place, info) for info in listed]
    progress(ProgressEvent("index", len(folders), len(folders)))
    if not found:
        raise InputError(
            "no-dicom",
            f"Neither {root} nor any folder in it holds a DICOM image.",
            "Check the path for typing errors.",
        )
    return found


def _indexed(place: Path, info: SeriesInfo) -> IndexedSeries:
    told = IndexedSeries(place, info.uid, info.modality, info.description, len(info.files))
    try:
        opened = open_series(place, info.uid)
    except InputError as error:
        return replace(told, problem=error.message)
    grid = opened.grid
    return replace(told, size=grid.size, spacing_mm=grid.spacing_mm, notes=opened.notes)


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
    """Read the headers of one series and find the volume that its slices make.

    Args:
        folder: folder whose files are looked at; folders inside it are not.
        series_uid: Series Instance UID, needed where the folder holds several placed series; or
            the modality, or some words of the description, that only one of them has.

    Raises:
        InputError: no or several series, or a series that makes no volume.
    """
    info, headers = _choose(_grouped(Path(folder)), Path(folder), series_uid)
    if info.kind == "multiframe":
        return Series(info, tuple(headers), info.files, multiframe_grid(info.files[0], str(info)))
    made = stack(headers, info.files, str(info))
    return Series(
        info=info,
        headers=tuple(headers[n] for n in made.order),
        files=tuple(info.files[n] for n in made.order),
        grid=made.grid,
        slices=made,
    )


def read_series(series: Series) -> sitk.Image:
    """The voxels of a series, rescaled, on ``series.grid``.

    What was decided about its slices is told as a :class:`SeriesDecision`.

    Returns:
        int16 image where the values fit, else int32, or float32 where the rescale is fractional.

    Raises:
        InputError: a file cannot be decoded, or the volume is too large for the memory.
    """
    for note in series.notes:
        warnings.warn(note, SeriesDecision, stacklevel=3)
    if series.slices is None:
        # The library decodes into 64 bit.
        require_memory(12 * math.prod(series.grid.size), f"The series {series.info}")
        voxels = multiframe_voxels(series.files[0], series.grid)
        return _narrowed(image_from_array(voxels, series.grid))
    require_memory(
        (6 if series.slices.regular else 16) * math.prod(series.grid.size),
        f"The series {series.info}",
    )
    image = _read_slices(series)
    if series.slices.regular:
        return _narrowed(series.grid.placed(image))
    values = resampled_stack(sitk.GetArrayViewFromImage(image), series.slices)
    return _narrowed(image_from_array(values, series.grid))


def _read_slices(series: Series) -> sitk.Image:
    """All slices above one another, wherever they lie."""
    if any("ModalityLUTSequence" in header for header in series.headers):
        return sitk.GetImageFromArray(np.stack([_looked_up(path) for path in series.files]))
    pixel_type = _pixel_type(series)
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
    columns, rows = (int(series.headers[0].get(k)) for k in ("Columns", "Rows"))
    if image.GetSize() != (columns, rows, len(series.files)):
        raise _undecodable(series)
    return image


def _looked_up(path: Path) -> np.ndarray:
    """Values of a slice that come from a table in its file, which ITK does not know."""
    try:
        with quiet_readers():
            dataset = pydicom.dcmread(path)
            return np.asarray(apply_modality_lut(dataset.pixel_array, dataset), np.int32)
    except Exception as error:  # the decoders raise almost anything
        raise _unreadable(path) from error


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
            sound = bool(tag_text(header, "Modality")) and _ends_soundly(path, header)
    except Exception as error:  # a damaged file makes the parser raise almost anything
        raise _unreadable(path) from error
    if not sound:
        raise _unreadable(path)
    return header


def _ends_soundly(path: Path, header: pydicom.Dataset) -> bool:
    """Whether what follows the pixels claims no more than the file holds.

    GDCM takes as much memory as a damaged end claims. Only where everything lies in the file as it
    is, without compression, can its places be compared with the file's size.
    """
    if header.file_meta.get("TransferSyntaxUID") not in _PLAIN_SYNTAXES:
        return True
    whole = pydicom.dcmread(path, defer_size=_DEFERRED_BYTES)
    pixels = whole.get_item("PixelData")
    if not isinstance(pixels, RawDataElement):
        return True
    size = path.stat().st_size
    # Not by their tags: those of a damaged end are any.
    behind = (
        element
        for element in whole.values()
        if isinstance(element, RawDataElement) and element.value_tell > pixels.value_tell
    )
    return all(element.value_tell + element.length <= size for element in behind)


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
    storage = pydicom.uid.UID(tag_text(header.file_meta, "MediaStorageSOPClassUID")).name
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
        chosen = [item for item in found if item[0].uid == series_uid] or [
            item for item in found if item[0].kind != "unplaced" and _is_meant(item[0], series_uid)
        ]
        if not chosen:
            raise InputError(
                "series-not-found",
                f"The folder {folder} has no series {printable(series_uid, 70)}, "
                f"it holds {_listing(found)}.",
                "Give one of the UIDs that are listed, or words of one description.",
            )
    else:
        chosen = [item for item in found if item[0].kind != "unplaced"] or found
    if len(chosen) > 1:
        raise InputError(
            "several-series",
            f"The folder {folder} holds {len(chosen)} series: {_listing(chosen)}.",
            "Pick one with --series: its UID, or words that only its description has.",
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
    if info.kind == "multiframe" and len(info.files) > 1:
        raise InputError(
            "dicom-multiframe",
            f"The series {info} keeps several frames in each of {len(info.files)} files, which "
            "is not supported.",
            "Give a folder with one of them.",
        )


def _is_meant(info: SeriesInfo, words: str) -> bool:
    """Whether words, in capitals or not, are the modality or all in the description."""
    asked, said = words.casefold().split(), info.description.casefold()
    return bool(asked) and (
        words.casefold() == info.modality.casefold() or all(word in said for word in asked)
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
            syntax = pydicom.uid.UID(tag_text(header.file_meta, "TransferSyntaxUID")).name
            return InputError(
                "dicom-undecodable",
                f"The pixels of the DICOM file {path.name} cannot be decoded "
                f"({printable(syntax) or 'unknown encoding'}).",
                "Copy or export the series again, uncompressed if the file is not damaged.",
            )
    return _unreadable(series.files[0])
