"""Part of section "Export": scans of the PACS that is chosen as a target."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from ImbalanceSegLib.Logic.Activity import ActivityOutcome
from ImbalanceSegLib.Panel.PanelSection import PanelSection
from ImbalanceSegLib.Panel.SliceList import SliceList

_MOST_SHOWN = 200


class ArchivePart(PanelSection):
    """Finds scans in the PACS, and gets the one that is chosen."""

    def setup(self) -> None:
        """Connect the widgets."""
        self._found: list[Any] = []
        self._list = SliceList(
            self.ui.scanList, lambda scan: self._onGet(), onSelected=self.panel.show
        )
        self.ui.patientIDEdit.connect("textChanged(QString)", lambda text: self.panel.show())
        self.ui.patientIDEdit.connect("returnPressed()", lambda: self.ui.findScansButton.click())
        self.ui.findScansButton.connect("clicked(bool)", self._onFind)
        self.ui.getScanButton.connect("clicked(bool)", self._onGet)

    def update(self) -> None:
        """Show the part where a PACS is chosen."""
        self.ui.archiveCollapsibleButton.setVisible(self.panel.export.archiveTarget is not None)

    @property
    def selected(self) -> Any:
        """The scan that is selected in the list; None for none."""
        return self._list.selected

    @property
    def whyNotFind(self) -> str:
        """One sentence that says why the PACS cannot be searched; empty when it can."""
        archive = self.panel.export.archiveTarget
        if archive is None:
            return _("Choose a PACS above.")
        problem: str = self.logic.archive.whyNotFind(archive, self.ui.patientIDEdit.text)
        return problem

    def _onFind(self, checked: bool = False) -> None:
        if self.panel.cancelOf("find"):
            return
        archive, patientID = self.panel.export.archiveTarget, self.ui.patientIDEdit.text
        self.panel.export.keepTarget()
        self._show([])
        self.panel.start(
            "find",
            lambda onFinished, onProgress: self.logic.archive.startFind(
                archive, patientID, onFinished=onFinished, onProgress=onProgress
            ),
            self._onFound,
        )

    def _onFound(self, outcome: ActivityOutcome) -> None:
        if not outcome.succeeded:
            return
        self._show(outcome.value)
        count = len(outcome.value)
        sentence = _("{count} series found.").format(count=count)
        if count > _MOST_SHOWN:
            sentence = _("{count} series found; the newest {shown} are listed.").format(
                count=count, shown=_MOST_SHOWN
            )
        self.panel.monitor.say("find", sentence if count else _("The PACS has no such series."))

    def _onGet(self, checked: bool = False) -> None:
        if self.panel.cancelOf("get"):
            return
        archive, scan = self.panel.export.archiveTarget, self.selected
        if archive is None or scan is None:
            return
        self.panel.start(
            "get",
            lambda onFinished, onProgress: self.logic.archive.startGet(
                archive, scan, onFinished=onFinished, onProgress=onProgress
            ),
            self._onGot,
        )

    def _onGot(self, outcome: ActivityOutcome) -> None:
        if not outcome.succeeded:
            return
        if self.panel.parameters is not None:
            self.panel.parameters.inputVolume = outcome.value
        self.panel.monitor.say(
            "get",
            _("'{volume}' is loaded and selected.").format(volume=outcome.value.GetName()),
        )

    def _show(self, found: list[Any]) -> None:
        shown = found[:_MOST_SHOWN]
        self._list.show(shown, [_line(series) for series in shown])


def _line(series: Any) -> str:
    """A series as one line of the list."""
    date = series.date
    if len(date) == 8:
        date = f"{date[:4]}-{date[4:6]}-{date[6:]}"
    words = [date, series.modality, series.description or _("(no description)")]
    if series.instances is not None:
        words.append(_("({count} images)").format(count=series.instances))
    return "  ".join(word for word in words if word)
