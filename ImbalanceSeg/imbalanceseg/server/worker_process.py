"""The server's end of a worker: start it, give it a task, hear from it, end it."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import multiprocessing.connection
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from imbalanceseg.server.records import Fault
from imbalanceseg.server.worker import work

_CLOSE_PROGRAMS = "Close other programs, use a smaller image, or a computer with more memory."
_REPORT = "Start the job again; if it happens again, report it with the log of the engine."


class WorkerProcess:
    """A process that computes. It must be started and used by one thread that outlives it.

    Linux ends a child when the *thread* that started it ends, if the child has asked for that.

    Args:
        niceness: how much of the processor it leaves to others.
    """

    def __init__(self, niceness: int = 0) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=work, args=(theirs, niceness), name="imbalanceseg-worker", daemon=True
        )
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Number of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it can still answer."""
        return self._process.is_alive()

    def send(self, message: Mapping[str, Any]) -> None:
        """Give it a message; nothing happens where it is gone."""
        with contextlib.suppress(OSError):
            self._connection.send_bytes(json.dumps(message).encode("utf-8"))

    def hear(self, timeout: float) -> Sequence[Mapping[str, Any]]:
        """What it has said, after at most so many seconds of waiting for the first word.

        Raises:
            EOFError: it is gone, and everything it has said was heard.
        """
        heard: list[Mapping[str, Any]] = []
        ready = multiprocessing.connection.wait([self._connection, self._process.sentinel], timeout)
        try:
            while self._connection.poll():
                heard.append(json.loads(self._connection.recv_bytes()))
        except (EOFError, OSError):
            if not heard:
                raise EOFError from None
        else:
            if ready and not heard and not self._process.is_alive():
                raise EOFError
        return heard

    def end(self) -> None:
        """Kill it, in whatever it is."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def last_words(self) -> Fault:
        """Why it ended, in words for the person whose job it was doing."""
        self._process.join(1)
        code = self._process.exitcode or 0
        if -code == getattr(signal, "SIGKILL", None):
            return Fault(
                "worker-killed",
                "The process that computed was ended by the system; often the memory had run out.",
                _CLOSE_PROGRAMS,
            )
        if code < 0:
            return Fault(
                "worker-crashed",
                f"The process that computed crashed ({_signal_name(-code)}).",
                _REPORT,
            )
        return Fault(
            "worker-crashed",
            f"The process that computed ended unexpectedly (exit code {code}).",
            _REPORT,
        )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
