"""How the time of an adaptation is spent: what is left, what the next step takes, what is shown."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from imbalanceseg.inference.segmentation import Segmentation

_REMEMBERED = 3
_KEPT_BACK = 0.05
_PREVIEW_SHARE = 0.15


class TimeBudget:
    """Wall time that is given, and what steps have taken of it.

    Args:
        seconds: for everything.
        used: of them, before now.
    """

    def __init__(self, seconds: float, used: float = 0.0) -> None:
        self.seconds = seconds
        self._begun = time.monotonic() - used
        self._took: dict[str, deque[float]] = {}

    def use(self, seconds: float) -> None:
        """Count seconds of an earlier run, too."""
        self._begun -= seconds

    @property
    def used(self) -> float:
        """Seconds, of all runs together."""
        return time.monotonic() - self._begun

    @property
    def left(self) -> float:
        """Seconds that may be planned for; below 0 when more were used than there were.

        A twentieth is kept back: no step takes exactly what it took before.
        """
        return (1 - _KEPT_BACK) * self.seconds - self.used

    def note(self, step: str, seconds: float) -> None:
        """Say what a step has taken, or is thought to take before it was done once."""
        self._took.setdefault(step, deque(maxlen=_REMEMBERED)).append(seconds)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Measure a step; one that fails is not counted."""
        begun = time.monotonic()
        yield
        self.note(step, time.monotonic() - begun)

    def expected(self, step: str, otherwise: float = 0.0) -> float:
        """Seconds that a step will take: the longest of the last three.

        Args:
            step: its name.
            otherwise: what is returned where it was never done.
        """
        return max(self._took.get(step, ()), default=otherwise)

    @property
    def restoring(self) -> float:
        """Seconds from what is found to a segmentation of the scan.

        Until that was done once it is thought to take as long as preparing the scan has. What is
        connected is measured on the way, where it is.
        """
        return self.expected("restore", self.expected("prepare")) + self.expected("connect")

    def allows(self, *seconds: float) -> bool:
        """Whether steps of so many seconds still fit."""
        return sum(seconds) <= self.left


class Previews:
    """Shows segmentations on the way, for at most 15 % of the time.

    Args:
        show: receives them; None shows nothing.
        budget: of the adaptation.
    """

    def __init__(self, show: Callable[[Segmentation], None] | None, budget: TimeBudget) -> None:
        self._show, self._budget = show, budget
        self.spent = 0.0

    def due(self, seconds: float) -> bool:
        """Whether one that takes so long may be made now.

        The first may come at once; later ones are spread over the time.
        """
        return self._show is not None and seconds <= self.most

    @property
    def most(self) -> float:
        """Seconds that one may take now."""
        so_far = self._budget.used if self.spent else self._budget.seconds
        return _PREVIEW_SHARE * min(so_far, self._budget.seconds) - self.spent

    def show(self, make: Callable[[], Segmentation]) -> None:
        """Make one and show it."""
        begun = time.monotonic()
        assert self._show is not None
        self._show(make())
        self.spent += time.monotonic() - begun
