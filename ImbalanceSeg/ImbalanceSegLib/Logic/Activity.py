"""One piece of work of the engine that somebody waits for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from imbalanceseg.client import EngineTask
from imbalanceseg.errors import Cancelled, ImbalanceSegError
from imbalanceseg.progress import ProgressCallback, ProgressEvent, ignore_progress
from ImbalanceSegLib.Engine.EngineLink import EngineLink
from ImbalanceSegLib.Engine.EngineProblem import EngineProblem


@dataclass(frozen=True)
class ActivityOutcome:
    """How a piece of work ended.

    Attributes:
        succeeded: whether there is a value.
        cancelled: whether the user has stopped it.
        sentence: what went wrong and what to do about it; empty after a success.
        details: for a report of the problem.
        value: what the work has brought, of the kind that the method tells that started it.
        missingPackage: the Python package without which the engine cannot run; empty for none.
    """

    succeeded: bool = False
    cancelled: bool = False
    sentence: str = ""
    details: str = ""
    value: Any = None
    missingPackage: str = ""


FinishedCallback = Callable[[ActivityOutcome], None]


class Activity:
    """Follows a task of the engine until it is over, and then puts its result into the scene.

    Args:
        link: to the engine.
        kind: ``"segment"``, ``"adapt"``, ``"click"``, ``"suggest"``, ``"export"``, ``"find"``,
            ``"get"`` or ``"connect"``.
        onFinished: receives the outcome once.
        onProgress: receives every step until then.
    """

    def __init__(
        self,
        link: EngineLink,
        kind: str,
        onFinished: FinishedCallback | None = None,
        onProgress: ProgressCallback = ignore_progress,
    ) -> None:
        self.kind = kind
        self.task: EngineTask | None = None
        self.outcome: ActivityOutcome | None = None
        self._link = link
        self._onFinished = onFinished
        self._onProgress = onProgress

    @property
    def isOver(self) -> bool:
        """Whether the outcome is known."""
        return self.outcome is not None

    @property
    def quietSeconds(self) -> float:
        """For how long nothing was heard of the engine; 0 when the work is over."""
        return 0.0 if self.isOver or self.task is None else self.task.quiet_seconds

    def begin(
        self,
        ask: Callable[[Mapping[str, Any]], EngineTask],
        take: Callable[[Any], Any] = lambda result: result,
    ) -> Activity:
        """Ask the engine and return at once.

        Args:
            ask: calls a method of the client with the callbacks that it is given, as in
                ``lambda callbacks: link.client.segment(image, model, **callbacks)``.
            take: makes the value of the outcome of the result of the task, on this thread. What
                it raises becomes a failed outcome.
        """
        self._take = take
        callbacks: dict[str, Any] = {"on_done": self._onDone}
        if self.kind != "connect":
            callbacks["on_event"] = self._onEvent
        self.task = self._link.run(ask(callbacks))
        return self

    def cancel(self) -> None:
        """Stop the work; the outcome is there at once, and nothing of the work arrives later."""
        if self.isOver:
            return
        if self.task is not None:
            self._link.client.cancel(self.task)
        self._finish(ActivityOutcome(cancelled=True, sentence=_("The work was cancelled.")))

    def wait(self) -> Any:
        """Block until the work is over; for scripts.

        Returns:
            The value of the outcome.

        Raises:
            RuntimeError: the work failed or was cancelled; the text says why.
        """
        assert self.task is not None
        try:
            self._link.wait(self.task)
        except BaseException:
            self.cancel()
            raise
        if self.outcome is None:
            raise RuntimeError(_("The engine was closed before the work was done."))
        if not self.outcome.succeeded:
            raise RuntimeError(self.outcome.sentence)
        return self.outcome.value

    def _onEvent(self, event: ProgressEvent) -> None:
        if not self.isOver:
            self._onProgress(event)

    def _onDone(self, task: EngineTask) -> None:
        if self.isOver:
            return
        if task.error is not None:
            self._finish(self._failed(task.error))
            return
        try:
            value = self._take(task.result)
        except ImbalanceSegError as error:
            self._finish(self._failed(error))
        except (RuntimeError, ValueError) as error:
            self._finish(ActivityOutcome(sentence=str(error)))
        except Exception as error:
            logging.exception("ImbalanceSeg: the result of the engine cannot be used")
            self._finish(ActivityOutcome(sentence=_unforeseen(error), details=repr(error)))
        else:
            self._finish(ActivityOutcome(succeeded=True, value=value))

    def _failed(self, error: ImbalanceSegError) -> ActivityOutcome:
        if isinstance(error, Cancelled):
            return ActivityOutcome(cancelled=True, sentence=error.message)
        problem = EngineProblem.of(error, self._link)
        return ActivityOutcome(
            sentence=problem.sentence,
            details=problem.details,
            missingPackage=problem.missingPackage,
        )

    def _finish(self, outcome: ActivityOutcome) -> None:
        self.outcome = outcome
        if self._onFinished is not None:
            self._onFinished(outcome)


def _unforeseen(error: Exception) -> str:
    return _(
        "The result of the engine cannot be used ({kind}). Try again; if it happens again, report "
        "it with the log of the application."
    ).format(kind=type(error).__name__)
