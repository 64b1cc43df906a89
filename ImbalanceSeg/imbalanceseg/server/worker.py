"""The process that computes: takes tasks from a pipe, tells of them, and may be killed.

Messages are JSON in both directions, so that nothing that a client has sent is ever unpickled.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from imbalanceseg.errors import ImbalanceSegError
from imbalanceseg.progress import ProgressEvent

if TYPE_CHECKING:
    from imbalanceseg.server.workbench import Workbench

_SECONDS_BETWEEN_EVENTS = 0.05
_PR_SET_PDEATHSIG = 1
_ORPHANED = 3


class Stopped(BaseException):
    """The task was stopped; no code that catches ``Exception``, or ``Cancelled``, can keep it."""


def work(connection: Connection, niceness: int) -> None:
    """Take tasks until the pipe closes.

    Args:
        connection: to the server.
        niceness: how much of the processor is left to others; where the system knows that.
    """
    _die_with_parent()
    _be_quiet(niceness)
    _Worker(connection).run()


class _Worker:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._inbox: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
        self._task = ""
        self._stop: set[str] = set()
        self._finish: set[str] = set()
        self._told = 0.0
        self._stage = ""

    def run(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()
        from imbalanceseg.server.workbench import Workbench, device_facts

        bench = Workbench(lambda: self._task in self._finish)
        self._send({"event": "ready", "device": device_facts()})
        while True:
            message = self._inbox.get()
            if message["do"] == "warm":
                self._warm(bench, message["models"])
            elif message["do"] == "task":
                self._do(bench, message["task"])

    def _listen(self) -> None:
        try:
            while True:
                message = json.loads(self._connection.recv_bytes())
                if message["do"] == "stop":
                    self._stop.add(message["task"])
                elif message["do"] == "finish":
                    self._finish.add(message["task"])
                else:
                    self._inbox.put(message)
        except (EOFError, OSError):
            os._exit(_ORPHANED)

    def _warm(self, bench: Workbench, models: list[Mapping[str, str]]) -> None:
        for model in models:
            try:
                bench.model(model)
            except ImbalanceSegError:
                logging.getLogger(__name__).warning("A model could not be loaded beforehand.")
        self._send({"event": "warm"})

    def _do(self, bench: Workbench, task: Mapping[str, Any]) -> None:
        self._task, self._stage, self._told = task["id"], "", 0.0
        try:
            self._tell(ProgressEvent("begin", 0, 1))
            outcome = bench.run(task, self._tell)
        except Stopped:
            self._send({"event": "stopped", "task": self._task})
        except ImbalanceSegError as error:
            self._fail(error.code, error.message, error.hint)
        except Exception as error:
            self._fail(*_explained(error))
        else:
            self._send({"event": "done", "task": self._task, "outcome": outcome})
        self._stop.discard(self._task)
        self._finish.discard(self._task)

    def _fail(self, code: str, message: str, hint: str) -> None:
        fault = {"code": code, "message": message, "hint": hint}
        self._send({"event": "failed", "task": self._task, "fault": fault})

    def _tell(self, event: ProgressEvent) -> None:
        if self._task in self._stop:
            raise Stopped
        now = time.monotonic()
        ends = event.total > 0 and event.done >= event.total
        soon = now - self._told < _SECONDS_BETWEEN_EVENTS
        if soon and event.stage == self._stage and not ends:
            return
        self._told, self._stage = now, event.stage
        self._send(
            {
                "event": "progress",
                "task": self._task,
                "stage": event.stage,
                "done": event.done,
                "total": event.total,
                "message": event.message,
                "metrics": dict(event.metrics),
            }
        )

    def _send(self, message: Mapping[str, Any]) -> None:
        try:
            with self._sending:
                self._connection.send_bytes(json.dumps(message, default=_plain).encode("utf-8"))
        except OSError:
            os._exit(_ORPHANED)


def _plain(value: Any) -> Any:
    """Numpy's numbers as Python's."""
    return value.item() if hasattr(value, "item") else str(value)


def _explained(error: Exception) -> tuple[str, str, str]:
    """Code, sentence and hint for what nobody foresaw; its own words may name files or people."""
    text = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text:
        return (
            "out-of-memory",
            "Memory ran out while the job was running.",
            "Close other programs, ask for fewer maps, or use a smaller image.",
        )
    places = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{place.name}:{place.lineno}" for place in reversed(places[-6:]))
    logging.getLogger(__name__).error("%s in %s", type(error).__name__, where)
    return (
        "internal",
        f"Something unexpected happened ({type(error).__name__}).",
        "Try again; if it happens again, report it with the log of the engine.",
    )


def _die_with_parent() -> None:
    """Where the system can: at once, also in the middle of native code."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _be_quiet(niceness: int) -> None:
    # The server's standard output speaks to programs; libraries print on it.
    os.dup2(2, 1)
    # Ctrl-C in a terminal goes to the whole group; the server decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logging.basicConfig(level=logging.WARNING, format="worker: %(message)s")
    if hasattr(os, "nice"):
        os.nice(niceness)
