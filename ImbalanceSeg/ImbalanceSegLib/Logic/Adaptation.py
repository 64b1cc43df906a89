"""One adaptation on its way into the segments, and out of them again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
import slicer

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.client import JobResult
from imbalanceseg.geometry import Grid
from ImbalanceSegLib.Engine.EngineResult import EngineResult
from ImbalanceSegLib.Logic.AnnotationLogic import AnnotationLogic
from ImbalanceSegLib.Logic.SegmentationOutput import SegmentationOutput
from ImbalanceSegLib.Logic.Workpiece import Workpiece
from ImbalanceSegLib.Scene.BoxChange import BoxChange
from ImbalanceSegLib.Scene.Boxes import confirmedMask
from ImbalanceSegLib.Scene.CorrectionStep import CorrectionStep
from ImbalanceSegLib.Scene.MapWriter import MapWriter
from ImbalanceSegLib.Scene.PackedMap import PackedMap
from ImbalanceSegLib.Scene.SegmentAlgorithms import algorithmsOf, setAlgorithms
from ImbalanceSegLib.Scene.StepHistory import StepHistory
from ImbalanceSegLib.Scene.SubjectHierarchy import placeInStudyOf
from ImbalanceSegLib.Scene.VolumeGeometry import gridOfVolume

_MAPS = ("hardness", "attention")


class Adaptation:
    """Shows what an adaptation has learned so far, keeps its end, or takes all of it back.

    Finished slices stay as they are, and so do corrections and all that people paint meanwhile.

    Args:
        piece: that is corrected.
        annotation: what the engine is taught.
        annotationLogic: keeps it.
        history: receives the step.
        beforeChange: called before the segments change for the first time.
    """

    def __init__(
        self,
        piece: Workpiece,
        annotation: Annotation,
        annotationLogic: AnnotationLogic,
        history: StepHistory,
        beforeChange: Callable[[], None],
    ) -> None:
        self._piece, self._annotation = piece, annotation
        self._annotationLogic, self._history = annotationLogic, history
        self._beforeChange: Callable[[], None] | None = beforeChange
        self._start = piece.ownLabels()
        self._shown = self._start
        self._kept = self._start != piece.engineLabels()
        self._algorithms = algorithmsOf(piece.node, piece.segmentIDs.values())

    def show(self, preview: sitk.Image) -> bool:
        """Put what there is so far into the segments; False where that is not possible any more."""
        piece = self._piece
        if not piece.isPresent or not Grid.of(preview).same_as(gridOfVolume(piece.volumeNode)):
            return False
        self._write(sitk.GetArrayViewFromImage(preview))
        return True

    def keep(self, job: JobResult) -> SegmentationOutput:
        """Put the result into the scene, as one step that can be taken back.

        Raises:
            RuntimeError: a node is gone, or the result is unusable.
        """
        piece = self._piece
        piece.requirePresent()
        maps = tuple(name for name in _MAPS if name in job.images)
        result = EngineResult.of(job, gridOfVolume(piece.volumeNode), maps)
        described = _describedNow(piece)
        # The segments go on being those of the model that was shipped.
        piece.record.describe(
            dataclasses.replace(
                result,
                modelName=described.modelName or result.modelName,
                modelVersion=described.modelVersion or result.modelVersion,
            )
        )
        self._write(result.labels)
        made = f"ImbalanceSeg {result.modelName} {result.modelVersion}"
        own = piece.segmentIDs
        setAlgorithms(piece.node, dict.fromkeys(own.values(), ("SEMIAUTOMATIC", made)))
        earlierEngine = piece.engineLabels().copy()
        piece.record.setEngineLabels(result.labels)
        earlierMaps = self._writeMaps(result)
        step = CorrectionStep(
            "adapt",
            result.jobID,
            BoxChange.between(np.where(self._kept, self._shown, self._start), self._shown),
            BoxChange.between(earlierEngine, result.labels),
            self._annotationLogic.learn(piece, self._annotation),
            described,
            self._algorithms,
            earlierMaps,
        )
        piece.record.push("adapt", result.jobID, str(job.outcome.get("model", "")))
        self._history.push(piece.node, step)
        written = tuple(own[label] for label in sorted(own) if np.any(self._shown == label))
        nodes = {name: MapWriter.mapOf(piece.node, name) for name in maps}
        return SegmentationOutput(piece.node, written, nodes, result.notes)

    def takeBack(self) -> None:
        """Bring back what was there before the adaptation began; nothing where nodes are gone."""
        piece = self._piece
        if self._beforeChange is not None or not piece.isPresent:
            return
        self._write(self._start)
        piece.removeEmptyExcept(self._algorithms)
        setAlgorithms(piece.node, self._algorithms)

    def _write(self, labels: np.ndarray) -> None:
        piece = self._piece
        current = piece.ownLabels()
        self._kept |= current != self._shown
        self._kept |= confirmedMask(self._annotationLogic.confirmedOf(piece), piece.shape)
        after = np.where(self._kept, current, labels)
        if self._beforeChange is not None and np.any(after != current):
            self._beforeChange()
            self._beforeChange = None
        piece.write(current, after)
        # Read anew, because what has no segment was not written.
        self._shown = piece.ownLabels()

    def _writeMaps(self, result: EngineResult) -> dict[str, PackedMap | None]:
        piece = self._piece
        writer = MapWriter(piece.node, piece.volumeNode)
        earlier = {name: _packedMap(piece, name) for name in result.maps}
        for name, values in result.maps.items():
            placeInStudyOf(piece.volumeNode, writer.write(name, values))
        return earlier


def _packedMap(piece: Workpiece, name: str) -> PackedMap | None:
    node = MapWriter.mapOf(piece.node, name)
    if node is None or node.GetImageData() is None:
        return None
    return PackedMap.of(slicer.util.arrayFromVolume(node))


def _describedNow(piece: Workpiece) -> EngineResult:
    record = piece.record
    return EngineResult(
        np.zeros((0, 0, 0), np.uint8),
        record.segments,
        record.modelName,
        record.modelVersion,
        report=record.report,
    )
