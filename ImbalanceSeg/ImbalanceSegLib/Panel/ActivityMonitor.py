"""Shows what goes on: bar, sentence, silence and log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import qt

from imbalanceseg.progress import ProgressEvent
from ImbalanceSegLib.Panel.StageWords import wordsOfProgress, wordsOfQuiet, wordsOfStart

_TICK_MSEC = 1000
_OF_EXPORT = ("export", "find", "get")


class ActivityMonitor:
    """Shows work in the section of the panel where it was started.

    Args:
        ui: widgets of the panel.
        quietSeconds: for how long nothing was heard of the work, in seconds.
        lastLines: what the engine has written last.
    """

    def __init__(
        self, ui: Any, quietSeconds: Callable[[], float], lastLines: Callable[[], list[str]]
    ) -> None:
        self._ui = ui
        self._quietSeconds, self._lastLines = quietSeconds, lastLines
        self._kind = ""
        self._words = ""
        self._seconds = 0.0
        self._began = 0.0
        self._lines: list[str] = []
        self._timer = qt.QTimer()
        self._timer.setInterval(_TICK_MSEC)
        self._timer.connect("timeout()", self._onTick)
        for kind in ("segment", "adapt", "export", "connect"):
            self.say(kind, "")
        ui.logCollapsibleButton.connect("contentsCollapsed(bool)", self._onLogFolded)

    def begin(self, kind: str, seconds: float = 0.0) -> None:
        """Show that work has begun.

        Args:
            kind: as of an activity.
            seconds: that the work was given; 0 when it was given no time.
        """
        self._kind, self._words, self._seconds = kind, wordsOfStart(kind), seconds
        self._began = time.monotonic()
        bar = self._bar()
        if bar is not None:
            bar.setRange(0, 0)
            bar.setVisible(True)
        self.say(kind, self._words)
        self._timer.start()

    def progress(self, event: ProgressEvent) -> None:
        """Show a step of the work that goes on."""
        if not self._kind or event.stage == "preview":
            return
        self._words = wordsOfProgress(event)
        self.say(self._kind, self._words)
        bar = self._bar()
        if bar is None:
            return
        if event.stage == "finetune" and self._seconds > 0:
            self._showTime()
        else:
            bar.setRange(0, max(event.total, 0))
            bar.setValue(min(event.done, event.total))

    def end(self, sentence: str = "") -> None:
        """Show that the work is over, and in a sentence how it ended."""
        if self._kind:
            self.say(self._kind, sentence)
            bar = self._bar()
            if bar is not None:
                bar.setVisible(False)
        self._kind = ""
        self._timer.stop()
        self._showLog()

    def clear(self) -> None:
        """Forget what was said of another scene."""
        for kind in ("segment", "adapt", "export"):
            self.say(kind, "")
        self._ui.regionSentenceLabel.text = ""

    def stop(self) -> None:
        """Show nothing any more: the panel is going."""
        self._timer.stop()

    def say(self, kind: str, sentence: str) -> None:
        """Show a sentence where a kind of work is shown."""
        label = self._labelOf(kind)
        label.text = sentence
        label.setVisible(bool(sentence))

    def _onTick(self) -> None:
        if not self._kind:
            return
        self.say(self._kind, wordsOfQuiet(self._words, self._quietSeconds()))
        self._showLog()

    def _showTime(self) -> None:
        bar, passed = self._bar(), time.monotonic() - self._began
        bar.setRange(0, int(self._seconds))
        bar.setValue(min(int(passed), int(self._seconds)))

    def _onLogFolded(self, folded: bool) -> None:
        if not folded:
            self._showLog()

    def _showLog(self) -> None:
        if self._ui.logCollapsibleButton.collapsed:
            return
        lines = self._lastLines()
        if lines != self._lines:
            self._lines = list(lines)
            self._ui.logText.setPlainText("\n".join(lines))

    def _labelOf(self, kind: str) -> Any:
        if kind == "segment":
            return self._ui.segmentStatusLabel
        if kind in _OF_EXPORT:
            return self._ui.exportStatusLabel
        if kind in ("connect", "install"):
            return self._ui.engineStatusLabel
        return self._ui.correctStatusLabel

    def _bar(self) -> Any:
        if self._kind == "segment":
            return self._ui.segmentProgressBar
        if self._kind in _OF_EXPORT:
            return self._ui.exportProgressBar
        if self._kind in ("connect", "install"):
            return None
        return self._ui.correctProgressBar
