"""The effect of the Segment Editor, on stand-ins for the application's classes.

The stand-ins refuse every member that the application's own classes do not have.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import slicer
import vtk

from ImbalanceSegLib.Logic.Activity import ActivityOutcome
from ImbalanceSegLib.Panel.ClickEffect import EFFECT_FILE, registerClickEffect
from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord

NAME = EFFECT_FILE.stem
NAMES = json.loads((Path(__file__).parents[1] / "Slicer" / "api_names.json").read_text("utf-8"))
POINT = [12.0, -3.5, 40.0]


class Correction:
    """Stands where the module's logic stands."""

    def __init__(self):
        self.beforeChange = None
        self.clicks, self.undone = [], []
        self.onFinished = None
        self.refusal = ""

    def startClick(self, segmentationNode, pointRAS, label, radiusMm, onFinished):
        if self.refusal:
            raise ValueError(self.refusal)
        self.clicks.append((segmentationNode, pointRAS, label, radiusMm))
        self.onFinished = onFinished

    def finish(self, outcome):
        if outcome.succeeded:
            self.beforeChange(self.clicks[-1][0])
        self.onFinished(outcome)

    def canUndo(self, segmentationNode):
        return bool(self.clicks)

    def undo(self, segmentationNode):
        self.beforeChange(segmentationNode)
        self.undone.append(segmentationNode)
        return "click"


class StandIn:
    """Has the members that a class of the application has, and no other."""

    KIND = ""

    def __init__(self, *arguments):
        self.__dict__["connected"] = {}

    def __setattr__(self, name, value):
        assert name in {*self._known("properties"), *self._known("methods")}, name
        self.__dict__[name] = value

    def connect(self, signal, function):
        assert signal in self._known("signals"), signal
        self.connected[signal] = function

    def blockSignals(self, blocked):
        return False

    def _known(self, what):
        for part in ("widgets", "qt"):
            if self.KIND in NAMES[part]:
                return [*NAMES[part][self.KIND][what], *NAMES["qwidget"][what]]
        return NAMES["classes"][self.KIND] if what == "methods" else []


class Slider(StandIn):
    KIND = "ctkSliderWidget"


class Label(StandIn):
    KIND = "QLabel"


class Button(StandIn):
    KIND = "QPushButton"


class ScriptedEffect(StandIn):
    """The application's side of an effect."""

    KIND = "qSlicerSegmentEditorScriptedEffect"

    def __init__(self, editorNode):
        super().__init__()
        self.__dict__.update(values={}, states=[], widgets=[], editorNode=editorNode)

    def addLabeledOptionsWidget(self, label, widget):
        self.widgets.append(widget)

    def addOptionsWidget(self, widget):
        self.widgets.append(widget)

    def setParameterDefault(self, name, value):
        self.values.setdefault(name, value)

    def setParameter(self, name, value):
        self.values[name] = value

    def doubleParameter(self, name):
        return float(self.values[name])

    def parameterSetNode(self):
        return self.editorNode

    def saveStateForUndo(self):
        self.states.append("saved")


class AbstractEffect:
    """What effects derive from."""

    def __init__(self, scriptedEffect):
        self.scriptedEffect = scriptedEffect

    def xyToRas(self, xy, viewWidget):
        return POINT


@pytest.fixture
def application(monkeypatch):
    """Modules that only the application has."""
    qt = ModuleType("qt")
    qt.QLabel, qt.QPushButton = Label, Button
    qt.QIcon = qt.QCursor = lambda *arguments: arguments
    qt.Qt = SimpleNamespace(CrossCursor=1)
    ctk = ModuleType("ctk")
    ctk.ctkSliderWidget = Slider
    base = ModuleType("SegmentEditorEffects")
    base.AbstractScriptedSegmentEditorEffect = AbstractEffect
    for module in (qt, ctk, base):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    correction = Correction()
    logic = SimpleNamespace(correction=correction)
    monkeypatch.setattr(slicer.util, "getModuleLogic", lambda name: logic, raising=False)
    return correction


@pytest.fixture
def segmentation(makeVolume):
    """A segmentation with a segment of the module and one of somebody else."""
    volume = makeVolume()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Lungs")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for segmentID, name in ((SegmentWriter.segmentID("airway", 1), "Airways"), ("mine", "Mine")):
        segment = slicer.vtkSegment()
        segment.SetName(name)
        node.GetSegmentation().AddSegment(segment, segmentID)
    record = WorkRecord(node)
    record.segmentIDs = {1: SegmentWriter.segmentID("airway", 1)}
    record.push("segment", "0" * 32, "airway")
    return node


@pytest.fixture
def effect(application, segmentation):
    """The effect as the Segment Editor has it, its first segment selected."""
    spec = importlib.util.spec_from_file_location(NAME, EFFECT_FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    editor = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
    editor.SetAndObserveSegmentationNode(segmentation)
    editor.SetSelectedSegmentID(SegmentWriter.segmentID("airway", 1))
    made = getattr(module, NAME)(ScriptedEffect(editor))
    made.setMRMLDefaults()
    made.setupOptionsFrame()
    made.activate()
    return made


def press(effect, key=None, event=vtk.vtkCommand.LeftButtonPressEvent, view="qMRMLSliceWidget"):
    interactor = SimpleNamespace(
        GetShiftKey=lambda: key == "shift",
        GetControlKey=lambda: key == "ctrl",
        GetEventPosition=lambda: (10, 20),
    )
    return effect.processInteractionEvents(
        interactor, event, SimpleNamespace(className=lambda: view)
    )


def select(effect, segmentID):
    effect.scriptedEffect.editorNode.SetSelectedSegmentID(segmentID)
    effect.updateGUIFromMRML()


def test_leftClickSaysWhatWasMissed(effect, application, segmentation):
    assert press(effect) is True
    assert application.clicks == [(segmentation, POINT, 1, 1.5)]


@pytest.mark.parametrize("key", ["shift", "ctrl"])
def test_shiftOrCtrlSaysWhatIsWrong(effect, application, key):
    press(effect, key)
    assert application.clicks[0][2] == 0


def test_othersEventsAreLeftToTheView(effect, application):
    assert press(effect, event=vtk.vtkCommand.MouseMoveEvent) is False
    assert press(effect, view="qMRMLThreeDWidget") is False
    assert not application.clicks


def test_radiusIsThatOfTheSlider(effect, application):
    effect.radiusSlider.value = 4.0
    effect.radiusSlider.connected["valueChanged(double)"](4.0)
    press(effect)
    assert application.clicks[0][3] == 4.0


def test_stateIsSavedRightBeforeTheChange(effect, application):
    application.beforeChange = panels = lambda node: None
    press(effect)
    assert not effect.scriptedEffect.states
    application.finish(ActivityOutcome(succeeded=True))
    assert effect.scriptedEffect.states == ["saved"]
    assert application.beforeChange is panels
    assert effect.statusLabel.text == "Done."


def test_failureIsSaid(effect, application):
    press(effect)
    application.finish(ActivityOutcome(sentence="There is not enough memory."))
    assert effect.statusLabel.text == "There is not enough memory."
    assert not effect.scriptedEffect.states
    application.refusal = "The volume holds no voxels."
    press(effect)
    assert effect.statusLabel.text == "The volume holds no voxels."
    application.refusal = ""
    assert press(effect) is True
    assert len(application.clicks) == 2


def test_nextClickNeedNotWait(effect, application):
    application.beforeChange = panels = lambda node: None
    press(effect)
    press(effect, "shift")
    assert [click[2] for click in application.clicks] == [1, 0]
    for _click in range(2):
        assert application.beforeChange is not panels
        application.finish(ActivityOutcome(succeeded=True))
    assert application.beforeChange is panels
    assert effect.scriptedEffect.states == ["saved", "saved"]


def test_itSaysWhyItCannotWork(effect, application, segmentation):
    assert effect.statusLabel.text == ""
    select(effect, "mine")
    assert effect.statusLabel.text == (
        "'Mine' was not made by ImbalanceSeg: select a segment that was."
    )
    press(effect)
    select(effect, SegmentWriter.segmentID("airway", 1))
    assert effect.statusLabel.text == ""
    segmentation.GetDisplayNode().SetSegmentVisibility(SegmentWriter.segmentID("airway", 1), False)
    press(effect)
    assert "is hidden" in effect.statusLabel.text
    while WorkRecord(segmentation).pop():
        pass
    press(effect)
    assert "press Segment" in effect.statusLabel.text
    effect.scriptedEffect.editorNode.SetAndObserveSegmentationNode(None)
    press(effect)
    assert effect.statusLabel.text == "Select a segmentation first."
    assert not application.clicks


def test_undoTakesBackWithTheStateSaved(effect, application, segmentation):
    undo = effect.undoButton.connected["clicked(bool)"]
    undo(False)
    assert effect.statusLabel.text == "There is no click to take back."
    press(effect)
    application.finish(ActivityOutcome(succeeded=True))
    undo(False)
    assert application.undone == [segmentation]
    assert effect.scriptedEffect.states == ["saved", "saved"]


def test_answerAfterTheEditorIsGoneIsTaken(effect, application):
    press(effect)
    effect.cleanup()
    application.finish(ActivityOutcome(succeeded=True))


class TestRegistration:
    @pytest.fixture
    def registered(self, application, monkeypatch):
        found = []

        class Effect(ScriptedEffect):
            def __init__(self, parent):
                super().__init__(None)

            def setPythonSource(self, path):
                module = ModuleType(Path(path).parent.name)
                module.__file__ = path
                setattr(module, Path(path).stem, type)
                monkeypatch.setitem(sys.modules, module.__name__, module)
                assert Path(path).is_file()
                return True

            def self(self):
                return SimpleNamespace(register=lambda: found.append(self))

        effects = ModuleType("qSlicerSegmentationsEditorEffectsPythonQt")
        effects.qSlicerSegmentEditorScriptedEffect = Effect
        monkeypatch.setitem(sys.modules, effects.__name__, effects)
        monkeypatch.delitem(sys.modules, NAME, raising=False)
        return found

    def test_itIsRegisteredOnce(self, registered):
        assert registerClickEffect()
        assert registerClickEffect()
        assert len(registered) == 1

    def test_applicationWithoutSegmentEditorGoesOn(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "qSlicerSegmentationsEditorEffectsPythonQt", None)
        assert not registerClickEffect()

    def test_fileAndFolderAreNamedAsTheEditorWantsThem(self):
        assert EFFECT_FILE.parent.name == EFFECT_FILE.stem
        assert EFFECT_FILE.stem.endswith("Effect")
        assert f"class {EFFECT_FILE.stem}(" in EFFECT_FILE.read_text(encoding="utf-8")
