"""Wall time of the stages of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds of named stages, summed where a stage comes back.

    Attributes:
        seconds: by stage, in the order in which they first began.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside the block; a stage within another one is not counted twice."""
        began, others = time.monotonic(), sum(self.seconds.values())
        self.seconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            inner = sum(self.seconds.values()) - others
            self.seconds[name] += time.monotonic() - began - inner
