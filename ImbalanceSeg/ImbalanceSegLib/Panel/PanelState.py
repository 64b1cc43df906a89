"""Which buttons of the panel can be pressed, and why the others cannot."""

from __future__ import annotations

from dataclasses import dataclass

from slicer.i18n import tr as _

from ImbalanceSegLib.Panel.PanelFacts import PanelFacts


@dataclass(frozen=True)
class ControlState:
    """How a button stands.

    Attributes:
        toolTip: what it does, or why it cannot be pressed.
        enabled: whether it can be pressed.
        text: what is written on it; empty leaves it as it is.
    """

    toolTip: str
    enabled: bool = True
    text: str = ""


def controlStates(facts: PanelFacts) -> dict[str, ControlState]:
    """How every button of the panel stands, by its name in the panel."""
    return {
        **_segmentStates(facts),
        **_lookStates(facts),
        **_paintStates(facts),
        **_clickStates(facts),
        **_learnStates(facts),
        **_exportStates(facts),
        **_archiveStates(facts),
        **_advancedStates(facts),
    }


def whyBusy(activity: str) -> str:
    """Why nothing else can be started while some work goes on; empty when none does."""
    if not activity:
        return ""
    return {
        "segment": _("A segmentation is running. Wait, or press Cancel."),
        "adapt": _("The model is learning. Wait, or press Stop."),
        "click": _("The last click is being worked on. Wait a moment."),
        "suggest": _("The best slices are being looked for. Wait, or press Cancel."),
        "export": _("An export is running. Wait, or press Cancel."),
        "find": _("The PACS is being searched. Wait, or press Cancel."),
        "get": _("A scan is being fetched. Wait, or press Cancel."),
        "connect": _("The engine is being asked. Wait, or press Cancel."),
        "install": _("Packages are being installed. Wait until that is done."),
    }[activity]


def _state(toolTip: str, *problems: str, text: str = "") -> ControlState:
    """Enabled unless there is a problem; the first one is the reason."""
    problem = next(filter(None, problems), "")
    return ControlState(problem or toolTip, not problem, text)


def _unless(condition: bool, problem: str) -> str:
    return "" if condition else problem


def _noScene(facts: PanelFacts) -> str:
    return _unless(facts.sceneIsOpen, _("The scene is being closed. Wait a moment."))


def _noSegments(facts: PanelFacts) -> str:
    return _unless(facts.hasSegments, _("There is no result yet. Press Segment first."))


def _noViews(facts: PanelFacts) -> str:
    return _unless(facts.hasViews, _("This application shows no slice views."))


def _segmentStates(facts: PanelFacts) -> dict[str, ControlState]:
    if facts.activity == "segment":
        stop = _("Stop the segmentation that is running; the result so far is not kept.")
        return {"segmentButton": _state(stop, text=_("Cancel"))}
    return {
        "segmentButton": _state(
            _("Make a new segmentation to paint in.")
            if facts.isFromScratch
            else _("Segment the selected volume."),
            _noScene(facts),
            whyBusy(facts.activity),
            facts.segmentProblem,
            text=_("Begin painting") if facts.isFromScratch else _("Segment"),
        )
    }


def _lookStates(facts: PanelFacts) -> dict[str, ControlState]:
    noRegions = (
        _noSegments(facts)
        or _unless(
            facts.hasHardness,
            _("There is no hardness map. Switch Hardness on and press Segment again."),
        )
        or _noViews(facts)
    )
    return {
        "show3DButton": _state(
            _("Show the segments as surfaces in the 3D view."), _noSegments(facts)
        ),
        "previousRegionButton": _state(
            _("Go back to the hard region before this one (Shift+P)."), noRegions
        ),
        "nextRegionButton": _state(_("Go to the next hard region (Shift+N)."), noRegions),
    }


def _paintStates(facts: PanelFacts) -> dict[str, ControlState]:
    learning = whyBusy(facts.activity) if facts.activity in ("segment", "adapt") else ""
    return {
        "sliceDoneButton": _state(
            _(
                "Say that everything in this slice is right now, so that the model can learn from "
                "it (Shift+S)."
            ),
            _noSegments(facts),
            _noViews(facts),
            learning,
        ),
        "unconfirmSliceButton": _state(
            _("The selected slice is not finished after all (Delete)."),
            _unless(facts.confirmed > 0, _("No slice is finished yet.")),
            _unless(facts.confirmedSelected, _("Select a slice in the list first.")),
            learning,
        ),
    }


def _clickStates(facts: PanelFacts) -> dict[str, ControlState]:
    # While a click is worked on the next one can be placed already.
    busy = "" if facts.activity == "click" else whyBusy(facts.activity)
    problems = (_noSegments(facts), facts.baseProblem, _noViews(facts), busy)
    return {
        "missedButton": _state(
            _(
                "Click in a view on something that was missed; the segment grows there (Shift+M). "
                "Press again, or right-click in the view, to end."
            ),
            *problems,
        ),
        "wrongButton": _state(
            _(
                "Click in a view on something that is wrong; it is taken out of the segment "
                "(Shift+W). Press again, or right-click in the view, to end."
            ),
            *problems,
        ),
    }


def _suggestState(facts: PanelFacts, busy: str, result: str) -> ControlState:
    if facts.activity == "suggest":
        return _state(_("Stop looking for slices."), text=_("Cancel"))
    return _state(
        _("Ask which slices are best painted next."), result, busy, text=_("Suggest slices")
    )


def _learnStates(facts: PanelFacts) -> dict[str, ControlState]:
    busy = whyBusy(facts.activity)
    result = _noSegments(facts) or facts.baseProblem
    adapt = _state(
        _("Let the model learn from the finished slices and the corrections (Shift+A)."),
        _noSegments(facts),
        busy,
        facts.resultProblem,
        text=_("Adapt"),
    )
    if facts.activity == "adapt":
        adapt = _state(_("Stop learning and drop what was learnt."), text=_("Stop"))
    return {
        "suggestButton": _suggestState(facts, busy, result),
        "adaptButton": adapt,
        "finishNowButton": _state(
            _("Stop learning and keep what the model has learnt so far."),
            _unless(facts.activity == "adapt", _("The model is not learning. Press Adapt first.")),
        ),
        "undoButton": _undoState(facts, busy),
        "keepModelButton": _state(
            _("Save the adapted model, to use it again."),
            _unless(facts.adapted, _("The model was not adapted yet. Press Adapt first.")),
            busy,
        ),
    }


def _undoState(facts: PanelFacts, busy: str) -> ControlState:
    nothing = _unless(bool(facts.undoes), _("There is no click or adaptation to take back."))
    if facts.undoes == "click":
        return _state(_("Take the last click back."), busy, text=_("Undo click"))
    if facts.undoes == "adapt":
        return _state(_("Take the last adaptation back."), busy, text=_("Undo adaptation"))
    return _state("", nothing, text=_("Undo"))


def _exportStates(facts: PanelFacts) -> dict[str, ControlState]:
    export = _state(
        _("Write the segments as a DICOM Segmentation."),
        _noSegments(facts),
        whyBusy(facts.activity),
        facts.exportProblem,
        facts.targetProblem,
        text=_("Export DICOM-SEG"),
    )
    if facts.activity == "export":
        export = _state(_("Stop the export that is running."), text=_("Cancel"))
    return {
        "exportButton": export,
        "saveNrrdButton": _state(_("Save the segments as one file of labels."), _noSegments(facts)),
        "saveReportButton": _state(
            _("Save what was done and with which model."), _noSegments(facts)
        ),
    }


def _archiveStates(facts: PanelFacts) -> dict[str, ControlState]:
    busy = whyBusy(facts.activity)
    find = _state(
        _("Look for the scans of this patient in the PACS."),
        busy,
        facts.findProblem,
        text=_("Find scans"),
    )
    get = _state(
        _("Fetch the selected scan into the DICOM database, and load it."),
        _noScene(facts),
        busy,
        _unless(facts.scanSelected, _("Select a scan in the list first.")),
        text=_("Get scan"),
    )
    if facts.activity == "find":
        find = _state(_("Stop looking."), text=_("Cancel"))
    if facts.activity == "get":
        get = _state(_("Stop fetching; what has arrived is kept."), text=_("Cancel"))
    return {"findScansButton": find, "getScanButton": get}


def _advancedStates(facts: PanelFacts) -> dict[str, ControlState]:
    busy = whyBusy(facts.activity)
    test = _state(
        _("Ask the engine what it is and which models it has."),
        busy,
        facts.serverProblem,
        text=_("Test the engine"),
    )
    if facts.activity == "connect":
        test = _state(_("Stop asking the engine."), text=_("Cancel"))
    return {
        "testEngineButton": test,
        "installButton": _state(
            _("Install the packages that an engine on this computer needs."),
            busy,
            _unless(
                not facts.isServer,
                _("The engine runs on a server, which has its packages. Nothing is needed here."),
            ),
        ),
    }
