"""Section "Segment": what to segment, and with which model."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from ImbalanceSegLib.Logic.Activity import ActivityOutcome
from ImbalanceSegLib.Logic.ModelCatalogue import ModelChoice, fromScratch, modelChoices
from ImbalanceSegLib.Panel.PanelSection import PanelSection


class SegmentSection(PanelSection):
    """Section "Segment": what to segment, and with which model."""

    def setup(self) -> None:
        """Connect the widgets."""
        self._choices: list[ModelChoice] = []
        self.ui.segmentButton.connect("clicked(bool)", self._onSegmentButton)
        self.ui.modelSelector.connect("currentIndexChanged(int)", self._onModelChanged)

    def update(self) -> None:
        """Offer the models that the engine has, and show the one that is chosen."""
        choices = [*modelChoices(self.logic.link.models), fromScratch()]
        box = self.ui.modelSelector
        wasBlocked = box.blockSignals(True)
        if choices != self._choices:
            self._choices = choices
            box.clear()
            box.addItems([choice.title for choice in choices])
        box.currentIndex = self._indexOfModel()
        box.blockSignals(wasBlocked)
        choice = self.choice
        self.ui.modelInfoLabel.text = "" if choice is None else choice.summary
        box.toolTip = _("What to look for, and in which kind of image.") + (
            "" if choice is None else "\n\n" + choice.description
        )

    @property
    def choice(self) -> ModelChoice | None:
        """The model that is chosen; None where it is not offered."""
        index = self._indexOfModel()
        return self._choices[index] if index >= 0 else None

    @property
    def whyNoModel(self) -> str:
        """Why the chosen model cannot be used; empty when it can."""
        parameters = self.panel.parameters
        if parameters is None or self.choice is not None:
            return ""
        return _("The engine has no model '{model}'. Choose another one.").format(
            model=parameters.model
        )

    def begin(self) -> None:
        """Segment what the parameters say."""
        panel, parameters = self.panel, self.panel.parameters
        if parameters is None or not panel.advanced.install.isReady():
            return
        maps = {"hardness": parameters.hardnessMap, "attention": parameters.attentionMap}
        volumeNode = parameters.inputVolume
        panel.start(
            "segment",
            lambda onFinished, onProgress: self.logic.segmentation.start(
                volumeNode,
                model=parameters.model,
                device=parameters.device.value,
                maps=[name for name, wanted in maps.items() if wanted],
                segmentationNode=parameters.outputSegmentation,
                onFinished=onFinished,
                onProgress=onProgress,
            ),
            lambda outcome: self._onFinished(volumeNode, outcome),
        )

    def _onSegmentButton(self) -> None:
        if self.panel.cancelOf("segment"):
            return
        if self.panel.parameters is not None and not self.panel.parameters.model:
            self._beginFromScratch()
        else:
            self.begin()

    def _beginFromScratch(self) -> None:
        panel = self.panel
        volumeNode = panel.volumeNode
        node = panel.attempt(lambda: self.logic.annotation.beginFromScratch(volumeNode))
        if node is None:
            return
        panel.parameters.outputSegmentation = node
        self.ui.correctCollapsibleButton.collapsed = False
        panel.monitor.say(
            "segment",
            _(
                "Paint the structure in two or three slices under Correct, press 'Slice done' in "
                "each, then Adapt. The editor's Add makes further structures."
            ),
        )
        panel.refresh()

    def _onModelChanged(self, index: int) -> None:
        if self.panel.parameters is not None and 0 <= index < len(self._choices):
            self.panel.parameters.model = self._choices[index].name

    def _onFinished(self, volumeNode: Any, outcome: ActivityOutcome) -> None:
        if not outcome.succeeded:
            return
        self.panel.look.showMapsAnew()
        # Another module may be shown by now, where the panel has let the parameters go.
        output, parameters = outcome.value, self.panel.parameters or self.logic.getParameterNode()
        if output.segmentIDs:
            sentence = _("Done. Look at the result below, and correct what is wrong.")
        else:
            sentence = _("Done. Nothing was found; is it the right model for this image?")
        self.panel.monitor.say("segment", "\n".join([sentence, *output.notes]))
        # Somebody may have turned to another volume meanwhile.
        if parameters.inputVolume is volumeNode:
            parameters.outputSegmentation = output.segmentationNode
            self.ui.lookCollapsibleButton.collapsed = False
            self.ui.correctCollapsibleButton.collapsed = False
            self.ui.exportCollapsibleButton.collapsed = False

    def _indexOfModel(self) -> int:
        parameters = self.panel.parameters
        names = [choice.name for choice in self._choices]
        if parameters is None or parameters.model not in names:
            return -1
        return names.index(parameters.model)
