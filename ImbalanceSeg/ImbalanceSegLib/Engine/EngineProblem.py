"""Why the engine failed, for the person who waits."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass

from slicer.i18n import tr as _

from imbalanceseg.errors import ImbalanceSegError
from ImbalanceSegLib.Engine.EngineLink import EngineLink

_MISSING_PACKAGE = re.compile(
    r"ModuleNotFoundError: No module named '(?P<module>[^'.]+)"
    r"|The Python package (?P<package>[\w.-]+) is not installed"
)
_MEMORY_CODES = ("out-of-memory", "worker-killed")
_FORGOTTEN_CODES = ("base-unknown", "case-unknown", "job-unknown")
_DEATH_CODES = ("engine-not-started", "worker-crashed")


@dataclass(frozen=True)
class EngineProblem:
    """Why the engine failed.

    Attributes:
        sentence: what is wrong and what to do about it.
        details: for a report of the problem: the engine's code and its last lines.
        missingPackage: name of the Python package that the engine lacks; empty for none.
    """

    sentence: str
    details: str = ""
    missingPackage: str = ""

    @classmethod
    def of(cls, error: ImbalanceSegError, link: EngineLink) -> EngineProblem:
        """What an error of a task means.

        Args:
            error: of the task.
            link: that the task was started through.
        """
        lines = link.lastLines
        details = "\n".join([f"error[{error.code}]", *lines])
        message, hint = error.message, error.hint
        missing = _missingPackage([message, *lines]) if error.code in _DEATH_CODES else ""
        if missing:
            message, hint = _lacking(missing)
        elif error.code == "engine-not-started":
            message, hint = _whyNotStarted(message, link.program)
        elif error.code == "engine-unreachable":
            message, hint = _whyUnreachable(link)
        elif error.code in _FORGOTTEN_CODES:
            message = _("The engine does not have any more what this work goes on from.")
            hint = _("Segment the volume again.")
        elif error.code in _MEMORY_CODES:
            hint = _(
                "Close other programs, set less memory in the Advanced section, ask for fewer "
                "maps, or crop the volume with the Crop Volume module."
            )
        return cls(f"{message} {hint}".strip(), details, missing)


def _missingPackage(lines: Iterable[str]) -> str:
    for line in lines:
        if match := _MISSING_PACKAGE.search(line):
            return match["module"] or match["package"]
    return ""


def _lacking(package: str) -> tuple[str, str]:
    return (
        _("The engine needs the Python package '{name}', which is not installed.").format(
            name=package
        ),
        _("Press Install in the Advanced section."),
    )


def _whyNotStarted(message: str, program: str) -> tuple[str, str]:
    if shutil.which(program) is None:
        return (
            _("The program '{program}', which runs the engine, was not found.").format(
                program=program
            ),
            _("Install this Slicer again, completely."),
        )
    return message, _("Show the details, which say what the engine has written last.")


def _whyUnreachable(link: EngineLink) -> tuple[str, str]:
    if link.settings.isLocal:
        return (
            _("The engine on this computer does not answer any more."),
            _("Start the work again; the engine is then started anew."),
        )
    return (
        _("The engine at {place} does not answer.").format(place=link.settings.place),
        _("Check the address in the Advanced section and the network, or use this computer."),
    )
