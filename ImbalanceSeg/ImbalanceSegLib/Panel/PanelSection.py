"""What every section of the panel can be asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ImbalanceSegLib.Panel.Panel import Panel


class PanelSection:
    """One section of the panel; does nothing unless a section says otherwise.

    Args:
        panel: that it is part of.
    """

    def __init__(self, panel: Panel) -> None:
        self.panel = panel
        self.ui, self.logic = panel.ui, panel.logic

    @property
    def shortcuts(self) -> Mapping[str, Callable[[], None]]:
        """What a key does while the module is open, by the key as in ``"Shift+S"``."""
        return {}

    def setup(self) -> None:
        """Connect the widgets."""

    def enter(self) -> None:
        """The module is shown."""

    def exit(self) -> None:
        """Another module is shown."""

    def update(self) -> None:
        """Show how things stand in the scene; there may be no parameter node."""

    def sceneCloses(self) -> None:
        """Let go of what is in the scene."""
