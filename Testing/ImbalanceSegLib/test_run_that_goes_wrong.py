"""Cancelled, failed and overtaken runs: one sentence, no leftovers."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
import slicer

from ImbalanceSegLib.Engine.EngineProcess import EngineProcess
from ImbalanceSegLib.Engine.RunStatus import RunStatus
from ImbalanceSegLib.Logic.SegmentationLogic import SegmentationLogic


class Clock:
    """Stands for the application's timer: calls what is due when the test says so."""

    def __init__(self):
        self.due = []

    def callLater(self, _milliseconds, function):
        self.due.append(function)

    def runUntil(self, condition, seconds=20.0):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "nothing happened in time"
            functions, self.due = self.due, []
            for function in functions:
                function()
            time.sleep(0.02)


class Run:
    """A run in the background, and what its callbacks received."""

    def __init__(self, makeEngine, folder, mode):
        self.clock = Clock()
        self.logic = SegmentationLogic(makeEngine(mode, self.clock.callLater), str(folder))
        self.folder = folder
        self.events, self.log, self.finished = [], [], []

    def start(self, volume, **options):
        self.logic.start(
            volume,
            model="airway",
            onFinished=lambda outcome, output: self.finished.append((outcome, output)),
            onProgress=self.events.append,
            onLog=self.log.append,
            **options,
        )

    @property
    def outcome(self):
        ((outcome, output),) = self.finished
        assert (output is not None) == (outcome.status is RunStatus.COMPLETED)
        return outcome

    @property
    def filesLeft(self):
        return [path for path in self.folder.rglob("*") if path.is_file()]


@pytest.fixture
def makeRun(makeEngine, tmp_path):
    return lambda mode="good", folder=tmp_path: Run(makeEngine, folder, mode)


def isAlive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"


needsProc = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")


def test_backgroundRunReportsItsSteps(makeRun, makeVolume):
    run = makeRun()
    run.start(makeVolume())
    assert run.logic.isRunning
    run.clock.runUntil(lambda: run.finished)
    assert run.outcome.status is RunStatus.COMPLETED
    assert [(event.stage, event.done, event.total) for event in run.events] == [
        ("read", 1, 1),
        ("write", 2, 2),
    ]
    assert run.events[0].message == "read \u00e9"
    assert run.events[0].metrics == {"dice": 0.5}
    assert run.log == ["a line that is no event", '{"not": "an event"}']
    assert not run.logic.isRunning
    assert run.filesLeft == []
    assert run.clock.due == []


def test_oneRunAtATime(makeRun, makeVolume):
    volume = makeVolume()
    run = makeRun("slow")
    run.start(volume)
    with pytest.raises(RuntimeError, match="being segmented"):
        run.start(volume)
    run.logic.cancel()
    assert run.outcome.status is RunStatus.CANCELLED


@needsProc
def test_cancelEndsTheWholeTree(makeRun, makeVolume):
    run = makeRun("slow")
    run.start(makeVolume())
    run.clock.runUntil(lambda: run.events)
    grandchild = run.events[0].done
    assert isAlive(grandchild)
    run.logic.cancel()
    assert run.outcome.status is RunStatus.CANCELLED
    deadline = time.monotonic() + 5
    while isAlive(grandchild) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not isAlive(grandchild)
    assert not run.logic.isRunning
    assert run.filesLeft == []
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_runAfterCancel(makeRun, makeVolume):
    volume = makeVolume()
    run = makeRun("slow")
    run.start(volume)
    run.logic.cancel()
    run.finished.clear()
    run.start(volume)
    assert run.logic.isRunning
    assert len(run.clock.due) == 1
    run.logic.cancel()


def test_sceneClosedDuringTheRun(makeRun, makeVolume, scene):
    run = makeRun()
    run.start(makeVolume())
    scene.Clear(False)
    makeVolume(seed=5)
    before = scene.GetNumberOfNodes()
    run.clock.runUntil(lambda: run.finished)
    assert run.outcome.status is RunStatus.FAILED
    assert run.outcome.message == "The volume was removed from the scene during the run."
    assert scene.GetNumberOfNodes() == before
    assert run.filesLeft == []


def test_segmentationRemovedDuringTheRun(makeRun, makeVolume, scene):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
    run = makeRun()
    run.start(makeVolume(), segmentationNode=node)
    scene.RemoveNode(node)
    run.clock.runUntil(lambda: run.finished)
    assert "segmentation was removed" in run.outcome.message


def test_volumeMovedDuringTheRun(makeRun, makeVolume, scene):
    volume = makeVolume()
    run = makeRun()
    run.start(volume)
    volume.SetSpacing(1, 2, 3)
    run.clock.runUntil(lambda: run.finished)
    assert "was changed during the run" in run.outcome.message
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_sentenceOfTheEngineReachesTheUser(makeLogic, makeVolume):
    with pytest.raises(RuntimeError) as raised:
        makeLogic("fail").segment(makeVolume(), model="airway")
    assert str(raised.value) == "The image is all grey (ä). Give another one."


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("crash", "exit code 7"),
        ("package", "needs the Python package 'a_package_that_nobody_has'"),
        ("garbage", "report.json"),
        ("shifted", "grid of the volume"),
        ("unknown label", "value 9"),
    ],
)
def test_unusableEngineIsExplained(makeLogic, makeVolume, scene, tmp_path, mode, words):
    with pytest.raises(RuntimeError, match=words):
        makeLogic(mode).segment(makeVolume(), model="airway")
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    assert list(tmp_path.iterdir()) == []


def test_detailsHoldTheLastLines(makeRun, makeVolume):
    run = makeRun("crash")
    run.start(makeVolume())
    run.clock.runUntil(lambda: run.finished)
    assert run.outcome.details == "Traceback: something odd"


def test_missingProgramIsNamed(makeVolume, tmp_path):
    logic = SegmentationLogic(EngineProcess([str(tmp_path / "nowhere")]), str(tmp_path))
    with pytest.raises(RuntimeError, match="nowhere"):
        logic.segment(makeVolume(), model="airway")
    assert list(tmp_path.iterdir()) == []


def test_folderBeyondASCII(makeRun, makeVolume, tmp_path):
    folder = tmp_path / "Zürich 図 Ünï"
    folder.mkdir()
    run = makeRun("good", folder)
    run.start(makeVolume())
    run.clock.runUntil(lambda: run.finished)
    assert run.outcome.status is RunStatus.COMPLETED


def test_failingListenerEndsTheChild(makeLogic, makeVolume):
    def complain(event):
        raise KeyError("listener")

    logic = makeLogic("slow")
    with pytest.raises(KeyError):
        logic.segment(makeVolume(), model="airway", onProgress=complain)
    assert not logic.isRunning


def shear(volume):
    matrix = np.eye(4)
    matrix[0, 2] = 0.3
    volume.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))


def flatten(volume):
    slicer.util.updateVolumeFromArray(volume, np.zeros((1, 8, 8), np.int16))


def empty(volume):
    volume.SetAndObserveImageData(None)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(shear, "perpendicular"), (flatten, "single slice"), (empty, "no voxels")],
)
def test_unusableVolumeIsExplained(makeLogic, makeVolume, tmp_path, spoil, words):
    volume = makeVolume()
    spoil(volume)
    with pytest.raises(ValueError, match=words):
        makeLogic().segment(volume, model="airway")
    assert list(tmp_path.iterdir()) == []


def test_noVolumeIsExplained(makeLogic):
    with pytest.raises(ValueError, match="Select the volume"):
        makeLogic().segment(None, model="airway")


def test_usersSegmentsAreNotMovedToAnotherTransform(makeLogic, makeVolume, scene):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
    node.GetSegmentation().AddEmptySegment("painted")
    volume = makeVolume(parentToWorld=np.diag([1.0, 1.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="another transform"):
        makeLogic().segment(volume, model="airway", segmentationNode=node)
    assert node.GetTransformNodeID() is None


def test_usersSurfacesAreNotTurnedIntoVoxels(makeLogic, makeVolume, scene):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Meshes")
    name = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    node.GetSegmentation().SetSourceRepresentationName(name)
    node.GetSegmentation().AddEmptySegment("mesh")
    with pytest.raises(ValueError, match="surfaces"):
        makeLogic().segment(makeVolume(), model="airway", segmentationNode=node)
