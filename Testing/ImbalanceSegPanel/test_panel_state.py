"""Every button of the panel is enabled when it can be used, and says why when it cannot."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

KINDS = ("", "segment", "adapt", "click", "suggest", "export", "find", "get", "connect", "install")


@pytest.fixture
def state(world):
    from ImbalanceSegLib.Panel import PanelState

    return PanelState


@pytest.fixture
def ready(world):
    """A result is there, and everything can be done with it."""
    from ImbalanceSegLib.Panel.PanelFacts import PanelFacts

    return PanelFacts(
        hasSegments=True,
        hasHardness=True,
        confirmed=2,
        confirmedSelected=True,
        undoes="adapt",
        adapted=True,
        scanSelected=True,
    )


def enabled(states):
    return {name for name, one in states.items() if one.enabled}


def test_everyButtonSaysWhatItDoesOrWhyItCannot(state, ready):
    switches = ("sceneIsOpen", "hasSegments", "hasViews", "hasHardness", "isServer", "adapted")
    problems = ("segmentProblem", "resultProblem", "baseProblem", "exportProblem", "targetProblem")
    for kind, values, problem, undoes in itertools.product(
        KINDS,
        itertools.product((True, False), repeat=len(switches)),
        ("", "Something is missing."),
        ("", "click", "adapt"),
    ):
        facts = replace(
            ready,
            activity=kind,
            undoes=undoes,
            **dict(zip(switches, values, strict=True)),
            **dict.fromkeys(problems, problem),
        )
        for name, one in state.controlStates(facts).items():
            assert one.toolTip.endswith((".", ").")), (name, facts)


def test_everyPushButtonOfThePanelHasAState(state, ready):
    from panel_harness.application import MODULE_FOLDER

    file = MODULE_FOLDER / "Resources" / "UI" / "ImbalanceSeg.ui"
    buttons = {
        widget.attrib["name"]
        for widget in ElementTree.parse(file).iter("widget")
        if widget.attrib["class"] == "QPushButton"
    }
    assert buttons | {"show3DButton"} == set(state.controlStates(ready))


def test_withAResultAllCanBeDone(state, ready):
    everything = set(state.controlStates(ready))
    assert enabled(state.controlStates(ready)) == everything - {"finishNowButton"}


def test_emptySceneOffersNothingButTheEngine(state):
    from ImbalanceSegLib.Panel.PanelFacts import PanelFacts

    facts = PanelFacts(segmentProblem="Select the volume to segment.")
    states = state.controlStates(facts)
    assert enabled(states) == {"findScansButton", "testEngineButton", "installButton"}
    assert states["segmentButton"].toolTip == "Select the volume to segment."
    assert states["adaptButton"].toolTip == "There is no result yet. Press Segment first."


@pytest.mark.parametrize("kind", KINDS[1:])
def test_oneWorkAtATime(state, ready, kind):
    starters = {
        "segmentButton": "segment",
        "adaptButton": "adapt",
        "missedButton": "click",
        "wrongButton": "click",
        "suggestButton": "suggest",
        "exportButton": "export",
        "findScansButton": "find",
        "getScanButton": "get",
        "undoButton": "",
        "keepModelButton": "",
        "testEngineButton": "connect",
        "installButton": "",
    }
    states = state.controlStates(replace(ready, activity=kind))
    for name, own in starters.items():
        assert states[name].enabled == (own == kind), name
        if own != kind:
            assert states[name].toolTip == state.whyBusy(kind)


def test_startersTurnIntoTheirEnd(state, ready):
    segmenting = state.controlStates(replace(ready, activity="segment"))
    assert segmenting["segmentButton"].text == "Cancel"
    adapting = state.controlStates(replace(ready, activity="adapt"))
    assert adapting["adaptButton"].text == "Stop"
    assert adapting["finishNowButton"].enabled
    idle = state.controlStates(ready)
    assert (idle["segmentButton"].text, idle["adaptButton"].text) == ("Segment", "Adapt")


@pytest.mark.parametrize(
    ("undoes", "text"), [("", "Undo"), ("click", "Undo click"), ("adapt", "Undo adaptation")]
)
def test_undoSaysWhatItTakesBack(state, ready, undoes, text):
    button = state.controlStates(replace(ready, undoes=undoes))["undoButton"]
    assert (button.text, button.enabled) == (text, bool(undoes))


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"hasHardness": False}, {"nextRegionButton", "previousRegionButton"}),
        ({"confirmed": 0}, {"unconfirmSliceButton"}),
        ({"confirmedSelected": False}, {"unconfirmSliceButton"}),
        ({"adapted": False}, {"keepModelButton"}),
        ({"isServer": True}, {"installButton"}),
        ({"serverProblem": "No address."}, {"testEngineButton"}),
        ({"exportProblem": "No series."}, {"exportButton"}),
        ({"targetProblem": "No folder."}, {"exportButton"}),
        ({"findProblem": "No patient."}, {"findScansButton"}),
        ({"scanSelected": False}, {"getScanButton"}),
        ({"resultProblem": "Gone."}, {"adaptButton"}),
        ({"baseProblem": "Gone."}, {"missedButton", "wrongButton", "suggestButton"}),
        (
            {"hasViews": False},
            {
                "missedButton",
                "wrongButton",
                "sliceDoneButton",
                "nextRegionButton",
                "previousRegionButton",
            },
        ),
    ],
)
def test_whatIsMissingDisablesWhatNeedsIt(state, ready, changed, names):
    before = enabled(state.controlStates(ready))
    assert before - enabled(state.controlStates(replace(ready, **changed))) == names
