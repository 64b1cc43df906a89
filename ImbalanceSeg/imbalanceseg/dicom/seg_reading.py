"""DICOM Segmentation objects of any vendor, read back as images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from imbalanceseg.dicom_tags import tag_text
from imbalanceseg.errors import GeometryError, InputError
from imbalanceseg.geometry import Grid, image_from_array, resample
from imbalanceseg.labels import BACKGROUND, UNLABELLED, CodedConcept, SegmentInfo
from imbalanceseg.multiframe import volume_grid
from imbalanceseg.reading import printable, quiet_readers, require_memory

if TYPE_CHECKING:
    import highdicom as hd

_PRESENT = 0.5
_BACKGROUND_CODE = ("DCM", "125040")
_UNCODED = CodedConcept("85756007", "Tissue")
_COLORS = ((230, 92, 66), (128, 196, 226), (246, 190, 60), (126, 196, 118), (178, 132, 214))
_HALF_VOXEL = 0.501


@dataclass(frozen=True, eq=False)
class ReadSegment:
    """One segment of a file.

    Attributes:
        info: name, codes and colour; its label is the segment's number.
        algorithm: ``"AUTOMATIC"``, ``"SEMIAUTOMATIC"`` or ``"MANUAL"``; empty where the file does
            not say.
        share: uint8, 1 in the segment; or float32, the probability or share of each voxel, where
            the file is fractional. On the grid of the file, which may hold fewer slices than the
            scan.
    """

    info: SegmentInfo
    algorithm: str
    share: sitk.Image

    def mask(self) -> NDArray[np.bool_]:
        """Voxels of the segment ``[z, y, x]``: one half of a fractional one, or more."""
        voxels = sitk.GetArrayViewFromImage(self.share)
        return np.asarray(voxels >= _PRESENT)


@dataclass(frozen=True)
class ReadSegmentation:
    """A DICOM Segmentation.

    Attributes:
        segments: in the order of their numbers, all on one grid; a background that is stored as a
            segment is left out.
        series_uid: series it refers to; empty where the file does not say.
        instance_uid: of the file itself.
        description: of its series.
    """

    segments: tuple[ReadSegment, ...]
    series_uid: str
    instance_uid: str
    description: str

    @property
    def grid(self) -> Grid:
        """Of all segments."""
        return Grid.of(self.segments[0].share)

    def layers(self) -> list[tuple[sitk.Image, tuple[SegmentInfo, ...]]]:
        """Label images in which no segment hides another: one, unless segments overlap.

        Returns:
            Images, uint8, whose values are the segments' numbers, and the segments in each.

        Raises:
            InputError: ``seg-too-many-segments`` for numbers beyond 254.
        """
        numbers = [segment.info.label for segment in self.segments]
        if max(numbers) >= UNLABELLED:
            raise InputError(
                "seg-too-many-segments",
                f"The segmentation has a segment {max(numbers)}; labels go up to {UNLABELLED - 1}.",
                "Split it into files with fewer segments.",
            )
        made: list[tuple[NDArray[np.uint8], list[SegmentInfo]]] = []
        for segment in self.segments:
            mask = segment.mask()
            free = next((layer for layer in made if not layer[0][mask].any()), None)
            if free is None:
                free = (np.zeros(mask.shape, np.uint8), [])
                made.append(free)
            free[0][mask] = segment.info.label
            free[1].append(segment.info)
        grid = self.grid
        return [(image_from_array(values, grid), tuple(infos)) for values, infos in made]


def read_dicom_seg(path: str | os.PathLike[str]) -> ReadSegmentation:
    """Read a DICOM Segmentation: binary, fractional or labelmap, with overlaps, empty slices left
    out, of any program that wrote it.

    Args:
        path: the file.

    Raises:
        InputError: ``dicom-seg-unreadable``; ``not-a-segmentation``; ``seg-without-place`` where
            the frames have no position in the patient or lie on no regular grid; ``seg-empty``
            without any segment; ``image-too-large``.

    Source: DICOM PS3.3 section A.51.
    """
    path = Path(path)
    opened = _opened(path)
    numbers = [n for n in opened.segment_numbers if not _is_background(opened, n)]
    if not numbers:
        raise InputError(
            "seg-empty",
            f"The segmentation {path.name} describes no segment.",
            "Export it again with at least one segment.",
        )
    place = _geometry(opened, path)
    item = 4 if _is_fractional(opened) else 1
    # A segment is read beside those that are kept.
    voxels = int(np.prod(place.spatial_shape, dtype=float))
    require_memory(voxels * item * (len(numbers) + 1), path.name)
    grid, turned = volume_grid(place)
    segments = tuple(
        ReadSegment(
            _info(opened, number),
            tag_text(_described(opened, number), "SegmentAlgorithmType"),
            image_from_array(_voxels(opened, number, turned, path), grid),
        )
        for number in numbers
    )
    referenced = opened.get("ReferencedSeriesSequence") or [{}]
    return ReadSegmentation(
        segments,
        str(referenced[0].get("SeriesInstanceUID", "")),
        str(opened.get("SOPInstanceUID", "")),
        tag_text(opened, "SeriesDescription"),
    )


def on_scan(labels: sitk.Image, scan: Grid) -> sitk.Image:
    """Labels of a segmentation, on the grid of the scan it was made on; 0 where it has no slice.

    Args:
        labels: of :meth:`ReadSegmentation.layers`.
        scan: grid of the scan.

    Raises:
        GeometryError: ``seg-elsewhere`` where voxels of a segment lie outside the scan.
    """
    values = sitk.GetArrayViewFromImage(labels)
    places = np.argwhere(values != BACKGROUND)[:, ::-1]
    if len(places):
        corners = np.stack([places.min(0), places.max(0)]).astype(float)
        box = np.array(np.meshgrid(*corners.T, indexing="ij")).reshape(3, -1).T
        index = scan.physical_to_index(Grid.of(labels).index_to_physical(box))
        last = np.array(scan.size) - 1
        if (index < -_HALF_VOXEL).any() or (index > last + _HALF_VOXEL).any():
            raise GeometryError(
                "seg-elsewhere",
                "Some of the segmentation lies outside the scan.",
                "Give the scan that it was made on.",
            )
    return resample(labels, scan, "nearest")


def unlabelled_between(labels: sitk.Image, slices: Grid) -> sitk.Image:
    """Labels as an annotation: slices without any segment are unlabelled, not background.

    Args:
        labels: uint8.
        slices: grid of the file, whose last axis runs across the slices that were looked at.
    """
    values = sitk.GetArrayFromImage(labels)
    turned = np.abs(Grid.of(labels).matrix.T @ slices.matrix[:, 2])
    across = 2 - int(turned.argmax())
    empty = ~(values != BACKGROUND).any(axis=tuple(n for n in range(3) if n != across))
    values[(slice(None),) * across + (empty,)] = UNLABELLED
    return image_from_array(values, Grid.of(labels))


def _opened(path: Path) -> hd.seg.Segmentation:
    import highdicom as hd
    import pydicom

    if not path.is_file():
        raise InputError("file-missing", f"There is no file {path}.", "Check the path.")
    try:
        with quiet_readers():
            header = pydicom.dcmread(path, stop_before_pixels=True)
            kind = tag_text(header, "Modality")
            if kind == "SEG":
                return hd.seg.segread(path)
    except Exception as error:  # the parsers raise almost anything
        raise InputError(
            "dicom-seg-unreadable",
            f"{path.name} cannot be read as a DICOM segmentation ({printable(error, 120)}).",
            "Export it again; the file may be damaged.",
        ) from error
    raise InputError(
        "not-a-segmentation",
        f"{path.name} is no segmentation, its modality is {kind or 'not given'}.",
        "Give a DICOM file of modality SEG.",
    )


def _geometry(opened: hd.seg.Segmentation, path: Path) -> Any:
    try:
        with quiet_readers():
            place = opened.get_volume_geometry(allow_missing_positions=True)
    except Exception as error:  # an absent position is a missing column of a table
        raise _without_place(path) from error
    if place is None:
        raise _without_place(path)
    return place


def _without_place(path: Path) -> InputError:
    return InputError(
        "seg-without-place",
        f"The frames of {path.name} make no volume: they have no position in the patient, or lie "
        "at unequal distances.",
        "Give a segmentation of a CT or MR volume.",
    )


def _voxels(
    opened: hd.seg.Segmentation, number: int, turned: bool, path: Path
) -> NDArray[np.uint8] | NDArray[np.float32]:
    try:
        with quiet_readers():
            volume = opened.get_volume(segment_numbers=[number])
    except Exception as error:  # pixel decoders raise almost anything
        raise InputError(
            "dicom-seg-unreadable",
            f"The pixels of {path.name} cannot be read ({printable(error, 120)}).",
            "Export it again; the file may be damaged.",
        ) from error
    voxels = volume.array[..., 0]
    voxels = voxels.astype(np.float32 if _is_fractional(opened) else np.uint8, copy=False)
    return np.ascontiguousarray(voxels[::-1] if turned else voxels)


def _is_fractional(opened: hd.seg.Segmentation) -> bool:
    return tag_text(opened, "SegmentationType") == "FRACTIONAL"


def _described(opened: hd.seg.Segmentation, number: int) -> Any:
    return opened.get_segment_description(number)


def _is_background(opened: hd.seg.Segmentation, number: int) -> bool:
    """A labelmap describes its value 0, which is no segment."""
    kind = _code(_described(opened, number), "SegmentedPropertyTypeCodeSequence")
    coded = kind is not None and (kind.scheme, kind.value) == _BACKGROUND_CODE
    return number == BACKGROUND or coded


def _info(opened: hd.seg.Segmentation, number: int) -> SegmentInfo:
    described = _described(opened, number)
    kind = _code(described, "SegmentedPropertyTypeCodeSequence") or _UNCODED
    return SegmentInfo(
        label=number,
        name=tag_text(described, "SegmentLabel") or kind.meaning,
        category=_code(described, "SegmentedPropertyCategoryCodeSequence") or _UNCODED,
        type=kind,
        color=_color(described, number),
        region=_code(described, "AnatomicRegionSequence"),
    )


def _code(described: Any, keyword: str) -> CodedConcept | None:
    sequence: Sequence[Any] = described.get(keyword) or ()
    if not sequence:
        return None
    item = sequence[0]
    value, scheme = tag_text(item, "CodeValue"), tag_text(item, "CodingSchemeDesignator")
    return CodedConcept(value, tag_text(item, "CodeMeaning") or value, scheme) if value else None


def _color(described: Any, number: int) -> tuple[int, int, int]:
    import highdicom as hd

    try:
        lab = described.RecommendedDisplayCIELabValue
        red, green, blue = hd.color.CIELabColor.from_dicom_value(list(lab)).to_rgb()
    except (AttributeError, TypeError, ValueError):
        return _COLORS[number % len(_COLORS)]
    return int(red), int(green), int(blue)
