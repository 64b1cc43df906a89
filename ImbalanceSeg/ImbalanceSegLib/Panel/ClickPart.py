"""Clicking in section "Correct": what was missed, and what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from slicer.i18n import tr as _

from ImbalanceSegLib.Logic.Activity import ActivityOutcome
from ImbalanceSegLib.Panel.ClickTool import ClickTool, Point
from ImbalanceSegLib.Panel.PanelSection import PanelSection
from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter

_WRONG = 0


class ClickPart(PanelSection):
    """The tools "+ Missed" and "− Wrong"; clicks that come while one is worked on wait."""

    @property
    def shortcuts(self) -> Mapping[str, Callable[[], None]]:
        """What a key does while the module is open."""
        return {
            "Shift+M": self.ui.missedButton.click,
            "Shift+W": self.ui.wrongButton.click,
        }

    def setup(self) -> None:
        """Connect the widgets."""
        self._tool = ClickTool(self._onPoint, self._showEnded)
        self._waiting: list[Callable[[], None]] = []
        self._labels: list[int] = []
        self._names: list[str] = []
        self.ui.missedButton.connect("clicked(bool)", self._onMissedButton)
        self.ui.wrongButton.connect("clicked(bool)", self._onWrongButton)
        self.ui.clickSegmentSelector.connect("currentIndexChanged(int)", self._onSegmentChanged)

    def exit(self) -> None:
        """Another module is shown."""
        self.end()

    def sceneCloses(self) -> None:
        """Let go of what is in the scene."""
        self.end()

    def update(self) -> None:
        """Offer the own segments of the selected segmentation."""
        node, parameters = self.panel.segmentationNode, self.panel.parameters
        own = {} if node is None else SegmentWriter.ownSegments(node)
        labels = sorted(own)
        names = [node.GetSegmentation().GetSegment(own[label]).GetName() for label in labels]
        box = self.ui.clickSegmentSelector
        wasBlocked = box.blockSignals(True)
        if (labels, names) != (self._labels, self._names):
            self._labels, self._names = labels, names
            box.clear()
            box.addItems(names)
        if parameters is not None and labels:
            box.currentIndex = labels.index(self._missedLabel())
        box.blockSignals(wasBlocked)

    def end(self) -> None:
        """End the tool, and forget clicks that wait."""
        self._waiting.clear()
        self._tool.end()
        self._showEnded()

    def endUnlessEnabled(self) -> None:
        """End the tool where its button cannot be pressed any more."""
        buttons = (self.ui.missedButton, self.ui.wrongButton)
        if self._tool.isPlacing and not all(button.enabled for button in buttons):
            self.end()

    def _missedLabel(self) -> int:
        wanted = self.panel.parameters.clickLabel
        return wanted if wanted in self._labels else self._labels[0]

    def _onSegmentChanged(self, index: int) -> None:
        if self.panel.parameters is not None and 0 <= index < len(self._labels):
            self.panel.parameters.clickLabel = self._labels[index]

    def _onMissedButton(self) -> None:
        self._onButton(self.ui.missedButton, self.ui.wrongButton)

    def _onWrongButton(self) -> None:
        self._onButton(self.ui.wrongButton, self.ui.missedButton)

    def _onButton(self, pressed: Any, other: Any) -> None:
        other.checked = False
        if not pressed.checked:
            self._tool.end()
            return
        self.panel.correct.paint.editor.endEffect()
        self._tool.begin()
        self.panel.monitor.say("click", _("Click in a view. Right-click, or press again, to end."))

    def _showEnded(self) -> None:
        self.ui.missedButton.checked = False
        self.ui.wrongButton.checked = False

    def _onPoint(self, point: Point) -> None:
        node, parameters = self.panel.segmentationNode, self.panel.parameters
        if node is None:
            return
        label = _WRONG if self.ui.wrongButton.checked else self._missedLabel()
        radiusMm = parameters.clickRadiusMm

        def send() -> None:
            self.panel.start(
                "click",
                lambda onFinished, onProgress: self.logic.correction.startClick(
                    node, point, label, radiusMm, onFinished
                ),
                self._onFinished,
            )

        if self.panel.activity is None:
            send()
        else:
            self._waiting.append(send)

    def _onFinished(self, outcome: ActivityOutcome) -> None:
        if not outcome.succeeded:
            self._waiting.clear()
            return
        self.panel.monitor.say("click", _("Done. Click on, or press Undo click."))
        self.panel.look.showMapsAnew()
        if self._waiting:
            self._waiting.pop(0)()
