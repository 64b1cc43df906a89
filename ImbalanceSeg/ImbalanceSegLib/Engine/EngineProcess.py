"""The engine as a child process of the application."""

from __future__ import annotations

import json
import queue
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from slicer.i18n import tr as _

from imbalanceseg.progress import ProgressEvent
from ImbalanceSegLib.Engine.EngineRequest import EngineRequest
from ImbalanceSegLib.Engine.ProcessTree import endProcessTree
from ImbalanceSegLib.Engine.RunOutcome import RunOutcome
from ImbalanceSegLib.Engine.RunStatus import RunStatus

CallLater = Callable[[int, Callable[[], None]], None]

_ERROR_LINE = re.compile(r"^error\[[a-z0-9-]+\]: (?P<message>.+)$")
_HINT_LINE = re.compile(r"^hint: (?P<hint>.+)$")
_LINES_PER_POLL = 500
_MISSING_PACKAGE_LINE = re.compile(r"^ModuleNotFoundError: No module named '(?P<name>[^'.]+)")
_POLL_MSEC = 100
_SECONDS_FOR_LAST_LINES = 2.0


class EngineProcess:
    """Runs the engine's command line, one request at a time, and reads what it reports.

    Threads only read the child's output into a queue. :meth:`poll` takes it from there, so that
    every callback runs on the thread of the caller, where MRML and Qt may be touched.

    Args:
        command: program and leading arguments; those of the request follow.
        environment: the child's whole environment; None passes on the present one.
        callLater: calls a function on this thread after so many milliseconds. Without it somebody
            has to call :meth:`poll` or :meth:`wait`.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        callLater: CallLater | None = None,
    ) -> None:
        self._command = list(command)
        self._environment = None if environment is None else dict(environment)
        self._callLater = callLater
        self._process: subprocess.Popen[str] | None = None
        self._isPollDue = False

    @property
    def isRunning(self) -> bool:
        """Whether a job was started whose ``onFinished`` has not been called yet."""
        return self._process is not None

    def start(
        self,
        request: EngineRequest,
        onProgress: Callable[[ProgressEvent], None],
        onLog: Callable[[str], None],
        onFinished: Callable[[RunOutcome], None],
    ) -> None:
        """Start the child and return at once.

        Raises:
            RuntimeError: a job is running already, or the program cannot be started.
        """
        if self.isRunning:
            raise RuntimeError(_("The engine is busy; wait for it or cancel it first."))
        self._onProgress, self._onLog, self._onFinished = onProgress, onLog, onFinished
        self._lines: queue.SimpleQueue[tuple[bool, str] | None] = queue.SimpleQueue()
        self._openStreams = 2
        self._exitSeenAt: float | None = None
        self._message = self._hint = ""
        self._lastLines: deque[str] = deque(maxlen=40)
        self._process = self._launch(request)
        for stream, isOutput in ((self._process.stdout, True), (self._process.stderr, False)):
            threading.Thread(
                target=_readLines, args=(stream, isOutput, self._lines), daemon=True
            ).start()
        self._pollLater()

    def stop(self) -> None:
        """End the child and all its descendants; ``onFinished`` gets a cancelled outcome."""
        if self._process is None:
            return
        endProcessTree(self._process)
        self._finish(RunOutcome(RunStatus.CANCELLED, _("The work was cancelled.")))

    def wait(self) -> None:
        """Block until the job has finished, delivering its callbacks meanwhile."""
        try:
            while self.isRunning:
                self._deliver()
                time.sleep(0.02)
        except BaseException:
            # Ctrl-C or a failing callback must not leave a child that nobody listens to.
            self.stop()
            raise

    def poll(self) -> None:
        """Deliver what the child has reported since the last call."""
        self._isPollDue = False
        try:
            self._deliver()
        finally:
            self._pollLater()

    def _launch(self, request: EngineRequest) -> subprocess.Popen[str]:
        platformOptions: dict[str, object] = {"start_new_session": True}
        if sys.platform == "win32":
            platformOptions = {"creationflags": subprocess.CREATE_NO_WINDOW}
        try:
            return subprocess.Popen(
                [*self._command, *request.arguments()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment,
                encoding="utf-8",
                errors="replace",
                **platformOptions,
            )
        except OSError as error:
            raise RuntimeError(
                _("The engine '{program}' cannot be started: {reason}.").format(
                    program=self._command[0], reason=error.strerror or error
                )
            ) from error

    def _pollLater(self) -> None:
        if self._callLater is not None and self.isRunning and not self._isPollDue:
            self._isPollDue = True
            self._callLater(_POLL_MSEC, self.poll)

    def _deliver(self) -> None:
        process = self._process
        # A callback may stop this job, or stop it and start another.
        for _line in range(_LINES_PER_POLL):
            if process is None or self._process is not process:
                return
            try:
                item = self._lines.get_nowait()
            except queue.Empty:
                break
            if item is None:
                self._openStreams -= 1
            else:
                self._takeLine(*item)
        else:
            return
        if self._process is process and self._hasEnded(process):
            self._finish(self._outcome(process.returncode))

    def _hasEnded(self, process: subprocess.Popen[str]) -> bool:
        if process.poll() is None:
            return False
        if self._openStreams == 0:
            return True
        # A forgotten descendant can hold the pipes open for ever.
        self._exitSeenAt = self._exitSeenAt or time.monotonic()
        return time.monotonic() - self._exitSeenAt > _SECONDS_FOR_LAST_LINES

    def _takeLine(self, isOutput: bool, line: str) -> None:
        report = _reportOf(line) if isOutput else None
        if report is not None:
            self._takeReport(report)
            return
        if not isOutput:
            self._takeErrorLine(line)
        self._lastLines.append(line)
        self._onLog(line)

    def _takeReport(self, report: Mapping[str, Any]) -> None:
        # The summary at the end is a report too, but no step: the result folder says it all.
        if "done" not in report:
            return
        self._onProgress(
            ProgressEvent(
                stage=str(report["stage"]),
                done=int(report["done"]),
                total=int(report.get("total", 0)),
                message=str(report.get("message", "")),
                metrics=dict(report.get("metrics", {})),
            )
        )

    def _takeErrorLine(self, line: str) -> None:
        if match := _ERROR_LINE.match(line):
            self._message, self._hint = match["message"], ""
        elif match := _HINT_LINE.match(line):
            self._hint = match["hint"]
        elif match := _MISSING_PACKAGE_LINE.match(line):
            self._message = _("The engine needs the Python package '{name}'.").format(
                name=match["name"]
            )
            self._hint = _("Install what Resources/requirements.txt of the module lists.")

    def _outcome(self, code: int) -> RunOutcome:
        if code == 0:
            return RunOutcome(RunStatus.COMPLETED)
        details = "\n".join(self._lastLines)
        if self._message:
            return RunOutcome(RunStatus.FAILED, self._message, self._hint, details)
        if code < 0:
            message = _("The engine was ended by the system (signal {signal}).").format(
                signal=-code
            )
            hint = _("Often the memory ran out: close other programs or use a smaller image.")
            return RunOutcome(RunStatus.FAILED, message, hint, details)
        message = _("The engine stopped unexpectedly (exit code {code}).").format(code=code)
        return RunOutcome(RunStatus.FAILED, message, _("The log says more."), details)

    def _finish(self, outcome: RunOutcome) -> None:
        self._process = None
        self._onFinished(outcome)


def _readLines(
    stream: IO[str], isOutput: bool, lines: queue.SimpleQueue[tuple[bool, str] | None]
) -> None:
    with stream:
        for line in stream:
            text = line.rstrip()
            if text:
                lines.put((isOutput, text))
    lines.put(None)


def _reportOf(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        report = json.loads(line)
    except ValueError:
        return None
    return report if "stage" in report else None
