"""Keys that do something only while the module is open."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import qt
import slicer


class Shortcuts:
    """Keys of the main window that press buttons of the panel.

    Args:
        actions: what a key does, by the key as in ``"Shift+S"``.
    """

    def __init__(self, actions: Mapping[str, Callable[[], None]]) -> None:
        self._actions = actions
        self._installed: list[qt.QShortcut] = []

    def install(self) -> None:
        """Listen to the keys from now on; without a main window there is nobody to press any."""
        window = slicer.util.mainWindow()
        if window is None or self._installed:
            return
        for key, action in self._actions.items():
            shortcut = qt.QShortcut(qt.QKeySequence(key), window)
            shortcut.connect("activated()", _calling(action))
            self._installed.append(shortcut)

    def remove(self) -> None:
        """Leave the keys to others."""
        for shortcut in self._installed:
            shortcut.disconnect("activated()")
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._installed.clear()


def _calling(action: Callable[[], None]) -> Callable[[], None]:
    """A function of Python, as which every version of the application takes a slot."""

    def call() -> None:
        action()

    return call
