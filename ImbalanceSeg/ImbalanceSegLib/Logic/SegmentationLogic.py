"""Segmenting volume nodes with the engine, with or without a GUI."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import slicer
from slicer.i18n import tr as _

from imbalanceseg.progress import ProgressEvent, ignore_progress
from ImbalanceSegLib.Engine.Engine import Engine
from ImbalanceSegLib.Engine.RunOutcome import RunOutcome
from ImbalanceSegLib.Engine.RunStatus import RunStatus
from ImbalanceSegLib.Logic.InputCheck import whyNotReady
from ImbalanceSegLib.Logic.SegmentationOutput import SegmentationOutput
from ImbalanceSegLib.Logic.SegmentationRun import SegmentationRun


class SegmentationLogic:
    """Sends a volume to the engine and puts the result into the scene.

    Example::

        output = logic.segment(volumeNode, model="airway")
        output.segmentationNode.CreateClosedSurfaceRepresentation()

    Args:
        engine: does the work.
        temporaryFolder: existing folder for files between the two; None for the system's.
    """

    def __init__(self, engine: Engine, temporaryFolder: str | None = None) -> None:
        self._engine = engine
        self._temporaryFolder = temporaryFolder

    @property
    def isRunning(self) -> bool:
        """Whether a run was started whose ``onFinished`` has not been called yet."""
        return self._engine.isRunning

    def start(
        self,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        *,
        model: str,
        device: str = "auto",
        maps: Sequence[str] = ("hardness",),
        segmentationNode: slicer.vtkMRMLSegmentationNode | None = None,
        onFinished: Callable[[RunOutcome, SegmentationOutput | None], None],
        onProgress: Callable[[ProgressEvent], None] = ignore_progress,
        onLog: Callable[[str], None] = logging.debug,
    ) -> None:
        """Begin to segment a volume and return at once.

        Args:
            volumeNode: the volume to segment.
            model: name of a shipped model, or the folder of a model bundle.
            device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
            maps: names of the maps wanted beside the labels.
            segmentationNode: where the segments go; None makes a new node. Segments that are not
                of this module stay as they are.
            onFinished: receives the outcome once, and the filled nodes if it is a success.
            onProgress: receives every step.
            onLog: receives every other line that the engine writes.

        Raises:
            ValueError: the volume or the segmentation node cannot be used.
            RuntimeError: a run is going on, or the engine cannot be started.
        """
        if self.isRunning:
            raise RuntimeError(_("Another volume is being segmented; wait or cancel it first."))
        if problem := whyNotReady(volumeNode, segmentationNode):
            raise ValueError(problem)
        run = SegmentationRun(
            volumeNode,
            segmentationNode,
            model=model,
            device=device,
            maps=tuple(maps),
            temporaryFolder=self._temporaryFolder,
        )
        try:
            run.writeScan()
            self._engine.start(
                run.request, onProgress, onLog, lambda outcome: _finish(run, outcome, onFinished)
            )
        except BaseException:
            run.close()
            raise

    def segment(
        self,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        *,
        model: str,
        device: str = "auto",
        maps: Sequence[str] = ("hardness",),
        segmentationNode: slicer.vtkMRMLSegmentationNode | None = None,
        onProgress: Callable[[ProgressEvent], None] = ignore_progress,
        onLog: Callable[[str], None] = logging.debug,
    ) -> SegmentationOutput:
        """Segment a volume and wait for the result; for scripts. Arguments as in :meth:`start`.

        Returns:
            The nodes that were filled.

        Raises:
            ValueError: the volume or the segmentation node cannot be used.
            RuntimeError: the engine failed or was cancelled; the text says why.
        """
        finished: list[tuple[RunOutcome, SegmentationOutput | None]] = []
        self.start(
            volumeNode,
            model=model,
            device=device,
            maps=maps,
            segmentationNode=segmentationNode,
            onFinished=lambda outcome, output: finished.append((outcome, output)),
            onProgress=onProgress,
            onLog=onLog,
        )
        self._engine.wait()
        outcome, output = finished[0]
        if output is None:
            raise RuntimeError(outcome.sentence)
        return output

    def cancel(self) -> None:
        """End the present run, if any; its ``onFinished`` gets a cancelled outcome."""
        self._engine.stop()


def _finish(
    run: SegmentationRun,
    outcome: RunOutcome,
    onFinished: Callable[[RunOutcome, SegmentationOutput | None], None],
) -> None:
    output = None
    try:
        if outcome.status is RunStatus.COMPLETED:
            output = run.load()
    except (RuntimeError, ValueError) as error:
        outcome = RunOutcome(RunStatus.FAILED, str(error))
    finally:
        run.close()
    onFinished(outcome, output)
