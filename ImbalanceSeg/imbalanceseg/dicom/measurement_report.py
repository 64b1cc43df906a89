"""Measurements of segments as a DICOM structured report: volume, diameter and count."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imbalanceseg import __version__
from imbalanceseg.atomic import atomic_path
from imbalanceseg.dicom.seg import MANUFACTURER, coded, require_same_study, with_known_characters
from imbalanceseg.dicom.seg_reading import ReadSegment, ReadSegmentation, read_dicom_seg
from imbalanceseg.dicom_series import Series, open_series
from imbalanceseg.dicom_tags import tag_text
from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid
from imbalanceseg.reading import printable, quiet_readers

if TYPE_CHECKING:
    import highdicom as hd

_SERIES_NUMBER = 6000
_MOST_PIECES = 200


@dataclass(frozen=True)
class Piece:
    """One connected component of a segment.

    Attributes:
        volume_mm3: of its voxels.
        diameter_mm: largest distance between two corners of its voxels.
        ends_mm: these two corners, LPS.
    """

    volume_mm3: float
    diameter_mm: float
    ends_mm: tuple[tuple[float, ...], tuple[float, ...]]


def pieces_of(mask: NDArray[np.bool_], grid: Grid) -> list[Piece]:
    """The 26-connected components of a mask ``[z, y, x]``, the largest first."""
    import cc3d

    numbered = cc3d.connected_components(mask, connectivity=26)
    statistics = cc3d.statistics(numbered)
    voxel_mm3 = float(np.prod(grid.spacing_mm))
    found = []
    for number in range(1, int(numbered.max()) + 1):
        box = statistics["bounding_boxes"][number]
        volume = float(statistics["voxel_counts"][number]) * voxel_mm3
        ends = _farthest_corners(numbered[box] == number, grid.spacing_mm)
        start = [part.start for part in reversed(box)]
        first, last = grid.index_to_physical(ends + start)
        found.append(
            Piece(volume, float(np.linalg.norm(last - first)), (_point(first), _point(last)))
        )
    return sorted(found, key=lambda piece: -piece.volume_mm3)


def write_measurement_report(
    segmentation: str | os.PathLike[str],
    series_folder: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    series_uid: str | None = None,
) -> list[tuple[str, list[Piece]]]:
    """Write what a DICOM Segmentation measures as a report that refers to it (TID 1500).

    For every segment its volume and the number of its pieces; for every piece, the 200 largest at
    most, volume and largest diameter.

    Args:
        segmentation: DICOM Segmentation, of any program.
        series_folder: folder with the series it refers to.
        path: file to write.
        series_uid: which series of the folder, where there are several.

    Returns:
        Name and pieces of each segment.

    Raises:
        InputError: segmentation or series cannot be read, or do not belong to one study.
        OutputError: the file cannot be written.

    Source: DICOM PS3.16 TID 1500, 1411.
    """
    import highdicom as hd

    read = read_dicom_seg(segmentation)
    series = open_series(series_folder, series_uid)
    with quiet_readers():
        opened = hd.seg.segread(segmentation)
    require_same_study(opened, series.headers[0], Path(segmentation).name)
    found = [pieces_of(segment.mask(), read.grid) for segment in read.segments]
    try:
        with quiet_readers():
            report = _report(opened, read, found, series)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            "dicom-source-unusable",
            f"No report can be made of {Path(segmentation).name} "
            f"({printable(error, 160).rstrip('.')}).",
            "Export the segmentation again, or take the series from the archive again.",
        ) from error
    with atomic_path(path) as temporary:
        report.save_as(temporary)
    return [(s.info.name, pieces) for s, pieces in zip(read.segments, found, strict=True)]


def _report(
    opened: hd.seg.Segmentation, read: ReadSegmentation, found: list[list[Piece]], series: Series
) -> hd.sr.Comprehensive3DSR:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    groups = []
    for segment, pieces in zip(read.segments, found, strict=True):
        groups += _groups(opened, segment, pieces, series)
    procedures = {"CT": codes.LN.CTUnspecifiedBodyRegion, "MR": codes.LN.MRIUnspecifiedBodyRegion}
    modality = tag_text(series.headers[0], "Modality")
    content = hd.sr.MeasurementReport(
        observation_context=_observer(),
        procedure_reported=procedures.get(modality, codes.SCT.ImagingProcedure),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    report = hd.sr.Comprehensive3DSR(
        evidence=[with_known_characters(header) for header in (opened, *series.headers)],
        content=content,
        series_instance_uid=hd.UID(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
    )
    report.SeriesDescription = printable(f"{MANUFACTURER} measurements, not for clinical use", 64)
    return report


def _groups(
    opened: hd.seg.Segmentation, segment: ReadSegment, pieces: list[Piece], series: Series
) -> list[hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations]:
    from pydicom.sr.codedict import codes

    total = sum(piece.volume_mm3 for piece in pieces)
    whole = [
        _measurement(codes.SCT.Volume, total, codes.UCUM.CubicMillimeter),
        _measurement(codes.SCT.Quantity, len(pieces), codes.UCUM.NoUnits),
    ]
    if len(pieces) == 1:
        whole.append(_diameter(pieces[0]))
    made = [_group(opened, segment, segment.info.name, whole, series)]
    if len(pieces) == 1:
        return made
    for count, piece in enumerate(pieces[:_MOST_PIECES], start=1):
        volume = _measurement(codes.SCT.Volume, piece.volume_mm3, codes.UCUM.CubicMillimeter)
        measured = [volume, _diameter(piece)]
        made.append(_group(opened, segment, f"{segment.info.name} {count}", measured, series))
    return made


def _group(
    opened: hd.seg.Segmentation,
    segment: ReadSegment,
    name: str,
    measurements: list[hd.sr.Measurement],
    series: Series,
) -> hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    import highdicom as hd

    info = segment.info
    sites = None if info.region is None else [hd.sr.FindingSite(coded(info.region))]
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=hd.UID(), identifier=printable(name, 64)),
        referenced_segment=hd.sr.ReferencedSegment(
            opened.SOPClassUID,
            opened.SOPInstanceUID,
            info.label,
            source_series=hd.sr.SourceSeriesForSegmentation(series.info.uid),
        ),
        finding_category=coded(info.category),
        finding_type=coded(info.type),
        finding_sites=sites,
        measurements=measurements,
    )


def _measurement(name: Any, value: float, unit: Any) -> hd.sr.Measurement:
    import highdicom as hd

    return hd.sr.Measurement(name=name, value=round(float(value), 3), unit=unit)


def _diameter(piece: Piece) -> hd.sr.Measurement:
    from pydicom.sr.codedict import codes

    name = codes.cid7470.Maximum3DDiameterOfAMesh
    return _measurement(name, piece.diameter_mm, codes.UCUM.Millimeter)


def _observer() -> hd.sr.ObservationContext:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    return hd.sr.ObservationContext(
        observer_device_context=hd.sr.ObserverContext(
            observer_type=codes.DCM.Device,
            observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
                uid=hd.UID(),
                name=MANUFACTURER,
                manufacturer_name=MANUFACTURER,
                model_name=f"imbalanceseg {__version__}",
            ),
        )
    )


def _farthest_corners(
    mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> NDArray[np.float64]:
    """The two corners of the voxels of a mask ``[z, y, x]`` that lie farthest apart, as indices
    (i, j, k)."""
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist, squareform

    # Of a row of voxels only the ends can be farthest apart.
    z, y = np.nonzero(mask.any(axis=2))
    lines = mask[z, y]
    first = lines.argmax(axis=1)
    last = mask.shape[2] - 1 - lines[:, ::-1].argmax(axis=1)
    ends = np.concatenate([np.stack([first, y, z], 1), np.stack([last + 1, y, z], 1)])
    steps = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]])
    corners = np.unique((ends[:, None] + steps).reshape(-1, 3), axis=0)
    hull = corners[ConvexHull(corners).vertices]
    distances = squareform(pdist(hull * np.array(spacing_mm)))
    return np.asarray(hull[list(np.unravel_index(distances.argmax(), distances.shape))] - 0.5)


def _point(place: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(x) for x in place)
