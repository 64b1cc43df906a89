"""The engine that comes with the module, run by the Python of this Slicer."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from ImbalanceSegLib.Engine.EngineProcess import CallLater, EngineProcess

_MODULE_FOLDER = Path(__file__).parents[2]


def engineOfThisSlicer(callLater: CallLater | None = None) -> EngineProcess:
    """The engine as a process of ``PythonSlicer``.

    Args:
        callLater: calls a function after so many milliseconds; None for scripts that wait.

    Raises:
        RuntimeError: ``PythonSlicer`` is not on the path.
    """
    program = shutil.which("PythonSlicer")
    if program is None:
        raise RuntimeError(
            _("The program PythonSlicer was not found; is this Slicer installed completely?")
        )
    environment = dict(slicer.util.startupEnvironment())
    environment.update(engineEnvironment(environment.get("PYTHONPATH", "")))
    return EngineProcess([program, "-m", "imbalanceseg"], environment, callLater)


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
