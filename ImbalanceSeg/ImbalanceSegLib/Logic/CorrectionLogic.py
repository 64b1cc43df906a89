"""Correcting a segmentation together with the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from imbalanceseg.progress import ProgressCallback, ignore_progress
from ImbalanceSegLib.Engine.EngineLink import EngineLink
from ImbalanceSegLib.Logic.Activity import Activity, FinishedCallback
from ImbalanceSegLib.Logic.AdaptationLogic import AdaptationLogic
from ImbalanceSegLib.Logic.AnnotationLogic import AnnotationLogic
from ImbalanceSegLib.Logic.ClickLogic import ClickLogic
from ImbalanceSegLib.Logic.ScanAddresses import ScanAddresses
from ImbalanceSegLib.Logic.SegmentationOutput import SegmentationOutput
from ImbalanceSegLib.Logic.StepUndo import canTakeBack, takeBack
from ImbalanceSegLib.Logic.SuggestedSlice import SuggestedSlice
from ImbalanceSegLib.Logic.SuggestionLogic import SuggestionLogic
from ImbalanceSegLib.Logic.Workpiece import Workpiece
from ImbalanceSegLib.Scene.StepHistory import StepHistory
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord


class CorrectionLogic:
    """Adaptations, clicks and suggestions for segmentations, one piece of work at a time.

    Segments of others never change, nor do voxels in finished slices.

    Args:
        link: to the engine.
        annotationLogic: knows what was painted.

    Attributes:
        beforeChange: called with the segmentation right before its segments change, once for every
            step.
        isBusyElsewhere: says whether other work of the engine goes on, so that none begins here.
    """

    def __init__(self, link: EngineLink, annotationLogic: AnnotationLogic) -> None:
        self.beforeChange: Callable[[slicer.vtkMRMLSegmentationNode], None] = lambda node: None
        self.isBusyElsewhere: Callable[[], bool] = lambda: False
        self._link = link
        self._annotationLogic = annotationLogic
        self._history = StepHistory()
        addresses = ScanAddresses()
        self._adaptations = AdaptationLogic(link, annotationLogic, addresses, self._history)
        self._clicks = ClickLogic(link, annotationLogic, addresses, self._history)
        self._suggestions = SuggestionLogic(link, annotationLogic, addresses)
        self._activity: Activity | None = None

    @property
    def activity(self) -> Activity | None:
        """What goes on; None for nothing."""
        if self._activity is not None and not self._activity.isOver:
            return self._activity
        return self._clicks.activity

    @property
    def isRunning(self) -> bool:
        """Whether anything goes on."""
        return self.activity is not None or self._clicks.isRunning

    def startAdapt(
        self,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        seconds: float,
        model: str | None = None,
        onFinished: FinishedCallback | None = None,
        onProgress: ProgressCallback = ignore_progress,
        onPreview: Callable[[], None] | None = None,
        *,
        device: str = "auto",
    ) -> Activity:
        """Teach the engine what was painted, and return at once.

        What it has learned so far appears in the segments on the way. When it is cancelled or
        fails, they become again what they were.

        Args:
            segmentationNode: that was painted in.
            seconds: how long it may learn.
            model: name of the model to start from; None takes the one that has segmented the
                volume, if any, and ``""`` begins from what was painted alone.
            onFinished: receives the outcome once; the value of a success is a
                :class:`SegmentationOutput`.
            onProgress: receives every step.
            onPreview: called whenever the segments show something newer.
            device: ``"auto"``, ``"cpu"`` or ``"cuda"``.

        Raises:
            ValueError: nothing was painted, or the nodes cannot be used.
            RuntimeError: something else goes on.
        """
        self._requireFree()
        self._activity = self._adaptations.start(
            segmentationNode,
            seconds,
            model,
            device,
            self._changing(segmentationNode),
            onFinished,
            onProgress,
            onPreview,
        )
        return self._activity

    def adapt(
        self,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        seconds: float,
        model: str | None = None,
        *,
        device: str = "auto",
        onProgress: ProgressCallback = ignore_progress,
    ) -> SegmentationOutput:
        """Teach the engine what was painted, and wait; arguments as :meth:`startAdapt`.

        Raises:
            ValueError: nothing was painted, or the nodes cannot be used.
            RuntimeError: it failed or was cancelled; the text says why.
        """
        activity = self.startAdapt(
            segmentationNode, seconds, model, device=device, onProgress=onProgress
        )
        output: SegmentationOutput = activity.wait()
        return output

    def finishNow(self) -> None:
        """Have the present adaptation end soon, with the best that it has found so far."""
        activity = self._activity
        if activity is None or activity.isOver or activity.kind != "adapt":
            return
        if activity.task is not None:
            self._link.client.finish(activity.task)

    def startClick(
        self,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        pointRAS: Sequence[float],
        label: int,
        radiusMm: float = 1.5,
        onFinished: FinishedCallback | None = None,
    ) -> Activity:
        """Say what is at a point, and return at once; clicks are answered in their order.

        Args:
            segmentationNode: whose segments follow.
            pointRAS: of the world, in mm.
            label: of the segment that was missed there; 0 where something is wrong.
            radiusMm: of the ball around the point that is certainly of this label, in mm.
            onFinished: receives the outcome once; the value of a success is the number of voxels
                that have changed.

        Raises:
            ValueError: the point, the label or the nodes cannot be used, or there is no result yet.
            RuntimeError: something else goes on than clicks.
        """
        self._requireFree(orClicks=True)
        return self._clicks.start(
            segmentationNode,
            pointRAS,
            label,
            radiusMm,
            self._changing(segmentationNode),
            onFinished,
        )

    def click(
        self,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        pointRAS: Sequence[float],
        label: int,
        radiusMm: float = 1.5,
    ) -> int:
        """Say what is at a point, and wait; arguments as :meth:`startClick`.

        Returns:
            How many voxels have changed.

        Raises:
            ValueError: the point, the label or the nodes cannot be used, or there is no result yet.
            RuntimeError: it failed; the text says why.
        """
        changed: int = self.startClick(segmentationNode, pointRAS, label, radiusMm).wait()
        return changed

    def startSuggest(
        self,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        n: int = 5,
        onFinished: FinishedCallback | None = None,
    ) -> Activity:
        """Ask which slices are best painted next, and return at once.

        Args:
            segmentationNode: that is to become better.
            n: slices, at most.
            onFinished: receives the outcome once; the value of a success is a list of
                :class:`SuggestedSlice`, the best first, empty where no further slice is worth it.

        Raises:
            ValueError: the nodes cannot be used, or there is no result yet.
            RuntimeError: something else goes on.
        """
        self._requireFree()
        self._activity = self._suggestions.start(segmentationNode, n, onFinished)
        return self._activity

    def suggest(
        self, segmentationNode: slicer.vtkMRMLSegmentationNode, n: int = 5
    ) -> list[SuggestedSlice]:
        """Ask which slices are best painted next, and wait; arguments as :meth:`startSuggest`.

        Raises:
            ValueError: the nodes cannot be used, or there is no result yet.
            RuntimeError: it failed; the text says why.
        """
        suggested: list[SuggestedSlice] = self.startSuggest(segmentationNode, n).wait()
        return suggested

    def cancel(self) -> None:
        """End what goes on, clicks that wait included; their callbacks hear of it at once."""
        if self._activity is not None:
            self._activity.cancel()
        self._clicks.cancel()

    def canUndo(self, segmentationNode: slicer.vtkMRMLSegmentationNode | None) -> bool:
        """Whether a click or an adaptation of this session can be taken back."""
        if segmentationNode is None or self.isRunning:
            return False
        return canTakeBack(segmentationNode, self._history)

    def undo(self, segmentationNode: slicer.vtkMRMLSegmentationNode) -> str:
        """Take the last click or adaptation back: labels, maps, and what the engine goes on from.

        What was painted since, and what stands in slices that were finished since, stays.

        Returns:
            ``"click"`` or ``"adapt"``; empty where there was nothing to take back.

        Raises:
            ValueError: the nodes cannot be used.
            RuntimeError: something goes on.
        """
        self._requireFree()
        if not canTakeBack(segmentationNode, self._history):
            return ""
        piece = Workpiece(segmentationNode)
        self.beforeChange(segmentationNode)
        return takeBack(piece, self._history, self._annotationLogic)

    def adaptedModels(self, segmentationNode: slicer.vtkMRMLSegmentationNode) -> list[str]:
        """The engine's names of the models that adaptations have made, the newest last."""
        steps = WorkRecord(segmentationNode).steps
        return [step["model"] for step in steps if step["kind"] == "adapt" and step["model"]]

    def startKeepModel(
        self,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        folder: str | Path,
        name: str,
        onFinished: FinishedCallback | None = None,
    ) -> Activity:
        """Keep the model of the last adaptation in a folder, and return at once.

        Args:
            segmentationNode: that was adapted.
            folder: receives a folder of the name.
            name: small letters, digits and hyphens.
            onFinished: receives the outcome once; the value of a success is the model's folder.

        Raises:
            ValueError: there is no adapted model.
            RuntimeError: something goes on.
        """
        self._requireFree()
        models = self.adaptedModels(segmentationNode)
        if not models:
            raise ValueError(_("There is no adapted model yet. Paint slices and adapt first."))
        client = self._link.client
        self._activity = Activity(self._link, "export", onFinished).begin(
            lambda callbacks: client.keep_model(models[-1], Path(folder), name, **callbacks)
        )
        return self._activity

    def keepModel(
        self, segmentationNode: slicer.vtkMRMLSegmentationNode, folder: str | Path, name: str
    ) -> Path:
        """Keep the model of the last adaptation, and wait; arguments as :meth:`startKeepModel`.

        Returns:
            The folder of the model.

        Raises:
            ValueError: there is no adapted model.
            RuntimeError: it failed; the text says why.
        """
        kept: Path = self.startKeepModel(segmentationNode, folder, name).wait()
        return kept

    def _requireFree(self, orClicks: bool = False) -> None:
        others = self._activity is not None and not self._activity.isOver
        if others or self.isBusyElsewhere() or (self._clicks.isRunning and not orClicks):
            raise RuntimeError(
                _("The engine is at work on something else. Wait for it, or cancel it first.")
            )

    def _changing(self, segmentationNode: slicer.vtkMRMLSegmentationNode) -> Callable[[], None]:
        return lambda: self.beforeChange(segmentationNode)
