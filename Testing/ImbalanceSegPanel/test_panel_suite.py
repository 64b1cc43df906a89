"""The tests of Testing/Slicer/ImbalanceSegPanelTest.py, rehearsed on stand-ins for the widgets.

The engine is the stub, in a process of its own; there are no views.
"""

from __future__ import annotations

import importlib
import sys
import unittest
import zipfile
from pathlib import Path

import pytest
import slicer

FOLDER = Path(__file__).parents[1] / "Slicer"


class Settings(dict):
    """What of ``QSettings`` is used."""

    value, setValue, allKeys = dict.get, dict.__setitem__, dict.keys

    def remove(self, group):
        for key in [key for key in self if key.startswith(f"{group}/")]:
            del self[key]


def loadScene(filename):
    """What the application does, which needs its cache folder for that."""
    target = Path(filename).with_suffix("")
    with zipfile.ZipFile(filename) as archive:
        archive.extractall(target)
    slicer.mrmlScene.SetURL(str(next(target.rglob("*.mrml"))))
    assert slicer.mrmlScene.Import()


@pytest.fixture
def suite(world, module, monkeypatch):
    """The test class, over one widget of the module."""
    from PySide6 import QtWidgets

    world.app._settings = Settings()
    world.app.hasViews = False
    world.window.mainWindow = None
    putOff = world.qt.QTimer.putOff

    def processEvents():
        QtWidgets.QApplication.processEvents()
        calls, putOff[:] = list(putOff), []
        for call in calls:
            call()

    monkeypatch.setattr(world.app, "processEvents", processEvents, raising=False)
    parent = QtWidgets.QWidget()
    widget = module.ImbalanceSegWidget(parent)
    widget.setup()
    for name, function in (
        ("getModuleWidget", lambda name: widget),
        ("saveScene", lambda filename: bool(slicer.mrmlScene.WriteToMRB(filename))),
        ("loadScene", loadScene),
    ):
        monkeypatch.setattr(slicer.util, name, function, raising=False)
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("ImbalanceSegTestCase", "ImbalanceSegPanelTest"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("ImbalanceSegPanelTest").ImbalanceSegPanelTest
    widget.cleanup()
    parent.deleteLater()


def test_suitePassesOnStandIns(suite):
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(suite).run(result)
    assert not [text for _test, text in (*result.errors, *result.failures)]
    assert result.testsRun > 5
    assert len(result.skipped) <= 1
