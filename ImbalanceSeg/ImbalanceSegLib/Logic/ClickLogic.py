"""Clicks on what was missed or is wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer
from slicer.i18n import tr as _

from imbalanceseg.client import EngineTask, JobResult
from ImbalanceSegLib.Engine.EngineLink import EngineLink
from ImbalanceSegLib.Logic.Activity import ActivityOutcome, FinishedCallback
from ImbalanceSegLib.Logic.AnnotationLogic import AnnotationLogic
from ImbalanceSegLib.Logic.ScanActivity import ScanActivity
from ImbalanceSegLib.Logic.ScanAddresses import ScanAddresses
from ImbalanceSegLib.Logic.Workpiece import Workpiece
from ImbalanceSegLib.Scene.BoxChange import BoxChange
from ImbalanceSegLib.Scene.Boxes import (
    Window,
    ballAround,
    confirmedMask,
    startOf,
    unionOf,
    within,
)
from ImbalanceSegLib.Scene.CorrectionStep import CorrectionStep
from ImbalanceSegLib.Scene.SegmentAlgorithms import algorithmsOf
from ImbalanceSegLib.Scene.SlicePlane import pointInVolume
from ImbalanceSegLib.Scene.StepHistory import StepHistory
from ImbalanceSegLib.Scene.VolumeGeometry import gridOfVolume


@dataclass(frozen=True)
class _Click:
    """A click, in the volume's own space (LPS, mm)."""

    piece: Workpiece
    pointMm: tuple[float, float, float]
    label: int
    radiusMm: float


class ClickLogic:
    """Sends clicks to the engine one after another, each going on from the one before.

    Args:
        link: to the engine.
        annotationLogic: keeps what clicks say.
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
        self._waiting: deque[tuple[ScanActivity, Callable[[], None]]] = deque()
        self._present: ScanActivity | None = None

    @property
    def isRunning(self) -> bool:
        """Whether a click is not answered yet."""
        return self._present is not None or bool(self._waiting)

    @property
    def activity(self) -> ScanActivity | None:
        """The click that is being answered; None without one."""
        return self._present

    def start(
        self,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        pointRAS: Sequence[float],
        label: int,
        radiusMm: float,
        beforeChange: Callable[[], None],
        onFinished: FinishedCallback | None,
    ) -> ScanActivity:
        """As :meth:`CorrectionLogic.startClick`, which sees to it that nothing else goes on."""
        piece = Workpiece(segmentationNode)
        _requireLabel(piece, label)
        if not piece.record.baseJob:
            raise ValueError(
                _(
                    "A click changes what the engine has found, and it has found nothing yet. "
                    "Segment the volume, or paint slices and adapt."
                )
            )
        click = _Click(piece, _pointIn(piece, pointRAS), label, float(radiusMm))

        def finished(outcome: ActivityOutcome) -> None:
            try:
                if onFinished is not None:
                    onFinished(outcome)
            finally:
                self._goOn(activity)

        activity = ScanActivity(self._link, self._addresses, piece.volumeNode, "click", finished)

        def begin() -> None:
            activity.beginOnScan(
                lambda address, callbacks: self._ask(click, address, callbacks),
                lambda job: self._take(click, job, beforeChange),
            )

        self._waiting.append((activity, begin))
        if self._present is None:
            self._goOn(None)
        return activity

    def cancel(self) -> None:
        """Forget the clicks that wait, and stop the present one."""
        waiting, self._waiting = self._waiting, deque()
        for activity, _begin in waiting:
            activity.cancel()
        if self._present is not None:
            self._present.cancel()

    def _goOn(self, over: ScanActivity | None) -> None:
        """Begin the next click, once the present one is over."""
        if over is not self._present:
            return
        self._present = None
        while self._waiting and self._present is None:
            activity, begin = self._waiting.popleft()
            if activity.isOver:
                continue
            self._present = activity
            try:
                begin()
            except (RuntimeError, ValueError) as error:
                activity.failBefore(str(error))

    def _ask(self, click: _Click, address: str, callbacks: Any) -> EngineTask:
        return self._link.client.click(
            address,
            click.piece.record.baseJob,
            click.pointMm,
            click.label,
            radius_mm=click.radiusMm,
            **callbacks,
        )

    def _take(self, click: _Click, job: JobResult, beforeChange: Callable[[], None]) -> int:
        """Bring an answer into the scene, and say how many voxels have changed."""
        piece = click.piece
        piece.requirePresent()
        ballWindow, ball = ballAround(gridOfVolume(piece.volumeNode), click.pointMm, click.radiusMm)
        box = _boxOf(job, piece)
        window = ballWindow if box is None else unionOf(ballWindow, box)
        old = piece.engineLabels(window).copy()
        new = old.copy()
        if box is not None:
            new[within(box, window)] = sitk.GetArrayViewFromImage(job.images["changed"])
        clicked = np.zeros(old.shape, bool)
        clicked[within(ballWindow, window)] = ball
        own = piece.ownLabels(window)
        # What a person has painted stays, except where the same person now clicks.
        wanted = (new != old) & ((own == old) | clicked)
        wanted |= clicked & (new == click.label)
        wanted &= ~confirmedMask(self._annotationLogic.confirmedOf(piece), piece.shape, window)
        after = np.where(wanted, new, own)
        before = algorithmsOf(piece.node, piece.segmentIDs.values())
        changed = int(np.count_nonzero(after != own))
        if changed:
            beforeChange()
            piece.write(own, after, window)
        piece.setEngineLabels(new, window)
        step = CorrectionStep(
            "click",
            job.job,
            BoxChange.between(own, after, startOf(window)),
            BoxChange.between(old, new, startOf(window)),
            self._annotationLogic.click(piece, click.pointMm, click.label, click.radiusMm),
            algorithms=before,
        )
        piece.record.push("click", job.job, piece.record.steps[-1]["model"])
        self._history.push(piece.node, step)
        return changed


def _requireLabel(piece: Workpiece, label: int) -> None:
    known = {info.label for info in piece.record.segments} | set(piece.segmentIDs)
    if label != 0 and label not in known:
        raise ValueError(_("There is no segment with the label {label}.").format(label=label))


def _pointIn(piece: Workpiece, pointRAS: Sequence[float]) -> tuple[float, float, float]:
    point = pointInVolume(piece.volumeNode, pointRAS)
    grid = gridOfVolume(piece.volumeNode)
    index = np.rint(grid.physical_to_index(point))
    if not (np.all(index >= 0) and np.all(index < grid.size)):
        raise ValueError(
            _("The click does not lie in the volume '{name}'. Click inside the volume.").format(
                name=piece.volumeNode.GetName()
            )
        )
    return point


def _boxOf(job: JobResult, piece: Workpiece) -> Window | None:
    """Where an answer has changed something; None where it has not."""
    start, image = job.outcome.get("start"), job.images.get("changed")
    if start is None or image is None:
        return None
    i, j, k = (slice(int(a), int(a) + n) for a, n in zip(start, image.GetSize(), strict=True))
    if any(a.start < 0 or a.stop > n for a, n in zip((k, j, i), piece.shape, strict=True)):
        raise RuntimeError(_("The answer of the engine reaches beyond the volume."))
    return k, j, i
