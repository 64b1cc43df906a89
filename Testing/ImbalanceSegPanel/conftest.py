"""The panel on PySide6 and stand-ins, without the application."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
sys.path.insert(0, str(Path(__file__).parent))

try:
    import PySide6.QtUiTools
    import slicer
except ImportError:
    PySide6 = None
    collect_ignore_glob = ["test_*.py"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say that these tests were left out: a skip mark needs a test that can be imported."""
    if PySide6 is None:
        terminalreporter.write_line(
            "Testing/ImbalanceSegPanel was left out: PySide6 or slicer-core is not installed",
            yellow=True,
        )


@pytest.fixture(scope="session")
def qtApplication() -> Any:
    from PySide6 import QtGui, QtWidgets

    application = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    application.setStyle("Fusion")
    application.setFont(QtGui.QFont("DejaVu Sans", 9))
    return application


@pytest.fixture
def world(qtApplication: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The application: ``scene``, ``app``, ``dialogs``, ``window`` and ``qt``."""
    from panel_harness import application

    qt = application.supplyModules()
    scene = application.makeScene()
    scene.Clear(False)
    world = SimpleNamespace(
        scene=scene,
        qt=qt,
        app=application.App(slicer.applicationLogicOfTests),
        dialogs=application.Dialogs(),
        window=application.Window(qt),
    )
    qt.QTimer.putOff.clear()
    qt.QFileDialog.asked.clear()
    monkeypatch.setattr(slicer, "app", world.app, raising=False)
    for name, value in {
        "mainWindow": lambda: world.window.mainWindow,
        "loadUI": world.window.loadUI,
        "childWidgetVariables": world.window.childWidgetVariables,
        "errorDisplay": world.dialogs.errorDisplay,
        "confirmOkCancelDisplay": world.dialogs.confirmOkCancelDisplay,
        "restart": world.dialogs.restart,
        "startupEnvironment": lambda: dict(os.environ),
    }.items():
        monkeypatch.setattr(slicer.util, name, value, raising=False)
    yield world
    scene.Clear(False)


@pytest.fixture
def module(world: SimpleNamespace) -> Any:
    """The file ImbalanceSeg.py as a module."""
    from panel_harness.application import MODULE_FOLDER

    spec = importlib.util.spec_from_file_location("ImbalanceSeg", MODULE_FOLDER / "ImbalanceSeg.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def scan(world: SimpleNamespace) -> Any:
    """A small volume in the scene."""
    voxels = np.zeros((8, 9, 10), np.int16)
    voxels[2:5, 3:6, 4:8] = 500
    matrix = slicer.util.vtkMatrixFromArray(np.diag([-1.0, -1.0, 2.5, 1.0]))
    return slicer.util.addVolumeFromArray(voxels, matrix, name="Chest CT")


@pytest.fixture
def makeWidget(world: SimpleNamespace, module: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the module's widget with a logic that only remembers."""
    from panel_harness.application import KEPT
    from panel_harness.fake_logic import FakeLogic
    from PySide6 import QtWidgets

    node = module.ScriptedLoadableModuleLogic().getParameterNode
    monkeypatch.setattr(module, "ImbalanceSegLogic", lambda: FakeLogic(node))
    # What is installed here is no matter of the panel.
    monkeypatch.setattr(
        "ImbalanceSegLib.Install.Installer.Installer.missing", staticmethod(lambda: [])
    )
    made = []

    def make(enter: bool = True) -> Any:
        parent = QtWidgets.QWidget()
        widget = module.ImbalanceSegWidget(parent)
        widget.setup()
        KEPT.append(parent)
        made.append(widget)
        if enter:
            widget.enter()
        return widget

    yield make
    for widget in made:
        widget.cleanup()


@pytest.fixture
def widget(makeWidget: Any, scan: Any) -> Any:
    """The module's widget, shown, with a volume in the scene."""
    return makeWidget()


@pytest.fixture
def makeResult(world: SimpleNamespace) -> Any:
    """Puts into the scene what a segmentation of a volume brings."""
    from panel_harness.results import fill

    return fill


@pytest.fixture
def redView(world: SimpleNamespace) -> Any:
    """The view that shows axial slices, in the middle of the volume."""
    node = slicer.vtkMRMLSliceNode()
    node.SetLayoutName("Red")
    node.SetName("Red")
    node.SetSingletonTag("Red")
    node = world.scene.AddNode(node)
    node.SetOrientationToAxial()
    node.SetSliceOffset(7.5)
    return node


@pytest.fixture
def ui(widget: Any) -> Any:
    return widget.ui


@pytest.fixture
def logic(widget: Any) -> Any:
    return widget.logic


@pytest.fixture
def parameters(widget: Any) -> Any:
    return widget.panel.parameters


@pytest.fixture
def result(widget: Any, scan: Any, makeResult: Any) -> Any:
    """A segmentation that is there and selected."""
    output = makeResult(scan)
    widget.panel.parameters.outputSegmentation = output.segmentationNode
    widget.panel.refresh()
    return output
