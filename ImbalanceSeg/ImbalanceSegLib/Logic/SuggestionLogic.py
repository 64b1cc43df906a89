"""Which slices are best painted next."""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _

from imbalanceseg.client import EngineTask, JobResult
from ImbalanceSegLib.Engine.EngineLink import EngineLink
from ImbalanceSegLib.Logic.Activity import FinishedCallback
from ImbalanceSegLib.Logic.AnnotationLogic import AnnotationLogic
from ImbalanceSegLib.Logic.ScanActivity import ScanActivity
from ImbalanceSegLib.Logic.ScanAddresses import ScanAddresses
from ImbalanceSegLib.Logic.SuggestedSlice import SuggestedSlice
from ImbalanceSegLib.Logic.Workpiece import Workpiece


class SuggestionLogic:
    """Asks the engine for slices.

    Args:
        link: to the engine.
        annotationLogic: knows what was painted.
        addresses: of volumes that the engine has.
    """

    def __init__(
        self, link: EngineLink, annotationLogic: AnnotationLogic, addresses: ScanAddresses
    ) -> None:
        self._link = link
        self._annotationLogic = annotationLogic
        self._addresses = addresses

    def start(
        self,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        n: int,
        onFinished: FinishedCallback | None,
    ) -> ScanActivity:
        """As :meth:`CorrectionLogic.startSuggest`, which sees to it that nothing else goes on."""
        piece = Workpiece(segmentationNode)
        if not piece.record.baseJob:
            raise ValueError(
                _(
                    "Suggestions come from what the engine has found, and it has found nothing "
                    "yet. Segment the volume, or paint slices and adapt."
                )
            )
        annotation = self._annotationLogic.annotationOf(piece.volumeNode, segmentationNode)

        def ask(address: str, callbacks: Any) -> EngineTask:
            return self._link.client.suggest(
                address,
                piece.record.baseJob,
                n,
                annotation=annotation.image,
                confirmed=[(one.axis, one.index) for one in annotation.confirmed],
                **callbacks,
            )

        def take(job: JobResult) -> list[SuggestedSlice]:
            piece.requirePresent()
            return [_suggested(found) for found in job.outcome["suggestions"]]

        activity = ScanActivity(
            self._link, self._addresses, piece.volumeNode, "suggest", onFinished
        )
        return activity.beginOnScan(ask, take)


def _suggested(found: Any) -> SuggestedSlice:
    return SuggestedSlice(
        int(found["axis"]), int(found["index"]), float(found["score"]), str(found["reason"])
    )
