"""How a job ended, in words for the person who waits."""

from __future__ import annotations

from dataclasses import dataclass

from ImbalanceSegLib.Engine.RunStatus import RunStatus


@dataclass(frozen=True)
class RunOutcome:
    """How a job ended.

    Attributes:
        status: completed, cancelled or failed.
        message: one sentence that says what went wrong; empty when completed.
        hint: one sentence that says what to do about it; may be empty.
        details: the last lines the engine wrote, for a report of the problem.
    """

    status: RunStatus
    message: str = ""
    hint: str = ""
    details: str = ""

    @property
    def sentence(self) -> str:
        """Message and hint, as shown to the person who waits."""
        return f"{self.message} {self.hint}".strip()
