"""Teaching a model one patient from what was painted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import SimpleITK as sitk
import slicer
from slicer.i18n import tr as _

from imbalanceseg.client import EngineTask
from imbalanceseg.progress import ProgressCallback, ignore_progress
from ImbalanceSegLib.Engine.EngineLink import EngineLink
from ImbalanceSegLib.Logic.Activity import ActivityOutcome, FinishedCallback
from ImbalanceSegLib.Logic.Adaptation import Adaptation
from ImbalanceSegLib.Logic.AnnotationLogic import AnnotationLogic
from ImbalanceSegLib.Logic.ScanActivity import ScanActivity
from ImbalanceSegLib.Logic.ScanAddresses import ScanAddresses
from ImbalanceSegLib.Logic.Workpiece import Workpiece
from ImbalanceSegLib.Scene.StepHistory import StepHistory

_LONGEST_NAME = 64


class AdaptationLogic:
    """Starts adaptations and follows them.

    Args:
        link: to the engine.
        annotationLogic: knows what was painted.
        addresses: of volumes that the engine has.
        history: receives the steps.
    """

    def __init__(
        self,
        link: EngineLink,
        annotationLogic: AnnotationLogic,
        addresses: ScanAddresses,
        history: StepHistory,
    ) -> None:
        self._link = link
        self._annotationLogic = annotationLogic
        self._addresses = addresses
        self._history = history

    def start(
        self,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        seconds: float,
        model: str | None,
        device: str,
        beforeChange: Callable[[], None],
        onFinished: FinishedCallback | None,
        onProgress: ProgressCallback = ignore_progress,
        onPreview: Callable[[], None] | None = None,
    ) -> ScanActivity:
        """As :meth:`CorrectionLogic.startAdapt`, which sees to it that nothing else goes on."""
        piece = Workpiece(segmentationNode)
        annotation = self._annotationLogic.annotationOf(piece.volumeNode, segmentationNode)
        if not annotation.known.any():
            raise ValueError(
                _(
                    "Nothing was painted yet. Paint what belongs to the segment in one slice or "
                    "more, and press 'Slice done' for each."
                )
            )
        wanted = piece.shippedModel if model is None else model
        names = {} if wanted else {"names": _namesOf(piece)}
        run = Adaptation(piece, annotation, self._annotationLogic, self._history, beforeChange)
        activity: ScanActivity

        def show(preview: sitk.Image) -> None:
            if not activity.isOver and run.show(preview) and onPreview is not None:
                onPreview()

        def finished(outcome: ActivityOutcome) -> None:
            if not outcome.succeeded:
                _takeBack(run)
            if onFinished is not None:
                onFinished(outcome)

        def ask(address: str, callbacks: Any) -> EngineTask:
            return self._link.client.finetune(
                address,
                annotation.image,
                self._idOf(wanted),
                [(one.axis, one.index) for one in annotation.confirmed],
                on_preview=show,
                seconds=float(seconds),
                device=device,
                prepare_clicks=True,
                **names,
                **self._link.settings.memoryOptions(),
                **callbacks,
            )

        activity = ScanActivity(
            self._link, self._addresses, piece.volumeNode, "adapt", finished, onProgress
        )
        return activity.beginOnScan(ask, run.keep)

    def _idOf(self, model: str) -> str | None:
        """What the engine calls a model that is known by the name of its card; None for none."""
        offered = self._link.models
        named = [str(one["id"]) for one in offered if one["name"] == model]
        if named and all(one["id"] != model for one in offered):
            return named[0]
        return model or None


def _namesOf(piece: Workpiece) -> dict[int, str]:
    segmentation = piece.node.GetSegmentation()
    return {
        label: segmentation.GetSegment(segmentID).GetName()[:_LONGEST_NAME]
        for label, segmentID in piece.segmentIDs.items()
    }


def _takeBack(run: Adaptation) -> None:
    try:
        run.takeBack()
    except RuntimeError:
        logging.exception("ImbalanceSeg: a preview could not be taken back")
