"""Installing what the engine needs, as the panel shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from ImbalanceSegLib.Install.Installer import Installer

if TYPE_CHECKING:
    from ImbalanceSegLib.Panel.Panel import Panel


class InstallPart:
    """Asks, installs, and goes on after a restart.

    Args:
        panel: that shows it.
    """

    def __init__(self, panel: Panel) -> None:
        self._panel, self._ui = panel, panel.ui
        self.isRunning = False
        self.installer = Installer(
            self._confirm, self._log, self._progress, slicer.app.userSettings()
        )

    @property
    def isToBeResumed(self) -> bool:
        """Whether Slicer was restarted in the middle of an installation."""
        return self.installer.isToBeResumed

    def isReady(self) -> bool:
        """Whether the engine has all that it needs; if not, it is offered to be installed first."""
        if not self._panel.advanced.settings.isLocal or slicer.app.testingEnabled():
            return True
        return not self.installer.missing() or self.install()

    def resume(self) -> None:
        """Go on with what was agreed to before Slicer was restarted."""
        if self.isToBeResumed and not self._panel.activityKind:
            self.installer.forgetResumption()
            self.install(ask=False)

    def install(self, ask: bool = True) -> bool:
        """Install what is missing, and wait for it.

        Args:
            ask: whether to ask first.

        Returns:
            Whether all is there now; if not, the user was told why.
        """
        panel = self._panel
        if panel.activityKind:
            return False
        self.isRunning = True
        panel.monitor.begin("install")
        panel.refresh()
        try:
            outcome = self.installer.install(self._ui.wheelFolderEdit.currentPath.strip(), ask)
        finally:
            self.isRunning = False
            panel.monitor.end()
            panel.refresh()
        panel.monitor.say("install", outcome.sentence)
        panel.advanced.showPackages()
        if outcome.restartNeeded:
            if slicer.util.confirmOkCancelDisplay(
                outcome.sentence + "\n\n" + _("Restart now? Save your work first."),
                _("Restart Slicer"),
            ):
                slicer.util.restart()
        elif not outcome.succeeded and not outcome.cancelled:
            panel.fail(outcome.sentence, outcome.details)
        return outcome.succeeded

    def _confirm(self, question: str) -> bool:
        return bool(slicer.util.confirmOkCancelDisplay(question, _("Install packages")))

    def _log(self, line: str) -> None:
        self._ui.packageInformationText.appendPlainText(line)

    def _progress(self, done: int, total: int) -> None:
        self._panel.monitor.say(
            "install",
            _("Installing, step {step} of {total}. This takes some minutes.").format(
                step=min(done + 1, total), total=total
            ),
        )
        slicer.app.processEvents()
