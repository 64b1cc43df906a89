"""DICOM Segmentation objects, as a PACS takes them."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

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
_UTF_8 = "ISO_IR 192"
_FRACTIONS = 255

Kind = Literal["binary", "labelmap", "fractional"]
MadeBy = Literal["automatic", "semiautomatic", "manual"]

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
    """What made the labels, and how much of it a person did."""

    name: str
    version: str
    made_by: MadeBy


def write_dicom_seg(
    labels: sitk.Image | Sequence[sitk.Image],
    series_folder: str | os.PathLike[str],
    path: str | os.PathLike[str],
    segments: Sequence[SegmentInfo],
    *,
    kind: Kind = "binary",
    algorithm_name: str = "ImbalanceSeg",
    algorithm_version: str = __version__,
    series_uid: str | None = None,
    made_by: MadeBy = "automatic",
    predecessor: str | os.PathLike[str] | None = None,
) -> None:
    """Write labels as a DICOM Segmentation that refers to the series they were made from.

    Every segment carries category, type and region codes, how it was made, a tracking identifier
    and a display colour. Slices without any label are left out, as are segments without any voxel
    (with a warning).

    Args:
        labels: integer image on the grid of the series; flipped or permuted axes are put right.
            Several images where segments overlap, each segment in one of them. With
            ``kind="fractional"`` one image of probabilities in [0, 1] a segment, in their order.
        series_folder: folder with the DICOM series.
        path: file to write.
        segments: what the label values mean; each value present in ``labels`` must be declared.
        kind: ``"binary"``, which all readers know; ``"labelmap"``, smaller and newer, without
            overlaps; ``"fractional"``, for probabilities.
        algorithm_name: what made the labels, for example ``"airway"``.
        algorithm_version: its version.
        series_uid: which series of the folder, where there are several.
        made_by: how much a person did: nothing, some, or all of it.
        predecessor: DICOM Segmentation that this one was edited from: it is referred to, and
            segments of the same name and type keep their tracking identifiers.

    Raises:
        GeometryError: ``grid-mismatch``, the labels lie elsewhere than the series.
        InputError: the labels hold values that are unlabelled, undeclared or not whole numbers,
            nothing is labelled, segments overlap in a labelmap, probabilities are none
            (``probability-range``), the predecessor is none of this study
            (``segmentation-elsewhere``), or the series lacks what a segmentation must quote.
        OutputError: the file cannot be written.

    Source: DICOM PS3.3 section A.51.
    """
    series = open_series(series_folder, series_uid)
    images = [labels] if isinstance(labels, sitk.Image) else list(labels)
    if kind == "fractional":
        pixels, present = _fractions(images, series, segments)
    else:
        layers = [_whole(_voxels_on(image, series)) for image in images]
        present = _present(layers, segments)
        pixels = _numbered(layers, present, kind)
    sources = _quotable_headers(series)
    before = None if predecessor is None else _predecessor(Path(predecessor), sources[0])
    algorithm = _Algorithm(printable(algorithm_name, 48), printable(algorithm_version, 48), made_by)
    with _uncollected():
        segmentation = _build(pixels, kind, present, sources, series, algorithm, before)
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


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector from walking a million elements of headers again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _quotable_headers(series: Series) -> list[pydicom.Dataset]:
    pairs = zip(series.headers, series.files, strict=True)
    return [_quotable(header, file.name) for header, file in pairs]


def _voxels_on(labels: sitk.Image, series: Series) -> np.ndarray:
    """Values ``[z, y, x]`` on the slices of the series."""
    grid = series.grid
    if not Grid.of(labels).same_as(grid, _SAME_PLACE_MM):
        if Grid.of(labels).oriented_lps().same_as(grid.oriented_lps(), _SAME_PLACE_MM):
            labels = resample(labels, grid, "nearest")
        else:
            placed = grid.placed(sitk.Image(list(grid.size), sitk.sitkUInt8))
            require_same_grid(labels, placed, ("labels", "DICOM series"))
    return series.on_slices(sitk.GetArrayFromImage(labels))


def _whole(voxels: np.ndarray) -> np.ndarray:
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


def _present(layers: Sequence[np.ndarray], segments: Sequence[SegmentInfo]) -> list[SegmentInfo]:
    """The segments that have voxels, in the order given."""
    in_layers = [_values_of(voxels) - {BACKGROUND} for voxels in layers]
    values = set[int]().union(*in_layers)
    if UNLABELLED in values:
        raise InputError(
            "labels-unlabelled",
            f"The labels hold voxels of value {UNLABELLED}, which means unlabelled.",
            "Segment the whole scan first; an annotation is not exported.",
        )
    declared = [s.label for s in segments]
    if len(set(declared)) != len(declared) or sum(map(len, in_layers)) > len(values):
        raise InputError(
            "segments-ambiguous",
            f"The segments declare a label value twice ({declared}), or two images hold the same.",
            "Give each segment a value of its own.",
        )
    undeclared = sorted(values - set(declared))
    if undeclared:
        raise InputError(
            "labels-undeclared",
            f"The labels hold the values {undeclared[:10]}, for which no segment is declared.",
            "Declare a segment for each value.",
        )
    return _left(segments, values)


def _values_of(voxels: np.ndarray) -> set[int]:
    """All values, slice by slice: sorting a whole scan takes longer than writing it."""
    if voxels.dtype != np.uint8:
        return {int(v) for plane in voxels for v in np.unique(plane)}
    there = np.zeros(256, bool)
    for plane in voxels:
        there |= np.bincount(plane.ravel(), minlength=256) > 0
    return set(np.flatnonzero(there).tolist())


def _left(segments: Sequence[SegmentInfo], values: Collection[int]) -> list[SegmentInfo]:
    """Those whose label is among the values; the others are told of."""
    if not values:
        raise InputError(
            "nothing-to-export",
            "The labels are empty, and an empty segmentation is not exported.",
            "Check the segmentation before exporting it.",
        )
    for absent in (s for s in segments if s.label not in values):
        warnings.warn(f"The segment {absent.name} has no voxels and is left out.", stacklevel=4)
    return [s for s in segments if s.label in values]


def _numbered(
    layers: Sequence[np.ndarray], present: Sequence[SegmentInfo], kind: Kind
) -> np.ndarray:
    """Segment numbers ``[z, y, x]``; or masks ``[z, y, x, segments]`` where segments overlap."""
    if len(layers) == 1 and layers[0].dtype == np.uint8:
        number_of = np.zeros(256, np.uint8)
        for number, segment in enumerate(present, start=1):
            number_of[segment.label] = number
        # A slice at a time: NumPy makes eight bytes of every index.
        return np.stack([number_of[plane] for plane in layers[0]])
    numbers = np.zeros(layers[0].shape, np.uint8)
    overlapping = False
    for number, segment in enumerate(present, start=1):
        for voxels in layers:
            mask = voxels == segment.label
            overlapping = overlapping or bool(numbers[mask].any())
            numbers[mask] = number
    if not overlapping:
        return numbers
    if kind == "labelmap":
        raise InputError(
            "segments-overlap",
            "The segments overlap, and a labelmap holds one segment a voxel.",
            "Write a binary segmentation.",
        )
    masks = [
        np.logical_or.reduce([voxels == segment.label for voxels in layers]) for segment in present
    ]
    return np.stack(masks, axis=-1).astype(np.uint8)


def _fractions(
    images: Sequence[sitk.Image], series: Series, segments: Sequence[SegmentInfo]
) -> tuple[np.ndarray, list[SegmentInfo]]:
    """Probabilities ``[z, y, x, segments]`` of the segments that have any."""
    if len(images) != len(segments):
        raise InputError(
            "probability-count",
            f"There are {len(images)} probability maps for {len(segments)} segments.",
            "Give one map for each segment.",
        )
    maps = [_voxels_on(image, series) for image in images]
    for values in maps:
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise InputError(
                "probability-range",
                "A probability map holds values that are no probabilities.",
                "Give numbers from 0 to 1.",
            )
    half_a_step = 0.5 / _FRACTIONS
    there = {s.label for s, v in zip(segments, maps, strict=True) if (v >= half_a_step).any()}
    kept = [v for s, v in zip(segments, maps, strict=True) if s.label in there]
    present = _left(segments, there)
    return np.stack(kept, axis=-1).astype(np.float32), present


def require_same_study(header: pydicom.Dataset, source: pydicom.Dataset, name: str) -> None:
    """Refuse what is no segmentation of the study that a scan is from.

    Raises:
        InputError: ``segmentation-elsewhere``.
    """
    same_study = tag_text(header, "StudyInstanceUID") == tag_text(source, "StudyInstanceUID")
    if tag_text(header, "Modality") != "SEG" or not same_study:
        raise InputError(
            "segmentation-elsewhere",
            f"{name} is no segmentation of the same study.",
            "Give a DICOM segmentation of this very scan.",
        )


def _predecessor(path: Path, source: pydicom.Dataset) -> pydicom.Dataset:
    import pydicom

    try:
        with quiet_readers():
            header = pydicom.dcmread(path, stop_before_pixels=True)
    except Exception as error:  # the parser raises almost anything
        raise InputError(
            "dicom-unreadable", f"{path} is no DICOM file.", "Give the segmentation it was."
        ) from error
    require_same_study(header, source, path.name)
    return header


def _tracking_uids(before: pydicom.Dataset | None) -> dict[tuple[str, str], str]:
    """By name and type code of the segments of the predecessor."""
    found = {}
    for described in before.get("SegmentSequence", ()) if before is not None else ():
        codes = described.get("SegmentedPropertyTypeCodeSequence") or [{}]
        uid = tag_text(described, "TrackingUID")
        if uid:
            found[tag_text(described, "SegmentLabel"), str(codes[0].get("CodeValue", ""))] = uid
    return found


def _quotable(header: pydicom.Dataset, name: str) -> pydicom.Dataset:
    """The header with what a segmentation quotes in place; the file itself is not touched."""
    meta = header.file_meta
    if not tag_text(header, "SOPClassUID"):
        header.SOPClassUID = tag_text(meta, "MediaStorageSOPClassUID")
    if not tag_text(header, "SOPInstanceUID"):
        header.SOPInstanceUID = tag_text(meta, "MediaStorageSOPInstanceUID")
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
    return with_known_characters(header)


def with_known_characters(header: pydicom.Dataset) -> pydicom.Dataset:
    """The header in a character set that highdicom can quote; it is changed in place."""
    character_set = header.get("SpecificCharacterSet")
    if not character_set:
        header.pop("SpecificCharacterSet", None)
    elif not isinstance(character_set, str):
        # Several, as Japanese and Korean scanners write; highdicom does not know all of these.
        header.decode()
        header.SpecificCharacterSet = _UTF_8
    return header


def _build(
    pixels: np.ndarray,
    kind: Kind,
    present: Sequence[SegmentInfo],
    sources: Sequence[pydicom.Dataset],
    series: Series,
    algorithm: _Algorithm,
    before: pydicom.Dataset | None,
) -> hd.seg.Segmentation:
    import highdicom as hd

    name, version = algorithm.name, algorithm.version
    title = printable(name if name.startswith(MANUFACTURER) else f"{MANUFACTURER} {name}", 64)
    known = _tracking_uids(before)
    try:
        with quiet_readers():
            made = hd.seg.Segmentation(
                source_images=sources,
                pixel_array=pixels if series.slices else _volume(pixels, series),
                segmentation_type=hd.seg.SegmentationTypeValues[kind.upper()],
                segment_descriptions=[
                    _description(number, segment, algorithm, known)
                    for number, segment in enumerate(present, start=1)
                ],
                series_instance_uid=hd.UID(),
                series_number=_series_number(sources[0]),
                sop_instance_uid=hd.UID(),
                instance_number=1,
                manufacturer=MANUFACTURER,
                manufacturer_model_name=title,
                software_versions=(f"imbalanceseg {__version__}", f"{name} {version}"),
                device_serial_number="1",
                max_fractional_value=_FRACTIONS,
                series_description=title,
                content_label="SEGMENTATION",
                content_description=printable(", ".join(s.name for s in present), 64),
                content_creator_name=MANUFACTURER,
                omit_empty_frames=True,
            )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unquotable(series, error) from error
    if before is not None:
        _refer_to(made, before)
    return made


def _volume(pixels: np.ndarray, series: Series) -> hd.Volume:
    """Pixels that know their place: the frames of one file may be in any order."""
    import highdicom as hd

    axes = series.grid.matrix[:, ::-1] * np.array(series.grid.spacing_mm[::-1])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, series.grid.origin_mm
    numbers = {"SegmentNumber": list(range(1, pixels.shape[-1] + 1))} if pixels.ndim == 4 else None
    return hd.Volume(
        pixels, affine, "PATIENT", tag_text(series.headers[0], "FrameOfReferenceUID"), numbers
    )


def _refer_to(made: hd.seg.Segmentation, before: pydicom.Dataset) -> None:
    """Name the predecessor among the instances of the study that are referred to."""
    import pydicom

    instance, series = pydicom.Dataset(), pydicom.Dataset()
    instance.ReferencedSOPClassUID = before.SOPClassUID
    instance.ReferencedSOPInstanceUID = before.SOPInstanceUID
    series.SeriesInstanceUID = before.SeriesInstanceUID
    series.ReferencedInstanceSequence = [instance]
    made.ReferencedSeriesSequence.append(series)


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
    number: int,
    segment: SegmentInfo,
    algorithm: _Algorithm,
    known: Mapping[tuple[str, str], str],
) -> hd.seg.SegmentDescription:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    label = printable(segment.name, 64)
    identification = hd.AlgorithmIdentificationSequence(
        name=algorithm.name,
        family=codes.cid7162.ArtificialIntelligence,
        version=algorithm.version,
    )
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=coded(segment.category),
        segmented_property_type=coded(segment.type),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues[algorithm.made_by.upper()],
        # What a person drew has no algorithm.
        algorithm_identification=None if algorithm.made_by == "manual" else identification,
        tracking_uid=hd.UID(known.get((label, segment.type.value))),
        tracking_id=label,
        anatomic_regions=[coded(segment.region)] if segment.region else None,
        display_color=hd.color.CIELabColor.from_rgb(*segment.color),
    )


def coded(concept: CodedConcept) -> hd.sr.CodedConcept:
    """A concept as highdicom writes it."""
    import highdicom as hd

    return hd.sr.CodedConcept(
        value=concept.value, scheme_designator=concept.scheme, meaning=concept.meaning
    )
