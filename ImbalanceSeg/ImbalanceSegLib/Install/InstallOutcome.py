"""How an installation ended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InstallOutcome:
    """How an installation ended.

    Attributes:
        succeeded: whether all that the engine needs is there.
        cancelled: whether the user did not want it.
        restartNeeded: whether Slicer has to be restarted, after which the installation goes on.
        sentence: what happened and what to do next; empty after a cancellation.
        details: the last lines of pip.
    """

    succeeded: bool = False
    cancelled: bool = False
    restartNeeded: bool = False
    sentence: str = ""
    details: str = ""
