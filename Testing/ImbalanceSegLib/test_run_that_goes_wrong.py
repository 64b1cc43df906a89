"""Cancelled, failed and overtaken runs: one sentence, no leftovers."""

from __future__ import annotations

import os
import sys
import time

import numpy as np
import pytest
import slicer

from ImbalanceSegLib.Engine.EngineLink import EngineLink
from ImbalanceSegLib.Engine.EngineSettings import EngineSettings
from ImbalanceSegLib.Logic.ConnectionLogic import connect
from ImbalanceSegLib.Logic.SegmentationLogic import SegmentationLogic


class Clock:
    """Stands for the application's timer: calls what is due when the test says so."""

    def __init__(self):
        self.due = []

    def callLater(self, _milliseconds, function):
        self.due.append(function)

    def runUntil(self, condition, seconds=60.0):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "nothing happened in time"
            functions, self.due = self.due, []
            for function in functions:
                function()
            time.sleep(0.02)


class Run:
    """A run in the background, and what its callbacks received."""

    def __init__(self, makeLink, mode):
        self.clock = Clock()
        self.link = makeLink(mode, self.clock.callLater)
        self.logic = SegmentationLogic(self.link)
        self.events, self.finished = [], []

    def start(self, volume, **options):
        return self.logic.start(
            volume,
            model="airway",
            onFinished=self.finished.append,
            onProgress=self.events.append,
            **options,
        )

    def finish(self):
        self.clock.runUntil(lambda: self.finished)
        return self.outcome

    @property
    def outcome(self):
        (outcome,) = self.finished
        assert (outcome.value is not None) == outcome.succeeded
        assert bool(outcome.sentence) != outcome.succeeded
        return outcome


@pytest.fixture
def makeRun(makeLink):
    return lambda mode="good": Run(makeLink, mode)


def isAlive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"


def waitUntil(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


needsProc = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")


def test_backgroundRunReportsItsSteps(makeRun, makeVolume):
    run = makeRun()
    activity = run.start(makeVolume())
    assert run.logic.isRunning
    assert run.link.isBusy
    assert run.logic.activity is activity
    assert run.finish().succeeded
    assert [event.stage for event in run.events][:1] == ["upload"]
    tiles = [(event.done, event.total) for event in run.events if event.stage == "tiles"]
    assert tiles[-1] == (2, 3)
    assert not run.logic.isRunning
    assert run.logic.activity is None
    assert activity.quietSeconds == 0
    # The timer rests when there is nothing to wait for.
    run.clock.runUntil(lambda: not run.link.isBusy)
    run.clock.runUntil(lambda: run.clock.due == [])


def test_oneRunAtATime(makeRun, makeVolume):
    volume = makeVolume()
    run = makeRun("slow")
    run.start(volume)
    with pytest.raises(RuntimeError, match="being segmented"):
        run.start(volume)
    run.logic.cancel()
    assert run.outcome.cancelled


def test_cancelIsThereAtOnceAndNothingArrivesLater(makeRun, makeVolume, scene):
    run = makeRun("slow")
    run.start(makeVolume())
    run.clock.runUntil(lambda: any(event.stage == "tiles" for event in run.events))
    told = len(run.events)
    run.logic.cancel()
    assert run.outcome.cancelled
    assert run.outcome.sentence == "The work was cancelled."
    assert not run.logic.isRunning
    run.clock.runUntil(lambda: not run.link.isBusy)
    assert len(run.events) == told
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    run.logic.cancel()
    assert len(run.finished) == 1


@needsProc
def test_closingTheLinkEndsTheWholeTree(makeRun, makeVolume):
    run = makeRun("slow")
    run.start(makeVolume())
    run.clock.runUntil(lambda: any(event.stage == "tiles" for event in run.events))
    grandchild = next(event.done for event in run.events if event.stage == "tiles")
    (server,) = run.link.info["workers"]
    assert isAlive(grandchild)
    run.link.close()
    assert waitUntil(lambda: not isAlive(grandchild))
    assert not isAlive(server)
    assert not run.link.isBusy


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
    assert run.finish().sentence == "The volume was removed from the scene during the run."
    assert scene.GetNumberOfNodes() == before


def test_sceneClosedAfterCancel(makeRun, makeVolume, scene):
    run = makeRun()
    run.start(makeVolume())
    run.logic.cancel()
    scene.Clear(False)
    before = scene.GetNumberOfNodes()
    run.clock.runUntil(lambda: not run.link.isBusy)
    assert scene.GetNumberOfNodes() == before


def test_segmentationRemovedDuringTheRun(makeRun, makeVolume, scene):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
    run = makeRun()
    run.start(makeVolume(), segmentationNode=node)
    scene.RemoveNode(node)
    assert "segmentation was removed" in run.finish().sentence


def test_volumeMovedDuringTheRun(makeRun, makeVolume, scene):
    volume = makeVolume()
    run = makeRun()
    run.start(volume)
    volume.SetSpacing(1, 2, 3)
    assert "was changed during the run" in run.finish().sentence
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_sentenceOfTheEngineReachesTheUser(makeRun, makeVolume):
    run = makeRun("fail")
    run.start(makeVolume())
    assert run.finish().sentence == "The image is all grey (ä). Give another one."
    assert run.outcome.details.splitlines()[:2] == ["error[image-not-usable]", "loading"]


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("refuse", "The folder is read-only"),
        ("crash", "exit code 7"),
        ("package", "needs the Python package 'a_package_that_nobody_has'.*Press Install"),
        ("garbage", "report.json"),
        ("shifted", "grid of the volume"),
        ("unknown label", "value 9"),
        ("no map", "did not send the image 'hardness'"),
    ],
)
def test_unusableEngineIsExplained(makeLogic, makeVolume, scene, mode, words):
    with pytest.raises(RuntimeError, match=words):
        makeLogic(mode).segment(makeVolume(), model="airway")
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_engineThatDiesIsStartedAnewAndTheUserIsTold(makeLink, makeVolume):
    link = makeLink("die")
    with pytest.raises(RuntimeError, match="Segment the volume again"):
        SegmentationLogic(link).segment(makeVolume(), model="airway")
    assert connect(link)["name"] == "ImbalanceSeg"


def test_memoryThatRanOutIsExplained(goodLink, makeVolume):
    with pytest.raises(RuntimeError, match="Crop Volume"):
        SegmentationLogic(goodLink).segment(makeVolume(), model="failing")


def test_unknownModelIsExplained(goodLink, makeVolume):
    with pytest.raises(RuntimeError, match="no such model"):
        SegmentationLogic(goodLink).segment(makeVolume(), model="no-such-model")


def test_detailsHoldTheLastLines(makeRun, makeVolume):
    run = makeRun("crash")
    run.start(makeVolume())
    assert "Traceback: something odd" in run.finish().details.splitlines()
    assert run.outcome.details.splitlines()[0] == "error[engine-not-started]"


def test_missingPackageIsNamedForTheInstaller(makeRun, makeVolume):
    run = makeRun("package")
    run.start(makeVolume())
    assert run.finish().missingPackage == "a_package_that_nobody_has"


def test_missingProgramIsNamed(makeVolume, tmp_path):
    link = EngineLink(EngineSettings(), [str(tmp_path / "nowhere")])
    with pytest.raises(RuntimeError, match=r"nowhere.*not found"):
        SegmentationLogic(link).segment(makeVolume(), model="airway")


def test_serverThatDoesNotAnswerIsExplained(makeVolume, monkeypatch):
    monkeypatch.setattr("imbalanceseg.client.line._PATIENCE_SECONDS", 0.2)
    link = EngineLink(EngineSettings(place="http://127.0.0.1:9", token="x" * 32), ["nothing"])
    with pytest.raises(RuntimeError, match=r"127\.0\.0\.1:9 does not answer.*Check the address"):
        SegmentationLogic(link).segment(makeVolume(), model="airway")
    link.close()


def test_folderBeyondASCII(makeVolume, tmp_path):
    folder = tmp_path / "Zürich 図 Ünï"
    environment = {**os.environ, "PYTHONUTF8": "1"}
    program = [sys.executable, os.path.join(os.path.dirname(__file__), "fake_engine.py")]
    link = EngineLink(EngineSettings(dataFolder=str(folder)), program, environment)
    try:
        assert SegmentationLogic(link).segment(makeVolume(), model="airway").segmentIDs
    finally:
        link.close()


def test_failingListenerStopsTheJob(makeLogic, makeVolume):
    def complain(event):
        raise KeyError("listener")

    logic = makeLogic("slow")
    with pytest.raises(KeyError):
        logic.segment(makeVolume(), model="airway", onProgress=complain)
    assert not logic.isRunning


def test_failingListenerInTheBackgroundDoesNotStopThePolling(makeRun, makeVolume, caplog):
    def complain(event):
        raise KeyError("listener")

    run = makeRun()
    run.events = type("Complaint", (), {"append": staticmethod(complain)})()
    run.start(makeVolume())
    assert run.finish().succeeded
    assert "something failed while a result was shown" in caplog.text


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
def test_unusableVolumeIsExplained(makeLogic, makeVolume, spoil, words):
    volume = makeVolume()
    spoil(volume)
    with pytest.raises(ValueError, match=words):
        makeLogic().segment(volume, model="airway")


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
