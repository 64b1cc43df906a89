"""The line to one engine: started or reached when it is needed, and mended when it is cut."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from imbalanceseg.client.http import Connection, EngineUnreachable
from imbalanceseg.client.process import LocalEngine
from imbalanceseg.client.task import EngineTask
from imbalanceseg.errors import ImbalanceSegError

_Answer = TypeVar("_Answer")
_PATIENCE_SECONDS = 120.0
_PATIENCE_WITH_STRANGERS_SECONDS = 10.0


class Line:
    """Asks one engine, from any thread.

    Args:
        connection: to an engine that runs already; None where it is started here.
        engine: that is started here, by the first question and again should it die, or None.

    Attributes:
        info: what the engine has said of itself; None before.
    """

    def __init__(self, connection: Connection | None, engine: LocalEngine | None) -> None:
        self.info: Mapping[str, Any] | None = None
        self.connection, self.engine = connection, engine
        self._connecting = threading.Lock()
        self._closed = False
        self._alive = 0.0

    def reached(self, task: EngineTask, ask: Callable[[Connection], _Answer]) -> _Answer:
        """Ask the engine, and again while it cannot be reached, until two minutes have passed.

        An engine elsewhere that was never reached has ten seconds: its address may be wrong.

        Raises:
            ImbalanceSegError: what ``ask`` raises, or why no engine can be started or reached.
        """
        pause = 0.1
        self.heard()
        while True:
            tried = time.monotonic()
            try:
                return ask(self._connected())
            except EngineUnreachable:
                silent = time.monotonic() - self._alive
                if self._closed or task.is_cancelled or silent > self._patience:
                    raise
                # A line that worked for a while is tried again soon.
                pause = 0.1 if self._alive > tried else min(2.0, 2 * pause)
                time.sleep(pause)

    @property
    def _patience(self) -> float:
        if self.engine is None and self.info is None:
            return _PATIENCE_WITH_STRANGERS_SECONDS
        return _PATIENCE_SECONDS

    def heard(self) -> None:
        """Something has come from the engine."""
        self._alive = time.monotonic()

    def stop(self, job: str) -> None:
        """Have a job stopped, where the engine can be reached at once."""
        connection = self.connection
        if connection is not None:
            with contextlib.suppress(ImbalanceSegError):
                connection.call("DELETE", f"/v1/jobs/{job}")

    def finish(self, task: EngineTask) -> None:
        """Have the job of a task end soon, with what it has."""
        with contextlib.suppress(ImbalanceSegError):
            self.reached(task, lambda c: c.call("POST", f"/v1/jobs/{task.job}/finish"))

    def close(self) -> None:
        """Ask nothing more."""
        self._closed = True

    def _connected(self) -> Connection:
        """A connection to an engine that was running a moment ago; starts it where it is ours."""
        with self._connecting:
            if self._closed:
                raise EngineUnreachable("it was closed")
            if self.engine is not None and not self.engine.is_running:
                self.connection = Connection(*self.engine.start())
                self.info = None
                if self._closed:
                    self.engine.end()
                    raise EngineUnreachable("it was closed")
            assert self.connection is not None
            if self.info is None:
                self.info = self.connection.handshake()
            return self.connection
