"""pip, as this Slicer runs it."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import slicer

_SECONDS_BETWEEN_LOOKS = 0.02

Log = Callable[[str], None]


class PipRunner:
    """Runs pip with Slicer's own functions, on the thread of the application.

    From Slicer 5.11 on pip runs in the background and the window stays alive; before, it stands
    still while a package is fetched.
    """

    def install(self, arguments: list[str], constraints: Path, log: Log) -> int:
        """Install packages, and wait for it.

        Args:
            arguments: of ``pip install``: options and requirements.
            constraints: file that says which versions are kept.
            log: receives every line of pip.

        Returns:
            The exit code of pip.
        """
        try:
            if importlib.util.find_spec("slicer.packaging") is None:
                with linesTo(log):
                    slicer.util.pip_install([*arguments, "-c", str(constraints)])
                return 0
            return self._withPackaging(arguments, constraints, log)
        except subprocess.CalledProcessError as error:
            return error.returncode or 1

    def _withPackaging(self, arguments: list[str], constraints: Path, log: Log) -> int:
        import slicer.packaging

        # While tests run, Slicer waits for pip itself and calls nothing back.
        if slicer.app.testingEnabled():
            with linesTo(log):
                slicer.packaging.pip_install(arguments, constraints=str(constraints))
            return 0
        codes: list[int] = []
        slicer.packaging.pip_install(
            arguments,
            constraints=str(constraints),
            blocking=False,
            show_progress=False,
            logCallback=log,
            completedCallback=codes.append,
        )
        while not codes:
            slicer.app.processEvents()
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        return codes[0]


@contextlib.contextmanager
def linesTo(log: Log) -> Iterator[None]:
    """Pass on what is printed meanwhile, line by line."""
    with contextlib.redirect_stdout(_Lines(log)):
        yield


@contextlib.contextmanager
def constrained(constraints: Path) -> Iterator[None]:
    """Let every pip that is started meanwhile keep to a constraints file."""
    before = os.environ.get("PIP_CONSTRAINT")
    # pip takes several, parted by spaces, which a path may hold and an address may not.
    os.environ["PIP_CONSTRAINT"] = " ".join(filter(None, [before, constraints.as_uri()]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PIP_CONSTRAINT"]
        else:
            os.environ["PIP_CONSTRAINT"] = before


class _Lines(io.TextIOBase):
    """A stream that hands on whole lines."""

    def __init__(self, log: Log) -> None:
        self._log, self._rest = log, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                self._log(line.rstrip())
        return len(text)
