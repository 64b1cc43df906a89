"""The slice views that every layout of the application knows."""

from __future__ import annotations

from enum import Enum

from slicer.i18n import tr as _


class SliceView(Enum):
    """A slice view; its value is the name of the view. Scenes store the member's name: keep it."""

    RED = "Red"
    GREEN = "Green"
    YELLOW = "Yellow"

    def label(self) -> str:
        """What the list of views shows."""
        return {
            SliceView.RED: _("Red"),
            SliceView.GREEN: _("Green"),
            SliceView.YELLOW: _("Yellow"),
        }[self]
