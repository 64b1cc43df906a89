"""An engine on this computer, started as a process of its own and ended with all it has started."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from imbalanceseg.errors import DependencyError, ImbalanceSegError

_SECONDS_TO_START = 60.0
_SECONDS_TO_END = 4.0
_SPARE_FOLDERS = 3


class LocalEngine:
    """``imbalanceseg serve`` as a child.

    It ends with this process, even if that crashes.

    Args:
        command: program and leading arguments, for example ``["PythonSlicer", "-m",
            "imbalanceseg"]``.
        folder: keeps cases and results; None for the user's own. While another engine uses it,
            the one beside it whose name ends with ``-2``, ``-3`` or ``-4`` is taken.
        environment: the child's whole environment; None passes on the present one.
        arguments: further ones of ``imbalanceseg serve``.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self._command = [*command, "serve", "--port", "0", "--parent-pid", str(os.getpid())]
        # Another program of the same user has its own engine, and a folder takes one.
        self._command += ["--spare-folders", str(_SPARE_FOLDERS)]
        if folder is not None:
            self._command += ["--data", str(folder)]
        self._command += arguments
        self._environment = None if environment is None else dict(environment)
        self._process: subprocess.Popen[str] | None = None
        self.last_lines: deque[str] = deque(maxlen=40)

    @property
    def is_running(self) -> bool:
        """Whether the child lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> tuple[str, str]:
        """Start the child, and wait until it listens.

        Returns:
            URL and token.

        Raises:
            DependencyError: ``engine-not-started``, with what the engine said.
        """
        self.end()
        options: dict[str, object] = {"start_new_session": True}
        if sys.platform == "win32":
            options = {"creationflags": subprocess.CREATE_NO_WINDOW}
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment,
                encoding="utf-8",
                errors="replace",
                **options,  # type: ignore[call-overload]
            )
        except OSError as error:
            raise _not_started(error.strerror or type(error).__name__) from error
        self._process = process
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        for stream, first in ((process.stdout, lines), (process.stderr, None)):
            threading.Thread(target=self._read, args=(stream, first), daemon=True).start()
        until = time.monotonic() + _SECONDS_TO_START
        while True:
            try:
                line = lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                self.end()
                raise _not_started("it took too long") from None
            if line is None:
                process.wait()
                raise _not_started(self._last_error(process.returncode))
            if (place := _place(line)) is not None:
                return place

    def end(self) -> None:
        """End the child and everything it has started; nothing happens without one."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None and sys.platform != "win32":
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_SECONDS_TO_END)
        _kill_tree(process)

    def _read(self, stream: IO[str], lines: queue.SimpleQueue[str | None] | None) -> None:
        with stream:
            for line in stream:
                self.last_lines.append(line.rstrip())
                if lines is not None:
                    lines.put(line)
        if lines is not None:
            lines.put(None)

    def _last_error(self, code: int) -> str:
        # The other stream may have a last line that is still being read.
        time.sleep(0.1)
        for line in reversed(self.last_lines):
            if line.startswith("error["):
                return line.partition("]: ")[2].rstrip(".")
        return f"exit code {code}"


def _place(line: str) -> tuple[str, str] | None:
    """URL and token, of the line in which an engine says where it listens."""
    try:
        told = json.loads(line)
        if told["event"] != "listening":
            return None
        token = Path(told["token_file"]).read_text(encoding="ascii").strip()
        return str(told["url"]), token
    except (ValueError, KeyError, TypeError, OSError):
        return None


def _not_started(why: str) -> ImbalanceSegError:
    return DependencyError(
        "engine-not-started",
        f"The engine cannot be started ({why}).",
        "Run `imbalanceseg doctor`, which says what is missing.",
    )


def _kill_tree(process: subprocess.Popen[str]) -> None:
    """`PythonSlicer` is a launcher: killing it alone would leave the interpreter that works."""
    if sys.platform == "win32":
        subprocess.run(
            ["taskkill", "/PID", str(process.pid), "/T", "/F"],  # noqa: S607 -- of Windows
            capture_output=True,
            check=False,
            creationflags=subprocess.CREATE_NO_WINDOW,
        )
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)
