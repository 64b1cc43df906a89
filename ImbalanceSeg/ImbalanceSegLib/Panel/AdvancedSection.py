"""Section "Advanced": where the engine runs, and what it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import qt
import slicer
from slicer.i18n import tr as _

from ImbalanceSegLib.Engine.EngineSettings import EngineSettings
from ImbalanceSegLib.Install.PackageInformation import PackageInformation
from ImbalanceSegLib.Logic.Activity import ActivityOutcome
from ImbalanceSegLib.Logic.ConnectionLogic import startConnect
from ImbalanceSegLib.Panel.InstallPart import InstallPart
from ImbalanceSegLib.Panel.PanelSection import PanelSection

_HERE, _SERVER = range(2)


class AdvancedSection(PanelSection):
    """Section "Advanced": where the engine runs, and what it needs."""

    def setup(self) -> None:
        """Connect the widgets, and fill in what was set last."""
        ui = self.ui
        self.install = InstallPart(self.panel)
        self._told: Mapping[str, Any] | None = None
        ui.enginePlaceSelector.addItems([_("This computer"), _("A server")])
        self._fill(self.logic.link.settings)
        ui.enginePlaceSelector.connect("currentIndexChanged(int)", self._onChanged)
        ui.serverUrlEdit.connect("textChanged(QString)", self._onChanged)
        ui.testEngineButton.connect("clicked(bool)", self._onTest)
        ui.installButton.connect("clicked(bool)", self._onInstall)
        ui.advancedCollapsibleButton.connect("contentsCollapsed(bool)", self._onFolded)

    def enter(self) -> None:
        """The module is shown; an installation that waited for a restart goes on."""
        if self.install.isToBeResumed:
            qt.QTimer.singleShot(0, self.install.resume)

    def exit(self) -> None:
        """Another module is shown."""
        if not self.panel.activityKind and not self.serverProblem:
            self.applySettings()

    def update(self) -> None:
        """Show the fields of the chosen place."""
        self.ui.serverFields.setVisible(self.ui.enginePlaceSelector.currentIndex == _SERVER)
        info = self.logic.link.info
        if info is not self._told:
            self._told = info
            self.showPackages()

    @property
    def settings(self) -> EngineSettings:
        """What the fields say."""
        ui, now = self.ui, self.logic.link.settings
        isServer = ui.enginePlaceSelector.currentIndex == _SERVER
        folder = ui.modelFolderEdit.currentPath.strip()
        return replace(
            now,
            place=ui.serverUrlEdit.text.strip() if isServer else "",
            token=ui.serverTokenEdit.text.strip(),
            certificate=ui.serverCertificateEdit.currentPath.strip(),
            memoryGb=round(ui.memorySpinBox.value, 1),
            exact=ui.exactCheckBox.checked,
            modelFolders=(folder,) if folder else (),
        )

    @property
    def serverProblem(self) -> str:
        """What the address of the server lacks; empty when nothing."""
        if self.ui.enginePlaceSelector.currentIndex != _SERVER:
            return ""
        try:
            parts = urlsplit(self.ui.serverUrlEdit.text.strip())
            usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            usable = False
        if usable:
            return ""
        return _("Enter the address of the server under Advanced; it begins with https://.")

    @property
    def modelFolder(self) -> str:
        """Folder of the user's own models; empty for none."""
        path: str = self.ui.modelFolderEdit.currentPath
        return path

    def applySettings(self) -> None:
        """Let the engine work as the fields say from now on.

        Raises:
            ValueError: the address of the server is missing.
        """
        if problem := self.serverProblem:
            raise ValueError(problem)
        settings = self.settings
        if settings != self.logic.link.settings:
            settings.save(slicer.app.userSettings())
            self.logic.link.changeSettings(settings)

    def showPackages(self) -> None:
        """Show the versions of what is installed, where the section is open."""
        if not self.ui.advancedCollapsibleButton.collapsed:
            text = PackageInformation(self.logic.link.info).text
            self.ui.packageInformationText.setPlainText(text)

    def _fill(self, settings: EngineSettings) -> None:
        ui = self.ui
        ui.enginePlaceSelector.currentIndex = _HERE if settings.isLocal else _SERVER
        ui.serverUrlEdit.text = settings.place
        ui.serverTokenEdit.text = settings.token
        ui.serverCertificateEdit.currentPath = settings.certificate
        ui.memorySpinBox.value = settings.memoryGb
        ui.exactCheckBox.checked = settings.exact
        ui.modelFolderEdit.currentPath = next(iter(settings.modelFolders), "")

    def _onChanged(self, value: Any) -> None:
        self.panel.show()

    def _onFolded(self, folded: bool) -> None:
        self.showPackages()

    def _onTest(self) -> None:
        if self.panel.cancelOf("connect") or not self.install.isReady():
            return
        self.panel.start(
            "connect",
            lambda onFinished, onProgress: startConnect(self.logic.link, onFinished),
            self._onConnected,
        )

    def _onConnected(self, outcome: ActivityOutcome) -> None:
        if outcome.succeeded:
            models = len(outcome.value["models"])
            self.panel.monitor.say(
                "connect",
                _("The engine answers: version {version}, {count} models.").format(
                    version=outcome.value["version"], count=models
                ),
            )

    def _onInstall(self) -> None:
        self.install.install()
