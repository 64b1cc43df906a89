"""Segmenting volume nodes with the engine, with or without a GUI."""

from __future__ import annotations

from collections.abc import Sequence

import slicer
from slicer.i18n import tr as _

from imbalanceseg.client import JobResult
from imbalanceseg.progress import ProgressCallback, ignore_progress
from ImbalanceSegLib.Engine.EngineLink import EngineLink
from ImbalanceSegLib.Logic.Activity import Activity, FinishedCallback
from ImbalanceSegLib.Logic.AnnotationLogic import AnnotationLogic
from ImbalanceSegLib.Logic.InputCheck import whyNotReady
from ImbalanceSegLib.Logic.SegmentationOutput import SegmentationOutput
from ImbalanceSegLib.Logic.SegmentationTarget import SegmentationTarget
from ImbalanceSegLib.Scene.VolumeGeometry import imageOfVolume


class SegmentationLogic:
    """Sends a volume to the engine and puts the result into the scene.

    Example::

        output = logic.segment(volumeNode, model="airway")
        output.segmentationNode.CreateClosedSurfaceRepresentation()

    Args:
        link: to the engine, on this computer or elsewhere.
        annotationLogic: knows what was painted, which a new run of the model shall not wipe out;
            None where nothing is painted.
    """

    def __init__(self, link: EngineLink, annotationLogic: AnnotationLogic | None = None) -> None:
        self._link = link
        self._annotationLogic = annotationLogic
        self._activity: Activity | None = None

    @property
    def activity(self) -> Activity | None:
        """The run that is going on; None without one."""
        return self._activity if self.isRunning else None

    @property
    def isRunning(self) -> bool:
        """Whether a run was started whose ``onFinished`` has not been called yet."""
        return self._activity is not None and not self._activity.isOver

    def start(
        self,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        *,
        model: str,
        device: str = "auto",
        maps: Sequence[str] = ("hardness",),
        segmentationNode: slicer.vtkMRMLSegmentationNode | None = None,
        onFinished: FinishedCallback | None = None,
        onProgress: ProgressCallback = ignore_progress,
    ) -> Activity:
        """Begin to segment a volume and return at once.

        Args:
            volumeNode: the volume to segment.
            model: name of a model, as the engine offers it.
            device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
            maps: names of the maps wanted beside the labels, ``"hardness"`` or ``"attention"``.
            segmentationNode: where the segments go; None makes a new node. Segments that are not
                of this module stay as they are.
            onFinished: receives the outcome once; the value of a success is a
                :class:`SegmentationOutput`.
            onProgress: receives every step.

        Raises:
            ValueError: the volume or the segmentation node cannot be used.
            RuntimeError: a run is going on.
        """
        if self.isRunning:
            raise RuntimeError(_("Another volume is being segmented; wait or cancel it first."))
        if problem := whyNotReady(volumeNode, segmentationNode):
            raise ValueError(problem)
        if self._annotationLogic is not None and segmentationNode is not None:
            self._annotationLogic.readPainted(segmentationNode)
        link, wanted = self._link, tuple(maps)
        target = SegmentationTarget(volumeNode, segmentationNode, wanted)
        image = imageOfVolume(volumeNode)
        self._activity = Activity(link, "segment", onFinished, onProgress)
        return self._activity.begin(
            lambda callbacks: link.client.segment(
                image,
                model,
                maps=list(wanted),
                device=device,
                prepare_clicks=True,
                **link.settings.jobOptions(),
                **callbacks,
            ),
            lambda job: self._filled(target, job),
        )

    def segment(
        self,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        *,
        model: str,
        device: str = "auto",
        maps: Sequence[str] = ("hardness",),
        segmentationNode: slicer.vtkMRMLSegmentationNode | None = None,
        onProgress: ProgressCallback = ignore_progress,
    ) -> SegmentationOutput:
        """Segment a volume and wait for the result; for scripts. Arguments as in :meth:`start`.

        Returns:
            The nodes that were filled.

        Raises:
            ValueError: the volume or the segmentation node cannot be used.
            RuntimeError: the engine failed or was cancelled; the text says why.
        """
        activity = self.start(
            volumeNode,
            model=model,
            device=device,
            maps=maps,
            segmentationNode=segmentationNode,
            onProgress=onProgress,
        )
        output: SegmentationOutput = activity.wait()
        return output

    def _filled(self, target: SegmentationTarget, job: JobResult) -> SegmentationOutput:
        output = target.fill(job)
        if self._annotationLogic is not None:
            self._annotationLogic.keepPainted(target.volumeNode, output.segmentationNode)
            self._annotationLogic.offerSegments(output.segmentationNode)
        return output

    def cancel(self) -> None:
        """End the present run, if any; its ``onFinished`` gets a cancelled outcome at once."""
        if self._activity is not None:
            self._activity.cancel()
