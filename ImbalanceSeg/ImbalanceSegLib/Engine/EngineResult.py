"""The folder that the engine has filled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from slicer.i18n import tr as _

from imbalanceseg.geometry import Grid
from imbalanceseg.labels import CodedConcept, SegmentInfo


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
    """

    labels: np.ndarray
    segments: tuple[SegmentInfo, ...]
    modelName: str
    modelVersion: str
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: Path, grid: Grid, maps: Sequence[str]) -> EngineResult:
        """Read what the engine has written.

        Args:
            folder: the result folder.
            grid: where the scan's voxels lie (LPS).
            maps: names of the maps that were asked for.

        Raises:
            RuntimeError: a file is missing or damaged, or lies on another grid.
        """
        report = _readReport(folder / "report.json")
        try:
            segments = tuple(_segmentOf(entry) for entry in report["segments"])
            modelName, modelVersion = str(report["model"]["name"]), str(report["model"]["version"])
            notes = tuple(str(note) for note in report.get("notes", ()))
        except (KeyError, TypeError, ValueError) as error:
            raise RuntimeError(
                _("The engine's report lacks a usable '{entry}'.").format(entry=error)
            ) from error
        labels = _readOnGrid(folder / "labels.nrrd", grid)
        _requireKnownLabels(labels, segments)
        return cls(
            labels=labels.astype(np.uint8, copy=False),
            segments=segments,
            modelName=modelName,
            modelVersion=modelVersion,
            maps={
                name: _readOnGrid(folder / f"{name}.nrrd", grid).astype(np.float32, copy=False)
                for name in maps
            },
            notes=notes,
        )


def _readReport(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise RuntimeError(
            _("The engine's report '{file}' is missing or damaged.").format(file=path.name)
        ) from error


def _segmentOf(entry: Mapping[str, Any]) -> SegmentInfo:
    red, green, blue = (int(value) for value in entry["color"])
    return SegmentInfo(
        label=int(entry["label"]),
        name=str(entry["name"]),
        category=_conceptOf(entry["category"]),
        type=_conceptOf(entry["type"]),
        color=(red, green, blue),
        region=_conceptOf(entry["region"]) if entry.get("region") else None,
    )


def _conceptOf(entry: Mapping[str, str]) -> CodedConcept:
    return CodedConcept(entry["value"], entry["meaning"], entry.get("scheme", "SCT"))


def _readOnGrid(path: Path, grid: Grid) -> np.ndarray:
    if not path.is_file():
        raise RuntimeError(_("The engine did not write '{file}'.").format(file=path.name))
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise RuntimeError(
            _("The engine's file '{file}' cannot be read.").format(file=path.name)
        ) from error
    if image.GetDimension() != 3 or not Grid.of(image).same_as(grid):
        raise RuntimeError(
            _("The engine's file '{file}' does not lie on the grid of the volume.").format(
                file=path.name
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
