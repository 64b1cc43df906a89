"""Taking steps back."""

from __future__ import annotations

import slicer

from ImbalanceSegLib.Logic.AnnotationLogic import AnnotationLogic
from ImbalanceSegLib.Logic.Workpiece import Workpiece
from ImbalanceSegLib.Scene.BoxChange import BoxChange
from ImbalanceSegLib.Scene.Boxes import confirmedMask
from ImbalanceSegLib.Scene.MapWriter import MapWriter
from ImbalanceSegLib.Scene.PackedMap import PackedMap
from ImbalanceSegLib.Scene.SegmentAlgorithms import setAlgorithms
from ImbalanceSegLib.Scene.StepHistory import StepHistory
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord


def canTakeBack(segmentationNode: slicer.vtkMRMLSegmentationNode, history: StepHistory) -> bool:
    """Whether the last thing that was done to a segmentation is a step that is known."""
    step = history.last(segmentationNode)
    return step is not None and step.job == WorkRecord(segmentationNode).baseJob


def takeBack(piece: Workpiece, history: StepHistory, annotationLogic: AnnotationLogic) -> str:
    """Take the last step back, and say of which kind it was.

    Args:
        piece: of which :func:`canTakeBack` is true.
        history: knows the step.
        annotationLogic: forgets what the step has said.

    Raises:
        RuntimeError: the application refuses the voxels.
    """
    step = history.last(piece.node)
    assert step is not None
    if step.segments is not None:
        _takeBackSegments(piece, step.segments, annotationLogic)
    if step.engine is not None:
        piece.setEngineLabels(step.engine.unpacked()[0], step.engine.window)
    annotationLogic.takeBack(piece, step.annotation)
    if step.described is not None:
        piece.record.describe(step.described)
    for name, earlier in step.maps.items():
        _takeBackMap(piece, name, earlier)
    piece.removeEmptyExcept(step.algorithms)
    setAlgorithms(piece.node, step.algorithms)
    piece.record.pop()
    history.drop(piece.node, step)
    return step.kind


def _takeBackSegments(
    piece: Workpiece, change: BoxChange, annotationLogic: AnnotationLogic
) -> None:
    """All that the step has changed and nobody else since."""
    before, after = change.unpacked()
    own = piece.ownLabels(change.window)
    mine = (own == after) & ~confirmedMask(
        annotationLogic.confirmedOf(piece), piece.shape, change.window
    )
    wanted = own.copy()
    wanted[mine] = before[mine]
    piece.write(own, wanted, change.window)


def _takeBackMap(piece: Workpiece, name: str, earlier: PackedMap | None) -> None:
    node = MapWriter.mapOf(piece.node, name)
    if earlier is not None:
        MapWriter(piece.node, piece.volumeNode).write(name, earlier.unpacked())
    elif node is not None:
        slicer.mrmlScene.RemoveNode(node)
