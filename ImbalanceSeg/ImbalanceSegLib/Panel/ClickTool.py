"""Clicks into the views, by the application's own way of placing points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

Point = tuple[float, float, float]


class ClickTool(VTKObservationMixin):
    """Lets the user click points in the views, one after another, until it is ended.

    The points are those of a hidden markups node, and go as soon as they were reported.

    Args:
        onPoint: receives every point in world coordinates (RAS, mm).
        onEnd: is called when the user has ended it in the views.
    """

    def __init__(self, onPoint: Callable[[Point], None], onEnd: Callable[[], None]) -> None:
        VTKObservationMixin.__init__(self)
        self._onPoint, self._onEnd = onPoint, onEnd
        self._node: Any = None

    @property
    def isPlacing(self) -> bool:
        """Whether a click in a view is a point."""
        return self._node is not None

    def begin(self) -> None:
        """Let clicks in the views be points from now on."""
        if self.isPlacing:
            return
        self._node = _newNode()
        interaction = _interactionNode()
        self.addObserver(
            self._node, slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent, self._onDefined
        )
        logic = slicer.modules.markups.logic()
        logic.SetActiveList(self._node)
        logic.StartPlaceMode(True)
        self.addObserver(interaction, interaction.InteractionModeChangedEvent, self._onMode)

    def end(self) -> None:
        """Let clicks in the views be what they were before."""
        if not self.isPlacing:
            return
        self.removeObservers()
        node, self._node = self._node, None
        interaction = _interactionNode()
        if interaction.GetCurrentInteractionMode() == interaction.Place:
            interaction.SwitchToViewTransformMode()
        interaction.SetPlaceModePersistence(0)
        slicer.mrmlScene.RemoveNode(node)

    def _onDefined(self, caller: Any, event: Any) -> None:
        points = _definedPoints(self._node)
        if points:
            # The view is still at work with the point: it must not go before that is done.
            qt.QTimer.singleShot(0, lambda: self._take(points[-1]))

    def _take(self, point: Point) -> None:
        if self._node is not None:
            self._node.RemoveAllControlPoints()
            self._onPoint(point)

    def _onMode(self, caller: Any, event: Any) -> None:
        if self.isPlacing and caller.GetCurrentInteractionMode() != caller.Place:
            self.end()
            self._onEnd()


def _newNode() -> Any:
    node = slicer.vtkMRMLMarkupsFiducialNode()
    node.SetName(_("ImbalanceSeg click"))
    node.SetHideFromEditors(1)
    node.SetSaveWithScene(0)
    node = slicer.mrmlScene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetPointLabelsVisibility(False)
    return node


def _interactionNode() -> Any:
    return slicer.app.applicationLogic().GetInteractionNode()


def _definedPoints(node: Any) -> list[Point]:
    points = []
    for n in range(node.GetNumberOfControlPoints()):
        if node.GetNthControlPointPositionStatus(n) == node.PositionDefined:
            position = [0.0, 0.0, 0.0]
            node.GetNthControlPointPositionWorld(n, position)
            points.append((position[0], position[1], position[2]))
    return points
