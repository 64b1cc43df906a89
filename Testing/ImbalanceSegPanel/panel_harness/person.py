"""What a person does with the panel."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def pressed(button: Any) -> None:
    """Press a button as a person does: nothing happens while it is disabled."""
    assert button.enabled, button.toolTip
    button.click()


def putOff(world: SimpleNamespace) -> None:
    """Make the calls that were put off."""
    calls, world.qt.QTimer.putOff[:] = list(world.qt.QTimer.putOff), []
    for call in calls:
        call()


def doubleClicked(slices: Any, row: int) -> None:
    """Double-click a row of a list."""
    slices.setCurrentRow(row)
    for slot in slices._slots["itemDoubleClicked(QListWidgetItem*)"]:
        slot(slices.item(row))
