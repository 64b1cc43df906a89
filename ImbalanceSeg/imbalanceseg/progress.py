"""Typed progress of long work.

Long functions take ``progress``, a callable that receives a :class:`ProgressEvent` at every step.
Raising :class:`~imbalanceseg.errors.Cancelled` (or any exception) inside it stops the work there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ProgressEvent:
    """One step of long work.

    Attributes:
        stage: short lower-case name of the stage (``"read"``, ``"tiles"``, ``"write"``).
        done: units finished in this stage.
        total: units in this stage; 0 when unknown.
        message: a phrase for the person who waits; may be empty.
        metrics: figures known so far (loss, Dice); may be empty.
    """

    stage: str
    done: int
    total: int
    message: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)


ProgressCallback = Callable[[ProgressEvent], None]


def ignore_progress(event: ProgressEvent) -> None:
    """Accept an event and do nothing: the default ``progress``."""
