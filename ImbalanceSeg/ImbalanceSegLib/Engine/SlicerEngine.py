"""The engine that comes with the module, run by the Python of this Slicer."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import slicer

from ImbalanceSegLib.Engine.EngineLink import CallLater, EngineLink
from ImbalanceSegLib.Engine.EngineSettings import EngineSettings

_MODULE_FOLDER = Path(__file__).parents[2]


def engineOfThisSlicer(
    callLater: CallLater | None = None, settings: EngineSettings | None = None
) -> EngineLink:
    """A link to the engine of ``PythonSlicer``, or to the server that the settings name.

    Nothing is started yet.

    Args:
        callLater: calls a function after so many milliseconds; None for scripts that wait.
        settings: where the engine runs; None for this computer.
    """
    environment = dict(slicer.util.startupEnvironment())
    environment.update(engineEnvironment(environment.get("PYTHONPATH", "")))
    program = shutil.which("PythonSlicer") or "PythonSlicer"
    return EngineLink(
        settings or EngineSettings(), [program, "-m", "imbalanceseg"], environment, callLater
    )


def engineEnvironment(pythonPath: str = "") -> dict[str, str]:
    """Variables the engine's process needs beside those it inherits.

    Args:
        pythonPath: the ``PYTHONPATH`` it would inherit.
    """
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(_MODULE_FOLDER), pythonPath])),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
    }
