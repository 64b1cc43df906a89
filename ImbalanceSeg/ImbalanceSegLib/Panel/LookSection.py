"""Section "Look": the result, and where it is fragile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from slicer.i18n import tr as _

from ImbalanceSegLib.Logic.HardRegionStepper import HardRegionStepper
from ImbalanceSegLib.Panel.PanelSection import PanelSection


class LookSection(PanelSection):
    """Section "Look": the result, and where it is fragile."""

    _steppers: dict[str, HardRegionStepper]
    _shown: tuple[Any, ...] | None = None

    @property
    def shortcuts(self) -> Mapping[str, Callable[[], None]]:
        """What a key does while the module is open."""
        return {
            "Shift+N": self.ui.nextRegionButton.click,
            "Shift+P": self.ui.previousRegionButton.click,
        }

    def setup(self) -> None:
        """Connect the widgets."""
        self._steppers = {}
        self.ui.nextRegionButton.connect("clicked(bool)", self._onNext)
        self.ui.previousRegionButton.connect("clicked(bool)", self._onPrevious)

    def update(self) -> None:
        """Show the selected segmentation and its maps."""
        node = self.panel.segmentationNode
        if self.ui.segmentsTable.segmentationNode() is not node:
            self.ui.segmentsTable.setSegmentationNode(node)
            self.ui.show3DButton.setSegmentationNode(node)
        self._showMaps()
        stepper = None if node is None else self._steppers.get(node.GetID())
        self.ui.regionPositionLabel.text = (
            stepper.position if stepper and stepper.position else _("Hard regions")
        )

    def showMapsAnew(self) -> None:
        """Show the maps again, as other maps than before may be there."""
        self._shown = None

    def sceneCloses(self) -> None:
        """Let go of what is in the scene."""
        self._steppers.clear()
        self._shown = None
        self.ui.segmentsTable.setSegmentationNode(None)
        self.ui.show3DButton.setSegmentationNode(None)

    def _showMaps(self) -> None:
        node, parameters = self.panel.segmentationNode, self.panel.parameters
        if parameters is None or not self.logic.hasViews:
            return
        opacities = {}
        if parameters.hardnessMap:
            opacities["hardness"] = parameters.hardnessOpacity
        if parameters.attentionMap:
            opacities["attention"] = parameters.attentionOpacity
        wanted = (None if node is None else node.GetID(), opacities, parameters.legend)
        if wanted == self._shown:
            return
        wasShown, self._shown = self._shown is not None, wanted
        maps = self.logic.maps
        if node is not None and opacities:
            self.panel.attempt(lambda: maps.showMaps(node, opacities, parameters.legend))
        elif wasShown:
            maps.hide()

    def _onNext(self) -> None:
        self._step(lambda stepper: stepper.next())

    def _onPrevious(self) -> None:
        self._step(lambda stepper: stepper.previous())

    def _step(self, step: Callable[[HardRegionStepper], Any]) -> None:
        node = self.panel.segmentationNode
        if node is None:
            return
        stepper = self._steppers.setdefault(
            node.GetID(), HardRegionStepper(node, self.logic.navigation)
        )
        if self.panel.attempt(lambda: (step(stepper),)) is not None:
            self.ui.regionSentenceLabel.text = stepper.sentence
        self.panel.refresh()
