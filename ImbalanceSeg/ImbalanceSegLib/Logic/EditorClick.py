"""Clicks of the Segment Editor's effect: what keeps one from working, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from ImbalanceSegLib.Logic.Activity import ActivityOutcome
from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord

if TYPE_CHECKING:
    from ImbalanceSegLib.Logic.CorrectionLogic import CorrectionLogic

BACKGROUND = 0
"""The label of a click on what is wrong."""


class EditorClick:
    """Sends clicks on segments to the engine, which answers them in their order.

    Args:
        correction: does what a click asks for.
        saveState: keeps the state of the segments for the editor's undo.
        say: shows a sentence to the user.
    """

    def __init__(
        self,
        correction: CorrectionLogic,
        saveState: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self._correction, self._saveState, self._say = correction, saveState, say
        self._unanswered = 0

    @property
    def isRunning(self) -> bool:
        """Whether a click is not answered yet."""
        return self._unanswered > 0

    def start(
        self,
        segmentationNode: slicer.vtkMRMLSegmentationNode | None,
        segmentID: str,
        pointRAS: Sequence[float],
        isWrong: bool,
        radiusMm: float,
    ) -> None:
        """Begin to work on a click and return at once; what keeps it from working is said.

        Args:
            segmentationNode: that is edited.
            segmentID: the selected segment.
            pointRAS: where, in world coordinates (mm).
            isWrong: whether the segment is wrong there; else it was missed there.
            radiusMm: of what is certain around the point.
        """
        if problem := whyNoClick(segmentationNode, segmentID):
            self._say(problem)
            return
        label = BACKGROUND if isWrong else _labelOf(segmentationNode, segmentID)
        self._say(_("Working on the click..."))
        if not self._unanswered:
            self._saveBeforeChange()
        self._unanswered += 1
        try:
            self._correction.startClick(
                segmentationNode, list(pointRAS), label, radiusMm, onFinished=self._onFinished
            )
        except (RuntimeError, ValueError) as error:
            self._onFinished(ActivityOutcome(sentence=str(error)))

    def undo(self, segmentationNode: slicer.vtkMRMLSegmentationNode | None) -> None:
        """Take the last click or adaptation back."""
        if self.isRunning:
            self._say(_("The last click is still being worked on; wait a moment."))
            return
        if segmentationNode is None or not self._correction.canUndo(segmentationNode):
            self._say(_("There is no click to take back."))
            return
        self._saveBeforeChange()
        try:
            self._correction.undo(segmentationNode)
            self._say(_("Taken back."))
        except (RuntimeError, ValueError) as error:
            self._say(str(error))
        finally:
            self._correction.beforeChange = self._before

    def _saveBeforeChange(self) -> None:
        """Have the state kept for the undo of this editor, and not of the module's panel."""
        self._before = self._correction.beforeChange
        self._correction.beforeChange = lambda node: self._saveState()

    def _onFinished(self, outcome: ActivityOutcome) -> None:
        self._unanswered -= 1
        if not self._unanswered:
            self._correction.beforeChange = self._before
        self._say(_("Done.") if outcome.succeeded else outcome.sentence)


def whyNoClick(segmentationNode: slicer.vtkMRMLSegmentationNode | None, segmentID: str) -> str:
    """One sentence that says what keeps clicks from working; empty when nothing does.

    Args:
        segmentationNode: that is edited.
        segmentID: the selected segment; empty for none.
    """
    if segmentationNode is None:
        return _("Select a segmentation first.")
    if not WorkRecord(segmentationNode).baseJob:
        return _("Nothing was segmented here yet: press Segment in the ImbalanceSeg module first.")
    segment = segmentationNode.GetSegmentation().GetSegment(segmentID) if segmentID else None
    if segment is None:
        return _("Select the segment to correct.")
    if _labelOf(segmentationNode, segmentID) is None:
        return _("'{segment}' was not made by ImbalanceSeg: select a segment that was.").format(
            segment=segment.GetName()
        )
    displayNode = segmentationNode.GetDisplayNode()
    if displayNode is not None and not displayNode.GetSegmentVisibility(segmentID):
        return _("'{segment}' is hidden: show it first, to see what a click does.").format(
            segment=segment.GetName()
        )
    return ""


def _labelOf(segmentationNode: slicer.vtkMRMLSegmentationNode, segmentID: str) -> int | None:
    own = SegmentWriter.ownSegments(segmentationNode)
    found = [label for label, name in own.items() if name == segmentID]
    return found[0] if found else None
