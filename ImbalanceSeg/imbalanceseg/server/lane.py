"""One queue, one worker: takes a job, has it done, and survives the worker's death."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

from imbalanceseg.server.fair_queue import FairQueue
from imbalanceseg.server.records import Fault
from imbalanceseg.server.worker_process import WorkerProcess

SECONDS_TO_STOP = 0.6
"""What a task gets to stop by itself before its process is killed."""

_TICK = 0.05
_IDLE_TICK = 0.25
_SECONDS_TO_RECOVER = 1.0
_log = logging.getLogger(__name__)


class JobKeeper(Protocol):
    """Whoever knows the jobs; called on the thread of the lane."""

    def begin(self, job: str) -> Mapping[str, Any] | None:
        """The task of a job that is to run now; None where it is not wanted any more."""

    def progress(self, job: str, message: Mapping[str, Any]) -> None:
        """A job has got further."""

    def done(self, job: str, outcome: Mapping[str, Any]) -> None:
        """A job has a result."""

    def failed(self, job: str, fault: Fault) -> None:
        """A job has none."""

    def stopped(self, job: str) -> None:
        """A job was stopped, as it was wanted."""

    def stop_wanted(self, job: str) -> bool:
        """Whether a job is to be stopped."""

    def finish_wanted(self, job: str) -> bool:
        """Whether a job is to end soon, with what it has."""

    def device(self, facts: Mapping[str, Any]) -> None:
        """What a worker computes on."""


class Lane(threading.Thread):
    """Does the jobs of a queue one after another.

    The worker is started by this thread and dies with it.

    Args:
        name: for the log.
        queue: of jobs.
        keeper: who knows what they are.
        niceness: of the worker.
    """

    def __init__(self, name: str, queue: FairQueue, keeper: JobKeeper, niceness: int = 0) -> None:
        super().__init__(name=f"lane-{name}", daemon=True)
        self.queue = queue
        self._keeper, self._niceness, self._lane = keeper, niceness, name
        self._worker: WorkerProcess | None = None
        self._was_ready = False
        self._wanted = threading.Event()
        self._closing = threading.Event()
        self._warm: Mapping[str, str] | None = None
        self._running: str | None = None

    @property
    def running(self) -> str | None:
        """The job that is being done."""
        return self._running

    @property
    def worker_pid(self) -> int | None:
        """Number of the worker's process."""
        worker = self._worker
        return None if worker is None else worker.pid

    def wake(self) -> None:
        """Have a worker ready before the first job comes."""
        self._wanted.set()

    def close(self) -> None:
        """End when the present job has ended; no other begins."""
        self._closing.set()
        self.queue.close()

    def run(self) -> None:
        """Serve until closed."""
        try:
            while not self._closing.is_set():
                try:
                    self._take_turn()
                except Exception:
                    # Whatever it is: without this thread all jobs to come would wait for ever.
                    _log.exception("The %s lane stumbled.", self._lane)
                    time.sleep(_SECONDS_TO_RECOVER)
        finally:
            self._end_worker()

    def _take_turn(self) -> None:
        job = self.queue.get(_IDLE_TICK)
        if job is not None:
            self._serve(job)
        else:
            self._look_after_worker()

    def _serve(self, job: str) -> None:
        try:
            task = self._keeper.begin(job)
            if task is None:
                return
            self._running = job
            self._have_done(job, task)
        except Exception as error:
            _log.exception("The %s lane failed a job (%s).", self._lane, type(error).__name__)
            self._end_worker()
            self._keeper.failed(job, Fault("internal", "The engine failed to run the job."))
        finally:
            self._running = None

    def _have_done(self, job: str, task: Mapping[str, Any]) -> None:
        if not self._tried(job, task):
            # The worker was dead before it began; nothing of the job was to blame.
            self._tried(job, task, last=True)

    def _tried(self, job: str, task: Mapping[str, Any], last: bool = False) -> bool:
        """Have a task done; False where the worker died without having begun."""
        worker = self._live_worker()
        worker.send({"do": "task", "task": task})
        self._warm = task.get("model") or self._warm
        kill_at: float | None = None
        begun, hurried = last, False
        while True:
            if not hurried and self._keeper.finish_wanted(job):
                worker.send({"do": "finish", "task": task["id"]})
                hurried = True
            if self._keeper.stop_wanted(job):
                if kill_at is None:
                    worker.send({"do": "stop", "task": task["id"]})
                    kill_at = time.monotonic() + SECONDS_TO_STOP
                elif time.monotonic() > kill_at:
                    self._end_worker()
                    self._keeper.stopped(job)
                    self._restart()
                    return True
            try:
                messages = worker.hear(_TICK)
            except EOFError:
                if begun or kill_at is not None:
                    self._mourn(job, worker)
                    return True
                self._end_worker()
                return False
            for message in messages:
                begun = begun or message.get("task") == task["id"]
                if self._take(job, task["id"], message):
                    return True

    def _take(self, job: str, task: str, message: Mapping[str, Any]) -> bool:
        """Pass on what the worker says; whether the job is over."""
        kind = message["event"]
        if kind == "ready":
            self._was_ready = True
            self._keeper.device(message["device"])
        if message.get("task") != task:
            return False
        if kind == "progress":
            self._keeper.progress(job, message)
            return False
        if kind == "done":
            self._keeper.done(job, message["outcome"])
        elif kind == "failed":
            fault = Fault(**message["fault"])
            self._keeper.failed(job, fault)
            if fault.code == "out-of-memory":
                # What is left of it cannot be given back, least of all on a GPU.
                self._end_worker()
                self._restart()
        elif kind == "stopped":
            self._keeper.stopped(job)
        return True

    def _mourn(self, job: str, worker: WorkerProcess) -> None:
        fault = worker.last_words()
        _log.warning("The worker of the %s lane died (%s).", self._lane, fault.code)
        self._end_worker()
        if self._keeper.stop_wanted(job):
            self._keeper.stopped(job)
        else:
            self._keeper.failed(job, fault)
        self._restart()

    def _restart(self) -> None:
        """A new worker with the model in memory, unless none has ever come up."""
        if self._was_ready and not self._closing.is_set():
            self._was_ready = False
            worker = self._live_worker()
            if self._warm is not None:
                worker.send({"do": "warm", "models": [self._warm]})

    def _look_after_worker(self) -> None:
        if self._worker is None:
            if self._wanted.is_set():
                self._wanted.clear()
                self._live_worker()
            return
        try:
            for message in self._worker.hear(0):
                self._take("", "", message)
        except EOFError:
            _log.warning("The idle worker of the %s lane died.", self._lane)
            self._end_worker()
            self._restart()

    def _live_worker(self) -> WorkerProcess:
        if self._worker is None or not self._worker.is_alive:
            self._end_worker()
            self._worker = WorkerProcess(self._niceness)
        return self._worker

    def _end_worker(self) -> None:
        if self._worker is not None:
            self._worker.end()
            self._worker = None
