"""Section "Correct": painting, clicking, and letting the model learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from imbalanceseg.progress import ProgressEvent
from ImbalanceSegLib.Panel.ClickPart import ClickPart
from ImbalanceSegLib.Panel.LearnPart import LearnPart
from ImbalanceSegLib.Panel.PaintPart import PaintPart
from ImbalanceSegLib.Panel.PanelSection import PanelSection

if TYPE_CHECKING:
    from ImbalanceSegLib.Panel.Panel import Panel


class CorrectSection(PanelSection):
    """Section "Correct": painting, clicking, and letting the model learn.

    Attributes:
        paint: the editor and the finished slices.
        click: the tools "+ Missed" and "− Wrong".
        learn: suggestions and adaptation.
    """

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        self.paint, self.click, self.learn = PaintPart(panel), ClickPart(panel), LearnPart(panel)
        self._parts = (self.paint, self.click, self.learn)

    @property
    def shortcuts(self) -> Mapping[str, Callable[[], None]]:
        """What a key does while the module is open."""
        return {
            "Shift+S": self.ui.sliceDoneButton.click,
            **self.click.shortcuts,
            **self.learn.shortcuts,
        }

    def setup(self) -> None:
        """Connect the widgets."""
        for part in self._parts:
            part.setup()
        self.logic.correction.beforeChange = self.paint.saveStateForUndo

    def enter(self) -> None:
        """The module is shown."""
        for part in self._parts:
            part.enter()

    def exit(self) -> None:
        """Another module is shown."""
        for part in self._parts:
            part.exit()

    def update(self) -> None:
        """Show how things stand in the scene."""
        for part in self._parts:
            part.update()

    def sceneCloses(self) -> None:
        """Let go of what is in the scene."""
        for part in self._parts:
            part.sceneCloses()

    def onProgress(self, event: ProgressEvent) -> None:
        """Draw what an adaptation tells."""
        self.learn.onProgress(event)
