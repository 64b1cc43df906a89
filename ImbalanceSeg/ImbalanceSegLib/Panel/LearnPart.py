"""Learning in section "Correct": suggestions, adaptation, and what is kept of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from imbalanceseg.progress import ProgressEvent
from ImbalanceSegLib.Logic.Activity import ActivityOutcome
from ImbalanceSegLib.Logic.LossPlot import LossPlot
from ImbalanceSegLib.Logic.SuggestedSlice import SuggestedSlice
from ImbalanceSegLib.Panel.PanelSection import PanelSection
from ImbalanceSegLib.Panel.SliceList import SliceList
from ImbalanceSegLib.Scene.SliceTitle import sliceTitle
from ImbalanceSegLib.Scene.SliceView import SliceView

_SUGGESTIONS = 5


class LearnPart(PanelSection):
    """Suggested slices, "Adapt" with its curve, Undo and "Keep model as..."."""

    @property
    def shortcuts(self) -> Mapping[str, Callable[[], None]]:
        """What a key does while the module is open."""
        return {"Shift+A": self.ui.adaptButton.click}

    def setup(self) -> None:
        """Connect the widgets."""
        ui = self.ui
        self._suggestions: dict[str, list[SuggestedSlice]] = {}
        self._plot: LossPlot | None = None
        self._list = SliceList(ui.suggestionsList, self._onChosen)
        ui.suggestButton.connect("clicked(bool)", self._onSuggest)
        ui.adaptButton.connect("clicked(bool)", self._onAdapt)
        ui.finishNowButton.connect("clicked(bool)", self._onFinishNow)
        ui.undoButton.connect("clicked(bool)", self._onUndo)
        ui.keepModelButton.connect("clicked(bool)", self._onKeepModel)

    def exit(self) -> None:
        """Another module is shown."""
        self._endPlot()

    def sceneCloses(self) -> None:
        """Let go of what is in the scene."""
        self._suggestions.clear()
        self._list.show([], [])
        self._endPlot()

    def update(self) -> None:
        """Show the suggestions for the selected segmentation."""
        node, volumeNode = self.panel.segmentationNode, self.panel.volumeNode
        known = None if node is None else self._suggestions.get(node.GetID())
        found = [] if known is None or volumeNode is None else known
        texts = [
            _("{slice}: {reason}").format(
                slice=sliceTitle(volumeNode, one.axis, one.index), reason=one.reason
            )
            for one in found
        ]
        self._list.show(found, texts)
        self.ui.suggestionsList.setVisible(bool(found))
        self.ui.suggestionsLabel.setVisible(known == [])
        self.ui.suggestionsLabel.text = _(
            "Nothing more is worth painting: the model is sure of the rest, or you have painted it."
        )

    def onProgress(self, event: ProgressEvent) -> None:
        """Draw what an adaptation tells."""
        if self._plot is not None:
            self._plot.add(event)

    def _onSuggest(self) -> None:
        if self.panel.cancelOf("suggest"):
            return
        node = self.panel.segmentationNode
        self.panel.start(
            "suggest",
            lambda onFinished, onProgress: self.logic.correction.startSuggest(
                node, _SUGGESTIONS, onFinished
            ),
            lambda outcome: self._onSuggested(node, outcome),
        )

    def _onSuggested(self, node: Any, outcome: ActivityOutcome) -> None:
        if outcome.succeeded:
            self._suggestions[node.GetID()] = list(outcome.value)
            if outcome.value:
                self.panel.monitor.say(
                    "suggest", _("Double-click a slice to go there, and correct it.")
                )

    def _onChosen(self, chosen: SuggestedSlice) -> None:
        view = self.panel.jumpTo(chosen.axis, chosen.index)
        # "Slice done" then means the slice that was gone to.
        known = [one for one in SliceView if one.value == view]
        if known:
            self.panel.parameters.view = known[0]

    def _onAdapt(self) -> None:
        panel = self.panel
        if panel.cancelOf("adapt") or not panel.advanced.install.isReady():
            return
        node, parameters = panel.segmentationNode, panel.parameters
        self._beginPlot()
        begun = panel.start(
            "adapt",
            lambda onFinished, onProgress: self.logic.correction.startAdapt(
                node,
                parameters.adaptSeconds,
                onFinished=onFinished,
                onProgress=onProgress,
                device=parameters.device.value,
            ),
            lambda outcome: self._onAdapted(node, outcome),
            seconds=parameters.adaptSeconds,
        )
        if not begun:
            self._endPlot()

    def _onAdapted(self, node: Any, outcome: ActivityOutcome) -> None:
        self._endPlot()
        if not outcome.succeeded:
            return
        self._suggestions.pop(node.GetID(), None)
        self.panel.look.showMapsAnew()
        self.panel.monitor.say(
            "adapt", _("Adapted. Look at the result; Undo adaptation takes it back.")
        )

    def _onFinishNow(self) -> None:
        self.panel.monitor.say("adapt", _("Finishing with what was learnt so far..."))
        self.panel.attempt(self.logic.correction.finishNow)

    def _onUndo(self) -> None:
        node = self.panel.segmentationNode
        undone = self.panel.attempt(lambda: self.logic.correction.undo(node))
        if undone:
            sentence = {
                "click": _("The last click was taken back."),
                "adapt": _("The last adaptation was taken back."),
            }[undone]
            self.panel.monitor.say("adapt", sentence)
            self.panel.look.showMapsAnew()
        self.panel.refresh()

    def _onKeepModel(self) -> None:
        chosen = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(), _("Keep the model as"), self.panel.advanced.modelFolder
        )
        if not chosen:
            return
        path, node = Path(chosen), self.panel.segmentationNode
        self.panel.start(
            "keep",
            lambda onFinished, onProgress: self.logic.correction.startKeepModel(
                node, path.parent, _modelName(path.name), onFinished
            ),
            self._onKept,
        )

    def _onKept(self, outcome: ActivityOutcome) -> None:
        if outcome.succeeded:
            self.panel.monitor.say(
                "keep",
                _("The model is kept in {path}. Name this folder under Advanced to use it.").format(
                    path=outcome.value
                ),
            )

    def _beginPlot(self) -> None:
        self._endPlot()
        if self.panel.parameters.lossCurve and self.logic.hasViews:
            self._plot = LossPlot()
            self._plot.begin(self.panel.volumeNode.GetName())

    def _endPlot(self) -> None:
        plot, self._plot = self._plot, None
        if plot is not None:
            plot.end()


def _modelName(text: str) -> str:
    """What the engine takes for a name: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "adapted"
