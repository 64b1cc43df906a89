"""Time for threads of Python beside an event loop that is not Python's."""

from __future__ import annotations

import threading
import time

_BEAT_SECONDS = 0.005
_GIFT_SECONDS = 0.02
_LEAST_BEATS_SECOND = 40.0


class ThreadTime:
    """Lets background threads run where the application would not.

    An application that keeps Python's lock while it waits for events lets a thread run only while
    its own Python code runs. A thread that should beat every few milliseconds tells whether this is
    such an application; only then is a little of the caller's time given away.
    """

    def __init__(self) -> None:
        self._beats = 0
        self._seen = 0
        self._left: float | None = None
        self._wanted = threading.Event()

    def begin(self) -> None:
        """Start to watch; nothing happens where that goes on already."""
        if self._wanted.is_set():
            return
        self._wanted.set()
        self._left = None
        threading.Thread(target=self._beat, args=(self._wanted,), daemon=True).start()

    def end(self) -> None:
        """Stop to watch."""
        self._wanted.clear()
        self._wanted = threading.Event()

    def share(self) -> None:
        """Give threads time if they had none since the last call; blocks for 20 ms at most."""
        if self._left is not None:
            seconds = time.monotonic() - self._left
            if self._beats - self._seen < _LEAST_BEATS_SECOND * seconds:
                time.sleep(_GIFT_SECONDS)
        self._seen, self._left = self._beats, time.monotonic()

    def _beat(self, wanted: threading.Event) -> None:
        while wanted.is_set():
            self._beats += 1
            time.sleep(_BEAT_SECONDS)
