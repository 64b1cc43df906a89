"""DICOM Segmentation objects, as a PACS takes them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import SimpleITK as sitk

from imbalanceseg import __version__
from imbalanceseg.atomic import atomic_path
from imbalanceseg.dicom_series import Series, open_series
from imbalanceseg.dicom_tags import tag_label, tag_text
from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid, require_same_grid, resample
from imbalanceseg.labels import BACKGROUND, UNLABELLED, CodedConcept, SegmentInfo
from imbalanceseg.reading import printable, quiet_readers

if TYPE_CHECKING:
    import highdicom as hd
    import pydicom

MANUFACTURER = "ImbalanceSeg"
_SERIES_NUMBER_OFFSET = 5000
_SAME_PLACE_MM = 0.02

# What the segmentation must quote so that an archive files it with the scan.
_QUOTED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_MAY_BE_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)


class _Algorithm(NamedTuple):
    """Who made the labels, and whether a person had a hand in them."""

    name: str
    version: str
    corrected: bool


def write_dicom_seg(
    labels: sitk.Image,
    series_folder: str | os.PathLike[str],
    path: str | os.PathLike[str],
    segments: Sequence[SegmentInfo],
    *,
    algorithm_name: str = "ImbalanceSeg",
    algorithm_version: str = __version__,
    series_uid: str | None = None,
    corrected: bool = False,
) -> None:
    """Write labels as a binary DICOM Segmentation that refers to the series they were made from.

    Every segment carries category, type and region codes, the algorithm that made it, a tracking
    identifier and a display colour. Slices without any label are left out, as are segments
    without any voxel (with a warning).

    Args:
        labels: integer image on the grid of the series; flipped or permuted axes are put right.
        series_folder: folder with the DICOM series.
        path: file to write.
        segments: what the label values mean; each value present in ``labels`` must be declared.
        algorithm_name: what made the labels, for example ``"airway"``.
        algorithm_version: its version.
        series_uid: which series of the folder, where there are several.
        corrected: whether a person had a hand in the labels; the segments then call themselves
            semi-automatic, else automatic.

    Raises:
        GeometryError: ``grid-mismatch``, the labels lie elsewhere than the series.
        InputError: the labels hold values that are unlabelled, undeclared or not whole numbers,
            nothing is labelled, or the series lacks what a segmentation must quote.
        OutputError: the file cannot be written.

    Source: DICOM PS3.3 section A.51.
    """
    series = open_series(series_folder, series_uid)
    voxels = _voxels_on(labels, series.grid)
    present = _present(voxels, segments)
    sources = _quotable_headers(series)
    algorithm = _Algorithm(
        printable(algorithm_name, 48), printable(algorithm_version, 48), corrected
    )
    segmentation = _build(voxels, present, sources, series, algorithm)
    with atomic_path(path) as temporary:
        segmentation.save_as(temporary)


def require_quotable(series_folder: str | os.PathLike[str], series_uid: str | None = None) -> None:
    """Refuse a series that no segmentation can refer to, before the work of making one.

    Args:
        series_folder: folder of the DICOM series.
        series_uid: which of its series, where there are several.

    Raises:
        InputError: ``dicom-tag-missing``, or the series cannot be read.
    """
    _quotable_headers(open_series(series_folder, series_uid))


def _quotable_headers(series: Series) -> list[pydicom.Dataset]:
    pairs = zip(series.headers, series.files, strict=True)
    return [_quotable(header, file.name) for header, file in pairs]


def _voxels_on(labels: sitk.Image, grid: Grid) -> np.ndarray:
    """Label values ``[z, y, x]`` in the slice order of the series."""
    if not Grid.of(labels).same_as(grid, _SAME_PLACE_MM):
        if Grid.of(labels).oriented_lps().same_as(grid.oriented_lps(), _SAME_PLACE_MM):
            labels = resample(labels, grid, "nearest")
        else:
            placed = grid.placed(sitk.Image(list(grid.size), sitk.sitkUInt8))
            require_same_grid(labels, placed, ("labels", "DICOM series"))
    voxels = sitk.GetArrayFromImage(labels)
    if voxels.dtype.kind in "ui":
        return voxels
    whole = np.rint(voxels)
    if not np.array_equal(whole, voxels):
        raise InputError(
            "labels-not-whole",
            "The labels hold values that are not whole numbers.",
            "Give a label image, not a probability map.",
        )
    return whole.astype(np.int64)


def _present(voxels: np.ndarray, segments: Sequence[SegmentInfo]) -> list[SegmentInfo]:
    """The segments that have voxels, in the order given."""
    values = {int(v) for v in np.unique(voxels)} - {BACKGROUND}
    if UNLABELLED in values:
        raise InputError(
            "labels-unlabelled",
            f"The labels hold voxels of value {UNLABELLED}, which means unlabelled.",
            "Segment the whole scan first; an annotation is not exported.",
        )
    declared = [s.label for s in segments]
    if len(set(declared)) != len(declared):
        raise InputError(
            "segments-ambiguous",
            f"The segments declare a label value twice ({declared}).",
            "Give each segment a value of its own.",
        )
    undeclared = sorted(values - set(declared))
    if undeclared:
        raise InputError(
            "labels-undeclared",
            f"The labels hold the values {undeclared[:10]}, for which no segment is declared.",
            "Declare a segment for each value.",
        )
    if not values:
        raise InputError(
            "nothing-to-export",
            "The labels are empty, and an empty segmentation is not exported.",
            "Check the segmentation before exporting it.",
        )
    for absent in (s for s in segments if s.label not in values):
        warnings.warn(f"The segment {absent.name} has no voxels and is left out.", stacklevel=3)
    return [s for s in segments if s.label in values]


def _quotable(header: pydicom.Dataset, name: str) -> pydicom.Dataset:
    """The header with what a segmentation quotes in place; the file itself is not touched."""
    meta = header.file_meta
    if not tag_text(header, "SOPClassUID"):
        header.SOPClassUID = meta.get("MediaStorageSOPClassUID", "")
    if not tag_text(header, "SOPInstanceUID"):
        header.SOPInstanceUID = meta.get("MediaStorageSOPInstanceUID", "")
    lacking = [k for k in (*_QUOTED, "FrameOfReferenceUID") if not tag_text(header, k)]
    if tag_text(header, "LossyImageCompression") == "01":
        ratio_and_method = ("LossyImageCompressionRatio", "LossyImageCompressionMethod")
        lacking += [k for k in ratio_and_method if not tag_text(header, k)]
    if lacking:
        raise InputError(
            "dicom-tag-missing",
            f"The DICOM file {name} lacks {', '.join(map(tag_label, lacking))}, "
            "which a segmentation must quote.",
            "Take the series from the archive again, without removing its identifiers.",
        )
    for keyword in _MAY_BE_EMPTY:
        if keyword not in header:
            setattr(header, keyword, None)
    return header


def _build(
    voxels: np.ndarray,
    present: Sequence[SegmentInfo],
    sources: Sequence[pydicom.Dataset],
    series: Series,
    algorithm: _Algorithm,
) -> hd.seg.Segmentation:
    import highdicom as hd

    numbered = np.zeros(voxels.shape, dtype=np.uint8)
    for number, segment in enumerate(present, start=1):
        numbered[voxels == segment.label] = number
    name, version = algorithm.name, algorithm.version
    try:
        with quiet_readers():
            return hd.seg.Segmentation(
                source_images=sources,
                pixel_array=numbered,
                segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=[
                    _description(number, segment, algorithm)
                    for number, segment in enumerate(present, start=1)
                ],
                series_instance_uid=hd.UID(),
                series_number=_series_number(sources[0]),
                sop_instance_uid=hd.UID(),
                instance_number=1,
                manufacturer=MANUFACTURER,
                manufacturer_model_name=printable(f"{MANUFACTURER} {name}", 64),
                software_versions=(f"imbalanceseg {__version__}", f"{name} {version}"),
                device_serial_number="1",
                series_description=printable(f"{MANUFACTURER} {name}", 64),
                content_label="SEGMENTATION",
                content_description=printable(", ".join(s.name for s in present), 64),
                content_creator_name=MANUFACTURER,
                omit_empty_frames=True,
            )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unquotable(series, error) from error


def _unquotable(series: Series, error: Exception) -> InputError:
    return InputError(
        "dicom-source-unusable",
        f"No segmentation can be made for the series {series.info} "
        f"({printable(error, 160).rstrip('.')}).",
        "Take the series from the archive again, without changing its attributes.",
    )


def _series_number(source: pydicom.Dataset) -> int:
    try:
        return max(0, int(source.get("SeriesNumber") or 0)) % _SERIES_NUMBER_OFFSET + (
            _SERIES_NUMBER_OFFSET
        )
    except (TypeError, ValueError):
        return _SERIES_NUMBER_OFFSET


def _description(
    number: int, segment: SegmentInfo, algorithm: _Algorithm
) -> hd.seg.SegmentDescription:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    label = printable(segment.name, 64)
    kinds = hd.seg.SegmentAlgorithmTypeValues
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=_code(segment.category),
        segmented_property_type=_code(segment.type),
        algorithm_type=kinds.SEMIAUTOMATIC if algorithm.corrected else kinds.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=algorithm.name,
            family=codes.cid7162.ArtificialIntelligence,
            version=algorithm.version,
        ),
        tracking_uid=hd.UID(),
        tracking_id=label,
        anatomic_regions=[_code(segment.region)] if segment.region else None,
        display_color=hd.color.CIELabColor.from_rgb(*segment.color),
    )


def _code(concept: CodedConcept) -> hd.sr.CodedConcept:
    import highdicom as hd

    return hd.sr.CodedConcept(
        value=concept.value, scheme_designator=concept.scheme, meaning=concept.meaning
    )
