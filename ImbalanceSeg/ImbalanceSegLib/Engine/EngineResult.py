"""What the engine has made of a scan."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import SimpleITK as sitk
from slicer.i18n import tr as _

from imbalanceseg.client import JobResult
from imbalanceseg.geometry import Grid
from imbalanceseg.labels import CodedConcept, SegmentInfo

_REPORT = "report.json"


@dataclass(frozen=True)
class EngineResult:
    """Labels and maps of one scan, on the scan's grid.

    Attributes:
        labels: uint8 ``[k, j, i]``, 0 background, else the label of a segment.
        segments: what each label stands for.
        modelName: name of the model that made it.
        modelVersion: its version.
        maps: float32 ``[k, j, i]`` in [0, 1], by name.
        notes: sentences the reader of the result must know.
        jobID: number of the job at the engine, from which others go on; empty for none.
        report: the engine's account of the result, as JSON holds it.
    """

    labels: np.ndarray
    segments: tuple[SegmentInfo, ...]
    modelName: str
    modelVersion: str
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    jobID: str = ""
    report: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, job: JobResult, grid: Grid, maps: Sequence[str]) -> EngineResult:
        """What a segmentation or an adaptation has brought.

        Args:
            job: as the client of the engine gives it.
            grid: where the scan's voxels lie (LPS).
            maps: names of the maps that were asked for.

        Raises:
            RuntimeError: something is missing or damaged, or lies on another grid.
        """
        report = _reportOf(job.files)
        try:
            segments = tuple(segmentFrom(entry) for entry in report["segments"])
            modelName, modelVersion = str(report["model"]["name"]), str(report["model"]["version"])
            notes = tuple(str(note) for note in report.get("notes", ()))
        except (KeyError, TypeError, ValueError) as error:
            raise RuntimeError(
                _("The engine's report lacks a usable '{entry}'.").format(entry=error)
            ) from error
        labels = _onGrid(job.images, "labels", grid)
        _requireKnownLabels(labels, segments)
        return cls(
            labels=labels.astype(np.uint8, copy=False),
            segments=segments,
            modelName=modelName,
            modelVersion=modelVersion,
            maps={
                name: _onGrid(job.images, name, grid).astype(np.float32, copy=False)
                for name in maps
            },
            notes=notes,
            jobID=job.job,
            report=report,
        )


def segmentFrom(entry: Mapping[str, Any]) -> SegmentInfo:
    """What a label stands for, from JSON.

    Raises:
        KeyError, TypeError, ValueError: something is missing or of another kind.
    """
    red, green, blue = (int(value) for value in entry["color"])
    return SegmentInfo(
        label=int(entry["label"]),
        name=str(entry["name"]),
        category=_conceptFrom(entry["category"]),
        type=_conceptFrom(entry["type"]),
        color=(red, green, blue),
        region=_conceptFrom(entry["region"]) if entry.get("region") else None,
    )


def segmentEntry(segment: SegmentInfo) -> dict[str, Any]:
    """What :func:`segmentFrom` reads."""
    return asdict(segment)


def _conceptFrom(entry: Mapping[str, str]) -> CodedConcept:
    return CodedConcept(entry["value"], entry["meaning"], entry.get("scheme", "SCT"))


def _reportOf(files: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        return dict(json.loads(files[_REPORT].decode("utf-8")))
    except (KeyError, ValueError, TypeError) as error:
        raise RuntimeError(
            _("The engine's report '{file}' is missing or damaged.").format(file=_REPORT)
        ) from error


def _onGrid(images: Mapping[str, sitk.Image], name: str, grid: Grid) -> np.ndarray:
    image = images.get(name)
    if image is None:
        raise RuntimeError(_("The engine did not send the image '{name}'.").format(name=name))
    if image.GetDimension() != 3 or not Grid.of(image).same_as(grid):
        raise RuntimeError(
            _("The engine's image '{name}' does not lie on the grid of the volume.").format(
                name=name
            )
        )
    return sitk.GetArrayFromImage(image)


def _requireKnownLabels(labels: np.ndarray, segments: Sequence[SegmentInfo]) -> None:
    unknown = set(np.unique(labels).tolist()) - {0} - {segment.label for segment in segments}
    if unknown:
        raise RuntimeError(
            _("The engine's labels hold the value {value}, which its report does not name.").format(
                value=min(unknown)
            )
        )
