"""Installing what the engine needs, before it is used first."""

from __future__ import annotations

import importlib
import shutil
import sys
import sysconfig
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from slicer.i18n import tr as _

from ImbalanceSegLib.Install.InstallOutcome import InstallOutcome
from ImbalanceSegLib.Install.PipProblem import whyPipFailed
from ImbalanceSegLib.Install.PipRunner import PipRunner
from ImbalanceSegLib.Install.Requirement import Requirement
from ImbalanceSegLib.Install.Requirements import TORCH, constraintLines, requirementsOfEngine
from ImbalanceSegLib.Install.TorchExtension import TorchExtension

_RESUME_KEY = "ImbalanceSeg/resumeInstallation"
_LEAST_PYTHON = (3, 11)
_LINES_KEPT = 400
# Wheels are unpacked to about three times their size, and lie beside that for a moment.
_DISK_PER_DOWNLOAD = 4
_LEAST_FREE_MEGABYTES = 500
_MEGABYTE = 2**20


class SettingsStore(Protocol):
    """What of ``QSettings`` is needed here."""

    def value(self, key: str) -> Any:
        """What was kept under a key; None for an unknown one."""

    def setValue(self, key: str, value: Any) -> None:
        """Keep a value."""


class Installer:
    """Installs what the engine needs, after asking once.

    torch comes first, through the PyTorch extension; the rest follows under constraints that keep
    the packages that Slicer is built on. What is there already is left alone, so an installation
    that was interrupted goes on where it stopped.

    Args:
        confirm: asks the user, with the text of the question.
        log: receives every line of pip.
        progress: receives the number of steps done and of all steps.
        settings: of the application, as ``QSettings``; None remembers nothing over a restart.
        pip: runs pip.
        extension: installs torch.
    """

    def __init__(
        self,
        confirm: Callable[[str], bool],
        log: Callable[[str], None],
        progress: Callable[[int, int], None] = lambda done, total: None,
        settings: SettingsStore | None = None,
        pip: PipRunner | None = None,
        extension: TorchExtension | None = None,
    ) -> None:
        self._confirm, self._log, self._progress = confirm, log, progress
        self._settings = settings
        self._pip = pip or PipRunner()
        self._extension = extension or TorchExtension()
        self._lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self._isRunning = False

    @staticmethod
    def missing() -> list[Requirement]:
        """What is not installed, or not in a version that will do. Nothing is imported."""
        importlib.invalidate_caches()
        return [one for one in requirementsOfEngine() if not one.isInstalled]

    @property
    def isToBeResumed(self) -> bool:
        """Whether Slicer was restarted in the middle of an installation."""
        value = None if self._settings is None else self._settings.value(_RESUME_KEY)
        return str(value).lower() in ("true", "1") and bool(self.missing())

    def forgetResumption(self) -> None:
        """Do not go on with an interrupted installation by itself any more."""
        self._remember(False)

    def whatWillHappen(self, wheelFolder: str | Path = "") -> str:
        """The question before an installation: what is installed, from where, and how large it is.

        Args:
            wheelFolder: where the packages lie; empty takes them from the network.
        """
        missing = self.missing()
        names = ", ".join(one.name for one in missing)
        size = sum(one.megabytes for one in missing)
        text = _("The engine needs Python packages that are not installed yet: {names}.").format(
            names=names
        )
        if str(wheelFolder):
            where = _("They are taken from the folder {folder}, without network.").format(
                folder=wheelFolder
            )
        else:
            where = _("About {size} are downloaded, which takes some minutes.").format(
                size=_sizeText(size)
            )
        kept = _("Packages that Slicer itself is built on are not changed.")
        parts = [text, where, kept]
        if self._needsExtension(missing, str(wheelFolder)):
            parts.append(
                _(
                    "The extension PyTorch is installed first. Slicer has to be restarted after "
                    "that; the installation then goes on."
                )
            )
        return "\n\n".join([*parts, _("Install now?")])

    def whyNot(self, wheelFolder: str | Path = "") -> str:
        """One sentence that says what keeps an installation from starting; empty when nothing does.

        Args:
            wheelFolder: where the packages lie; empty takes them from the network.
        """
        if sys.version_info < _LEAST_PYTHON:
            return _(
                "This Slicer is too old for the engine. Install Slicer 5.10 or later, or use an "
                "engine on a server."
            )
        if str(wheelFolder) and not any(Path(wheelFolder).glob("*.whl")):
            return _(
                "The folder '{folder}' holds no packages (.whl); choose the one that was filled "
                "for this computer."
            ).format(folder=wheelFolder)
        needed = _LEAST_FREE_MEGABYTES + _DISK_PER_DOWNLOAD * sum(
            one.megabytes for one in self.missing()
        )
        place = sysconfig.get_path("purelib")
        free = shutil.disk_usage(place).free // _MEGABYTE
        if free < needed:
            return _(
                "The installation needs about {needed} of free space at {place}; {free} are free. "
                "Free some space and try again."
            ).format(needed=_sizeText(needed), place=place, free=_sizeText(free))
        return ""

    def install(self, wheelFolder: str | Path = "", ask: bool = True) -> InstallOutcome:
        """Install all that is missing, and wait for it; on the main thread only.

        Args:
            wheelFolder: where the packages lie, for a computer without network; empty takes them
                from the network.
            ask: whether to ask; a resumed installation was agreed to before the restart.

        Raises:
            RuntimeError: it is called on another thread, or while another installation goes on.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("Packages are installed on the main thread only.")
        if self._isRunning:
            raise RuntimeError(_("An installation is going on; wait until it is done."))
        missing = self.missing()
        if not missing:
            self._remember(False)
            return InstallOutcome(True, sentence=_("All that the engine needs is installed."))
        if problem := self.whyNot(wheelFolder):
            return InstallOutcome(sentence=problem)
        if ask and not self._confirm(self.whatWillHappen(wheelFolder)):
            self._remember(False)
            return InstallOutcome(cancelled=True)
        self._isRunning = True
        self._lines.clear()
        try:
            return self._installed(missing, str(wheelFolder))
        finally:
            self._isRunning = False

    def _installed(self, missing: Sequence[Requirement], wheelFolder: str) -> InstallOutcome:
        if self._needsExtension(missing, wheelFolder):
            return self._withExtension()
        self._remember(False)
        others = [one for one in missing if one.name != TORCH]
        steps = [[one] for one in missing if one.name == TORCH] + ([others] if others else [])
        for done, step in enumerate(steps):
            self._progress(done, len(steps))
            problem = self._stepFails(step, wheelFolder)
            if problem:
                return InstallOutcome(sentence=problem, details="\n".join(self._lines))
        self._progress(len(steps), len(steps))
        return InstallOutcome(True, sentence=_("All that the engine needs is installed."))

    def _withExtension(self) -> InstallOutcome:
        # Before, because the application may be restarted without asking this module.
        self._remember(True)
        if self._extension.get():
            return InstallOutcome(
                restartNeeded=True,
                sentence=_("The extension PyTorch is installed. Restart Slicer to go on."),
            )
        self._remember(False)
        return InstallOutcome(
            sentence=_(
                "The extension PyTorch could not be installed from extensions.slicer.org. Install "
                "it with the Extensions Manager, or install from a folder without network."
            )
        )

    def _stepFails(self, step: Sequence[Requirement], wheelFolder: str) -> str:
        """Install some packages, and say what is wrong; nothing when they are there."""
        with tempfile.TemporaryDirectory(prefix="ImbalanceSeg-") as folder:
            constraints = Path(folder) / "constraints.txt"
            lines = constraintLines(requirementsOfEngine())
            constraints.write_text("\n".join(lines) + "\n", encoding="utf-8")
            code = 0
            if step[0].name == TORCH and not wheelFolder:
                error = self._extension.installTorch(step[0].specifier, constraints, self._heard)
                if error is not None:
                    self._heard(str(error))
                    code = 1
            else:
                code = self._pip.install(pipArguments(step, wheelFolder), constraints, self._heard)
        importlib.invalidate_caches()
        if code == 0 and all(one.isInstalled for one in step):
            return ""
        return whyPipFailed(list(self._lines), bool(wheelFolder))

    def _needsExtension(self, missing: Sequence[Requirement], wheelFolder: str) -> bool:
        isTorchMissing = any(one.name == TORCH for one in missing)
        return isTorchMissing and not wheelFolder and not self._extension.isThere

    def _heard(self, line: str) -> None:
        self._lines.append(line)
        self._log(line)

    def _remember(self, isToBeResumed: bool) -> None:
        if self._settings is not None:
            self._settings.setValue(_RESUME_KEY, "true" if isToBeResumed else "false")


def pipArguments(requirements: Sequence[Requirement], wheelFolder: str = "") -> list[str]:
    """Arguments of ``pip install``, constraints apart.

    Args:
        requirements: to install.
        wheelFolder: where the packages lie; empty takes them from the network.
    """
    # What has to be compiled first would need a compiler that hardly anybody has.
    options = ["--disable-pip-version-check", "--no-input", "--only-binary", ":all:"]
    if wheelFolder:
        options += ["--no-index", "--find-links", str(Path(wheelFolder).absolute())]
    return [*options, *(one.text for one in requirements)]


def _sizeText(megabytes: float) -> str:
    if megabytes < 1000:
        return f"{10 * round(megabytes / 10) or 10} MB"
    return f"{megabytes / 1000:.1f} GB"
