"""Ending a process together with everything it has started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys


def endProcessTree(process: subprocess.Popen[str]) -> None:
    """Kill a child and its descendants, and wait until the child is gone.

    ``PythonSlicer`` is a launcher: killing it alone would leave the interpreter that works. The
    child must have been started as leader of a session of its own (not needed on Windows).

    Args:
        process: the child; it may have ended already.
    """
    if sys.platform == "win32":
        subprocess.run(
            ["taskkill", "/PID", str(process.pid), "/T", "/F"],
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
