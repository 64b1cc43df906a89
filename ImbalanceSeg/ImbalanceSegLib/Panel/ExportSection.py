"""Section "Export": the result as DICOM Segmentation, labels and report; scans of the PACS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qt
import slicer
from slicer.i18n import tr as _

from ImbalanceSegLib.Logic.Activity import ActivityOutcome
from ImbalanceSegLib.Logic.DicomTargets.Database import Database
from ImbalanceSegLib.Logic.DicomTargets.DicomNode import DicomNode
from ImbalanceSegLib.Logic.DicomTargets.DicomTarget import DicomTarget
from ImbalanceSegLib.Logic.DicomTargets.Dicomweb import Dicomweb
from ImbalanceSegLib.Logic.DicomTargets.Folder import Folder
from ImbalanceSegLib.Panel.ArchivePart import ArchivePart
from ImbalanceSegLib.Panel.PanelSection import PanelSection

if TYPE_CHECKING:
    from ImbalanceSegLib.Logic.DicomTargets.DicomArchive import DicomArchive
    from ImbalanceSegLib.Panel.Panel import Panel

_DATABASE, _FOLDER, _DICOMWEB, _NODE = range(4)
_KEPT = "ImbalanceSeg/Export/"


class ExportSection(PanelSection):
    """Section "Export": the result as DICOM Segmentation, labels and report; scans of the PACS.

    Attributes:
        archive: finds scans in the PACS and gets them.
    """

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        self.archive = ArchivePart(panel)

    def setup(self) -> None:
        """Connect the widgets, and fill in what was exported to last."""
        ui = self.ui
        self.archive.setup()
        ui.exportTargetSelector.addItems(
            [_("DICOM database"), _("Folder"), _("PACS (DICOMweb)"), _("PACS (C-STORE)")]
        )
        self._restore()
        ui.exportTargetSelector.connect("currentIndexChanged(int)", self._onChanged)
        ui.exportFolderEdit.connect("currentPathChanged(QString)", self._onChanged)
        ui.exportCertificateEdit.connect("currentPathChanged(QString)", self._onChanged)
        for edit in (ui.exportUrlEdit, ui.exportHostEdit, ui.exportAETitleEdit):
            edit.connect("textChanged(QString)", self._onChanged)
        ui.exportPortSpinBox.connect("valueChanged(int)", self._onChanged)
        ui.exportHttpCheckBox.connect("toggled(bool)", self._onChanged)
        ui.exportButton.connect("clicked(bool)", self._onExport)
        ui.saveNrrdButton.connect("clicked(bool)", self._onSaveNrrd)
        ui.saveReportButton.connect("clicked(bool)", self._onSaveReport)

    def update(self) -> None:
        """Show the fields of the chosen target."""
        chosen = self.ui.exportTargetSelector.currentIndex
        self.ui.exportFolderFields.setVisible(chosen == _FOLDER)
        self.ui.exportDicomwebFields.setVisible(chosen == _DICOMWEB)
        self.ui.exportNodeFields.setVisible(chosen == _NODE)
        self.archive.update()

    @property
    def target(self) -> DicomTarget:
        """Where the DICOM Segmentation goes."""
        ui = self.ui
        chosen = ui.exportTargetSelector.currentIndex
        if chosen == _FOLDER:
            return Folder(ui.exportFolderEdit.currentPath)
        if chosen == _DICOMWEB:
            return Dicomweb(
                ui.exportUrlEdit.text,
                ui.exportTokenEdit.text,
                ui.exportCertificateEdit.currentPath,
                ui.exportHttpCheckBox.checked,
            )
        if chosen == _NODE:
            return DicomNode(
                ui.exportHostEdit.text, ui.exportPortSpinBox.value, ui.exportAETitleEdit.text
            )
        return Database()

    @property
    def archiveTarget(self) -> DicomArchive | None:
        """The PACS that is chosen as a target; None for another target."""
        target = self.target
        return target if isinstance(target, (Dicomweb, DicomNode)) else None

    def _onChanged(self, value: Any) -> None:
        self.panel.show()

    def _onExport(self) -> None:
        if self.panel.cancelOf("export"):
            return
        self.keepTarget()
        node, target = self.panel.segmentationNode, self.target
        self.panel.start(
            "export",
            lambda onFinished, onProgress: self.logic.export.startDicomSeg(
                node, target, onFinished=onFinished, onProgress=onProgress
            ),
            self._onExported,
        )

    def _onExported(self, outcome: ActivityOutcome) -> None:
        if outcome.succeeded:
            self.panel.monitor.say("export", _("Exported to {place}.").format(place=outcome.value))

    def _onSaveNrrd(self) -> None:
        self._save(_("Save the labels as"), ".seg.nrrd", self.logic.export.saveNrrd)

    def _onSaveReport(self) -> None:
        self._save(_("Save the report as"), ".json", self.logic.export.saveReport)

    def _save(self, title: str, suffix: str, save: Callable[[Any, str], Path]) -> None:
        node = self.panel.segmentationNode
        folder = self.ui.exportFolderEdit.currentPath or str(Path.home())
        chosen = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(), title, str(Path(folder) / (node.GetName() + suffix))
        )
        if not chosen:
            return
        path = self.panel.attempt(lambda: save(node, chosen))
        if path is not None:
            self.panel.monitor.say("export", _("Saved as {path}.").format(path=path))

    def keepTarget(self) -> None:
        """Fill in the same target the next time; tokens are not kept."""
        settings, ui = slicer.app.userSettings(), self.ui
        for name, value in {
            "target": str(ui.exportTargetSelector.currentIndex),
            "folder": ui.exportFolderEdit.currentPath,
            "url": ui.exportUrlEdit.text,
            "host": ui.exportHostEdit.text,
            "port": str(ui.exportPortSpinBox.value),
            "aeTitle": ui.exportAETitleEdit.text,
        }.items():
            settings.setValue(_KEPT + name, value)

    def _restore(self) -> None:
        settings, ui = slicer.app.userSettings(), self.ui
        ui.exportTargetSelector.currentIndex = _number(settings.value(_KEPT + "target"), _DATABASE)
        ui.exportFolderEdit.currentPath = settings.value(_KEPT + "folder") or ""
        ui.exportUrlEdit.text = settings.value(_KEPT + "url") or ""
        ui.exportHostEdit.text = settings.value(_KEPT + "host") or ""
        ui.exportPortSpinBox.value = _number(settings.value(_KEPT + "port"), 104)
        ui.exportAETitleEdit.text = settings.value(_KEPT + "aeTitle") or ""


def _number(text: Any, default: int) -> int:
    try:
        return int(text)
    except (TypeError, ValueError):
        return default
