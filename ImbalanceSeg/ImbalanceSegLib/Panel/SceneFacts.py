"""How the selected volume and segmentation stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from imbalanceseg.annotation.annotation import ConfirmedSlice
from ImbalanceSegLib.Logic.InputCheck import whyNotReady
from ImbalanceSegLib.Scene.MapWriter import MapWriter
from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord


@dataclass(frozen=True)
class SceneFacts:
    """How the selected volume and segmentation stand.

    Attributes:
        segmentProblem: why the volume cannot be segmented; empty when it can.
        hasSegments: whether the segmentation holds segments of this module.
        resultProblem: why the segments cannot be corrected; empty when they can.
        baseProblem: why the engine cannot go on from its result; empty when it can.
        hasHardness: whether the result has a hardness map.
        slices: the finished slices.
        undoes: kind of the step that Undo takes back; empty when there is none.
        adapted: whether the model behind the result was adapted.
        exportProblem: why there cannot be a DICOM Segmentation; empty when there can.
    """

    segmentProblem: str = ""
    hasSegments: bool = False
    resultProblem: str = ""
    baseProblem: str = ""
    hasHardness: bool = False
    slices: tuple[ConfirmedSlice, ...] = ()
    undoes: str = ""
    adapted: bool = False
    exportProblem: str = ""


def sceneFacts(logic: Any, volumeNode: Any, segmentationNode: Any) -> SceneFacts:
    """Look at the selected nodes.

    Args:
        logic: of the module.
        volumeNode: the selected volume; None for none.
        segmentationNode: the selected segmentation; None for none.
    """
    problem = whyNotReady(volumeNode, segmentationNode)
    if segmentationNode is None or not SegmentWriter.ownSegments(segmentationNode):
        return SceneFacts(segmentProblem=problem)
    resultProblem = _whyNoCorrection(volumeNode, segmentationNode)
    slices = [] if resultProblem else _slices(logic, volumeNode, segmentationNode)
    return SceneFacts(
        segmentProblem=problem,
        hasSegments=True,
        resultProblem=resultProblem,
        baseProblem=resultProblem or _whyNoBase(segmentationNode),
        hasHardness=MapWriter.mapOf(segmentationNode, "hardness") is not None,
        slices=tuple(slices),
        undoes=_undoes(logic, segmentationNode),
        adapted=bool(logic.correction.adaptedModels(segmentationNode)),
        exportProblem=logic.export.whyNoDicomSeg(segmentationNode),
    )


def _slices(logic: Any, volumeNode: Any, segmentationNode: Any) -> list[ConfirmedSlice]:
    try:
        found: list[ConfirmedSlice] = logic.annotation.confirmedSlices(volumeNode, segmentationNode)
        return found
    except ValueError:
        return []


def _undoes(logic: Any, segmentationNode: Any) -> str:
    steps = WorkRecord(segmentationNode).steps
    if not steps or not logic.correction.canUndo(segmentationNode):
        return ""
    return "adapt" if steps[-1]["kind"] == "adapt" else "click"


def _whyNoCorrection(volumeNode: Any, segmentationNode: Any) -> str:
    record = WorkRecord(segmentationNode)
    name = segmentationNode.GetName()
    if record.volumeNode is None:
        return _("The volume that '{name}' was made from is gone. Press Segment again.").format(
            name=name
        )
    if record.volumeNode is not volumeNode:
        return _(
            "'{name}' was made from the volume '{volume}'. Select that volume under Segment."
        ).format(name=name, volume=record.volumeNode.GetName())
    if not record.baseJob and not record.isFromScratch:
        return _("It is not known how '{name}' was made. Press Segment again.").format(name=name)
    return ""


def _whyNoBase(segmentationNode: Any) -> str:
    if WorkRecord(segmentationNode).baseJob:
        return ""
    return _("The engine has learnt nothing yet. Paint slices, and press Adapt first.")
