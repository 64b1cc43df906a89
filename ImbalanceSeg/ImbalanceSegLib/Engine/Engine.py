"""What the module asks of an engine, wherever it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from imbalanceseg.progress import ProgressEvent
from ImbalanceSegLib.Engine.EngineRequest import EngineRequest
from ImbalanceSegLib.Engine.RunOutcome import RunOutcome


class Engine(Protocol):
    """Does one job at a time, outside the process of the application.

    Every callback runs on the thread that called :meth:`start`.
    """

    @property
    def isRunning(self) -> bool:
        """Whether a job was started whose ``onFinished`` has not been called yet."""

    def start(
        self,
        request: EngineRequest,
        onProgress: Callable[[ProgressEvent], None],
        onLog: Callable[[str], None],
        onFinished: Callable[[RunOutcome], None],
    ) -> None:
        """Begin a job and return at once; ``onFinished`` is called exactly once.

        Raises:
            RuntimeError: a job is running already, or the engine cannot be started.
        """

    def stop(self) -> None:
        """End the running job, if any, with a cancelled outcome; nothing of it runs on."""

    def wait(self) -> None:
        """Block until the running job has finished, delivering its callbacks meanwhile."""
