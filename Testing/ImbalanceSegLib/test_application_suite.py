"""The tests of Testing/Slicer, rehearsed on real MRML with stand-ins for the application.

What they need of views, of the Segment Editor and of the module's panel is not here: those tests
run in the application alone.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import unittest
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import slicer

FOLDER = Path(__file__).parents[1] / "Slicer"
TESTS = [
    "test_wholeLoop",
    "test_obliqueVolumeUnderATransform",
    "test_savedSceneIsGoneOnWith",
    "test_sceneIsClosedInMidRun",
    "test_resultOfAClosedSceneIsNotPutIntoTheNext",
    "test_twoVolumesSideBySide",
    "test_otherSegmentsStay",
    "test_failureIsASentence",
    "test_engineThatDiedIsStartedAgain",
    "test_settingsComeBack",
    "test_termsAreOffered",
]


class Settings(dict):
    """What of ``QSettings`` is used."""

    value, setValue, allKeys = dict.get, dict.__setitem__, dict.keys

    def remove(self, group):
        for key in [key for key in self if key.startswith(f"{group}/")]:
            del self[key]


class Timer:
    """What of ``QTimer`` is used."""

    due: list = []  # noqa: RUF012

    @classmethod
    def singleShot(cls, msec, function):
        cls.due.append((time.monotonic() + msec / 1000, function))

    @classmethod
    def fire(cls):
        now = time.monotonic()
        ripe = [one for one in cls.due if one[0] <= now]
        cls.due[:] = [one for one in cls.due if one[0] > now]
        for _at, function in ripe:
            function()


def saveScene(filename):
    return bool(slicer.mrmlScene.WriteToMRB(filename))


def loadScene(filename):
    """What the application does, which needs its cache folder for that."""
    target = Path(filename).with_suffix("")
    with zipfile.ZipFile(filename) as archive:
        archive.extractall(target)
    slicer.mrmlScene.SetURL(str(next(target.rglob("*.mrml"))))
    assert slicer.mrmlScene.Import()


def loadSegmentation(filename):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(filename)
    assert storage.ReadData(node)
    return node


@pytest.fixture
def suite(monkeypatch):
    """The test classes, with an application that is good enough for them."""
    settings = Settings()
    qt = ModuleType("qt")
    qt.QTimer = Timer
    monkeypatch.setitem(sys.modules, "qt", qt)
    application = SimpleNamespace(
        processEvents=Timer.fire, layoutManager=lambda: None, userSettings=lambda: settings
    )
    monkeypatch.setattr(slicer, "app", application, raising=False)
    for name, function in (
        ("startupEnvironment", lambda: os.environ),
        ("saveScene", saveScene),
        ("loadScene", loadScene),
        ("loadSegmentation", loadSegmentation),
        ("errorDisplay", print),
    ):
        monkeypatch.setattr(slicer.util, name, function, raising=False)
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("ImbalanceSegTestCase", "ImbalanceSegApplicationTest"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("ImbalanceSegApplicationTest").ImbalanceSegApplicationTest
    Timer.due.clear()


def test_suitePassesOnRealMRML(suite):
    result = unittest.TestResult()
    unittest.TestSuite([suite(name) for name in TESTS]).run(result)
    assert not [text for _test, text in (*result.errors, *result.failures)]
    assert result.testsRun == len(TESTS)


def test_everyTestIsInTheBuild():
    listed = (FOLDER / "CMakeLists.txt").read_text(encoding="utf-8")
    for path in FOLDER.glob("*Test.py"):
        assert path.name in listed
        assert f"class {path.stem}(" in path.read_text(encoding="utf-8")
