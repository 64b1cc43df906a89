"""What has happened to a job, numbered, for everybody who listens or comes back."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_KEPT = 1000


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes:
        number: from 1, of one job.
        data: JSON, with the key ``"event"``: ``"state"``, ``"progress"`` or ``"preview"``.
    """

    number: int
    data: Mapping[str, Any]


class EventLog:
    """The last thousand events of one job.

    Args:
        last: number of the event before.
    """

    def __init__(self, last: int = 0) -> None:
        self._events: deque[Event] = deque(maxlen=_KEPT)
        self._last = last
        self._listeners: list[Callable[[], object]] = []
        self._lock = threading.Lock()

    @property
    def last(self) -> int:
        """Number of the last event."""
        return self._last

    def add(self, data: Mapping[str, Any]) -> Event:
        """Tell of something new; listeners are called on this thread."""
        with self._lock:
            self._last += 1
            event = Event(self._last, data)
            self._events.append(event)
            listeners = list(self._listeners)
        for listener in listeners:
            listener()
        return event

    def after(self, number: int) -> list[Event]:
        """Events with a higher number that are still known."""
        with self._lock:
            return [event for event in self._events if event.number > number]

    def listen(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Call ``listener`` at every event, from any thread; what is returned ends that."""
        with self._lock:
            self._listeners.append(listener)

        def leave() -> None:
            with self._lock:
                self._listeners.remove(listener)

        return leave
