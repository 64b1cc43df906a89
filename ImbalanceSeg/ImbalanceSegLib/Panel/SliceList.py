"""A list of slices of which each can be gone to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt


class SliceList:
    """A list of slices of which each can be gone to by a double click.

    Args:
        widget: the ``QListWidget``.
        onChosen: receives the slice that was double-clicked.
        onSelected: is called when another slice is selected.
        onDelete: is called when Delete is pressed in the list; None where nothing can be deleted.
    """

    def __init__(
        self,
        widget: Any,
        onChosen: Callable[[Any], None],
        onSelected: Callable[[], None] | None = None,
        onDelete: Callable[[], None] | None = None,
    ) -> None:
        self._widget, self._onChosen = widget, onChosen
        self._slices: list[Any] = []
        self._texts: list[str] = []
        widget.connect("itemDoubleClicked(QListWidgetItem*)", self._onDoubleClick)
        if onSelected is not None:
            widget.connect("currentRowChanged(int)", lambda row: onSelected())
        if onDelete is not None:
            self._key = qt.QShortcut(qt.QKeySequence("Del"), widget)
            self._key.setContext(qt.Qt.WidgetShortcut)
            self._key.connect("activated()", onDelete)

    @property
    def selected(self) -> Any:
        """The slice that is selected; None for none."""
        row = self._widget.currentRow
        return self._slices[row] if 0 <= row < len(self._slices) else None

    def show(self, slices: Sequence[Any], texts: Sequence[str]) -> None:
        """Show slices.

        Args:
            slices: any objects that stand for them.
            texts: what is written for each of them.
        """
        if list(slices) == self._slices and list(texts) == self._texts:
            return
        selected = self.selected
        self._slices, self._texts = list(slices), list(texts)
        wasBlocked = self._widget.blockSignals(True)
        self._widget.clear()
        self._widget.addItems(self._texts)
        if selected in self._slices:
            self._widget.setCurrentRow(self._slices.index(selected))
        self._widget.blockSignals(wasBlocked)

    def _onDoubleClick(self, item: Any) -> None:
        if self.selected is not None:
            self._onChosen(self.selected)
