"""The link to the engine: made late, polled while needed, exchanged when the settings say so."""

from __future__ import annotations

import ctypes
import sys
import threading
import time

import pytest

from ImbalanceSegLib.Engine.EngineLink import EngineLink
from ImbalanceSegLib.Engine.EngineSettings import EngineSettings
from ImbalanceSegLib.Engine.ThreadTime import ThreadTime
from ImbalanceSegLib.Logic.ConnectionLogic import connect, startConnect
from ImbalanceSegLib.Logic.SegmentationLogic import SegmentationLogic


class Store(dict):
    """Stands for QSettings, which gives back text."""

    def setValue(self, key, value):
        self[key] = str(value)

    def value(self, key):
        return self.get(key)


def test_settingsComeBackAsTheyWere():
    settings = EngineSettings(
        place="https://gpu.hospital.org:8650",
        token="secret",
        certificate="C:/Zürich/ca.pem",
        memoryGb=6.5,
        exact=True,
        modelFolders=("/a, b", "D:\\models"),
        dataFolder="/data",
    )
    store = Store()
    settings.save(store)
    assert EngineSettings.load(store) == settings
    assert all(key.startswith("ImbalanceSeg/") for key in store)


def test_settingsOfAnEmptyOrDamagedStoreAreTheDefaults():
    assert EngineSettings.load(Store()) == EngineSettings()
    damaged = Store()
    for name in ("memoryGb", "modelFolders", "exact"):
        damaged[f"ImbalanceSeg/{name}"] = "{nan"
    assert EngineSettings.load(damaged) == EngineSettings()


def test_jobsAreToldOnlyWhatWasSet():
    assert EngineSettings().jobOptions() == {}
    assert EngineSettings(memoryGb=4, exact=True).jobOptions() == {"memory_gb": 4, "exact": True}


def test_nothingIsStartedBeforeItIsNeeded(makeLink):
    link = makeLink()
    assert link.info is None
    assert link.models == []
    assert not link.isBusy
    assert link.lastLines == []
    link.poll()
    link.close()


def test_modelsAreKnownAfterHello(goodLink):
    assert connect(goodLink) is goodLink.info
    assert "airway" in [model["id"] for model in goodLink.models]
    assert "loading" in goodLink.lastLines


def test_modelFoldersReachTheEngine(tmp_path):
    (tmp_path / "mine" / "configs").mkdir(parents=True)
    (tmp_path / "mine" / "configs" / "metadata.json").write_text("{}")
    folders = (str(tmp_path / "mine"), str(tmp_path))
    program = "import sys; print(' '.join(sys.argv[1:]), file=sys.stderr); sys.exit(3)"
    link = EngineLink(EngineSettings(modelFolders=folders), [sys.executable, "-c", program])
    with pytest.raises(RuntimeError, match="exit code 3"):
        connect(link)
    (told,) = link.lastLines
    assert f"--model {folders[0]} --models-folder {folders[1]}" in told


def test_serverAndThisComputerAreOneCodePath(goodLink, makeVolume):
    connect(goodLink)
    connection = goodLink.client._connection
    token = connection._session.headers["Authorization"].removeprefix("Bearer ")
    remote = EngineLink(EngineSettings(place=connection.url, token=token), ["nothing"])
    output = SegmentationLogic(remote).segment(makeVolume(), model="airway")
    assert output.segmentIDs == ("ImbalanceSeg_airway_1",)
    assert remote.lastLines == []
    remote.close()
    assert connect(goodLink)["name"] == "ImbalanceSeg"


def test_wrongTokenIsExplained(goodLink):
    connect(goodLink)
    place = goodLink.client._connection.url
    remote = EngineLink(EngineSettings(place=place, token="x" * 32), ["nothing"])
    with pytest.raises(RuntimeError, match="token"):
        connect(remote)


def test_otherSettingsEndTheOldEngineAndWhoWaitsHearsOfIt(makeLink, makeVolume, tmp_path):
    link = makeLink("slow")
    outcomes = []
    SegmentationLogic(link).start(makeVolume(), model="airway", onFinished=outcomes.append)
    deadline = time.monotonic() + 60
    while link.info is None:
        assert time.monotonic() < deadline
        link.poll()
        time.sleep(0.02)
    old = link.client
    link.changeSettings(EngineSettings(dataFolder=str(tmp_path / "other")))
    (outcome,) = outcomes
    assert not outcome.succeeded
    assert outcome.cancelled or outcome.sentence
    assert link.client is not old
    assert connect(link)["name"] == "ImbalanceSeg"


def test_otherMemoryKeepsTheEngine(makeLink):
    link = makeLink()
    old = link.client
    link.changeSettings(EngineSettings(memoryGb=3, dataFolder=link.settings.dataFolder))
    assert link.client is old
    assert link.settings.memoryGb == 3


def test_closedLinkCanBeUsedAgain(makeLink):
    link = makeLink()
    connect(link)
    link.close()
    assert link.info is None
    assert connect(link)["name"] == "ImbalanceSeg"


def test_connectingInTheBackground(makeLink):
    due, outcomes = [], []
    link = makeLink(callLater=lambda msec, function: due.append(function))
    activity = startConnect(link, outcomes.append)
    assert activity.kind == "connect"
    deadline = time.monotonic() + 60
    while not outcomes:
        assert time.monotonic() < deadline
        for function in [due.pop() for _ in range(len(due))]:
            function()
        time.sleep(0.02)
    assert outcomes[0].value["name"] == "ImbalanceSeg"


def test_timeIsSharedOnlyWhereThreadsGetNone(monkeypatch):
    slept = []
    monkeypatch.setattr("ImbalanceSegLib.Engine.ThreadTime.time.sleep", slept.append)
    starved = ThreadTime()
    starved._left = time.monotonic() - 1
    starved.share()
    assert slept == [0.02]
    served = ThreadTime()
    served._left, served._beats = time.monotonic() - 1, 150
    served.share()
    assert slept == [0.02]


@pytest.mark.skipif(sys.platform != "linux", reason="waits as the system's library does")
def test_resultsArriveWhileTheApplicationKeepsPythonsLock(makeLink, makeVolume):
    keepingTheLock = ctypes.PyDLL(None)
    due, outcomes = [], []
    link = makeLink(callLater=lambda msec, function: due.append(function))
    SegmentationLogic(link).start(makeVolume(), model="airway", onFinished=outcomes.append)
    deadline = time.monotonic() + 60
    while not outcomes:
        assert time.monotonic() < deadline
        keepingTheLock.usleep(50_000)
        for function in [due.pop() for _ in range(len(due))]:
            function()
    assert outcomes[0].succeeded


def test_beatGoesOnWhileItIsWantedAndEndsThen():
    # Threads of earlier tests may end meanwhile.
    before = set(threading.enumerate())
    shared = ThreadTime()
    shared.begin()
    shared.begin()
    (beating,) = set(threading.enumerate()) - before
    time.sleep(0.2)
    assert shared._beats > 3
    shared.end()
    beating.join(5)
    assert not beating.is_alive()
