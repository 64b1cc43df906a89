"""The application around the panel: its window, dialogs, settings and module base classes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import slicer
from PySide6 import QtCore, QtUiTools, QtWidgets

from panel_harness import parameter_node, python_qt
from panel_harness.stand_ins import STAND_INS, StandIn

# Widgets of Python classes are kept until the process ends: PySide6 is not sure of who owns them.
KEPT: list[Any] = []
MODULE_FOLDER = Path(__file__).parents[3] / "ImbalanceSeg"


class Settings:
    """What of ``QSettings`` is needed here."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def value(self, key: str) -> Any:
        return self.kept.get(key)

    def setValue(self, key: str, value: Any) -> None:
        self.kept[key] = value


class App:
    """``slicer.app``."""

    applicationVersion = "5.12.0"

    def __init__(self, applicationLogic: Any) -> None:
        self._logic = applicationLogic
        self._settings = Settings()
        self.hasViews = True
        self.isTesting = False
        self.connected: list[tuple[str, Callable[[], Any]]] = []

    def applicationLogic(self) -> Any:
        return self._logic

    def dicomDatabase(self) -> Any:
        return SimpleNamespace(isOpen=True)

    def layoutManager(self) -> Any:
        return SimpleNamespace() if self.hasViews else None

    def userSettings(self) -> Settings:
        return self._settings

    def testingEnabled(self) -> bool:
        return self.isTesting

    def processEvents(self) -> None:
        QtWidgets.QApplication.processEvents()

    def connect(self, signal: str, function: Callable[[], Any]) -> None:
        self.connected.append((signal, function))


class Dialogs:
    """Keeps what the user is told, and answers for the user."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.questions: list[str] = []
        self.restarts = 0
        self.answer = True

    def errorDisplay(self, text: str, **more: Any) -> None:
        self.errors.append(text)

    def confirmOkCancelDisplay(self, text: str, title: str = "") -> bool:
        self.questions.append(text)
        return self.answer

    def restart(self) -> None:
        self.restarts += 1


class _Loader(QtUiTools.QUiLoader):
    """Puts the stand-ins into the place of the application's widgets."""

    def __init__(self, qt: ModuleType) -> None:
        super().__init__()
        self._classes = {name: getattr(qt, name) for name in python_qt.WIDGETS} | STAND_INS
        self.made: dict[str, Any] = {}

    def createWidget(self, kind: str, parent: Any = None, name: str = "") -> Any:
        widget = self._classes[kind](parent)
        QtCore.QObject.setObjectName(widget, name)
        self.made[name] = widget
        return widget


class Window:
    """The panel in a window of its own, as wide as the module panel of the application."""

    def __init__(self, qt: ModuleType) -> None:
        self._qt = qt
        self.mainWindow: Any = qt.QWidget()
        self.widgets: dict[str, Any] = {}

    def loadUI(self, path: str) -> Any:
        loader = _Loader(self._qt)
        # Properties of flags and the scene's signals are known to the real widgets only.
        before = QtCore.qInstallMessageHandler(lambda kind, context, text: None)
        python_qt.PythonQt._isLoading = True
        try:
            widget = loader.load(str(path))
        finally:
            python_qt.PythonQt._isLoading = False
            QtCore.qInstallMessageHandler(before)
        assert widget is not None, loader.errorString()
        for made in loader.made.values():
            if isinstance(made, StandIn):
                made._loaded()
        self.widgets = loader.made
        KEPT.append((loader, widget))
        return widget

    def childWidgetVariables(self, widget: Any) -> Any:
        return SimpleNamespace(**self.widgets)


class _ModuleWidget:
    reloads = 0

    def __init__(self, parent: Any = None) -> None:
        self.parent = parent
        self.layout = QtWidgets.QVBoxLayout(parent)

    def setup(self) -> None:
        pass

    def resourcePath(self, name: str) -> str:
        return str(MODULE_FOLDER / "Resources" / name)

    def onReload(self) -> None:
        _ModuleWidget.reloads += 1


class _ModuleLogic:
    def getParameterNode(self) -> Any:
        scene, kind = slicer.mrmlScene, "vtkMRMLScriptedModuleNode"
        node = scene.GetSingletonNode("ImbalanceSeg", kind)
        if node is None:
            node = scene.CreateNodeByClass(kind)
            node.UnRegister(None)
            node.SetSingletonTag("ImbalanceSeg")
            node = scene.AddNode(node)
        return node


class _Module:
    def __init__(self, parent: Any) -> None:
        self.parent = parent


def moduleBases() -> ModuleType:
    """The module ``slicer.ScriptedLoadableModule``."""
    module = ModuleType("slicer.ScriptedLoadableModule")
    module.ScriptedLoadableModule = _Module
    module.ScriptedLoadableModuleWidget = _ModuleWidget
    module.ScriptedLoadableModuleLogic = _ModuleLogic
    module.ScriptedLoadableModuleTest = type("ScriptedLoadableModuleTest", (), {})
    return module


def makeScene() -> Any:
    """The scene and the module logics; those of other tests where there are any."""
    if not hasattr(slicer, "modules"):
        slicer.modules = SimpleNamespace()
        slicer.mrmlScene = slicer.vtkMRMLScene()
        slicer.applicationLogicOfTests = slicer.vtkSlicerApplicationLogic()
        slicer.applicationLogicOfTests.SetMRMLScene(slicer.mrmlScene)
    application = slicer.applicationLogicOfTests
    for name, kind in {
        "colors": "vtkSlicerColorLogic",
        "markups": "vtkSlicerMarkupsLogic",
        "plots": "vtkSlicerPlotsLogic",
        "segmentations": "vtkSlicerSegmentationsModuleLogic",
    }.items():
        if not hasattr(slicer.modules, name):
            logic = getattr(slicer, kind)()
            logic.SetMRMLApplicationLogic(application)
            logic.SetMRMLScene(slicer.mrmlScene)
            holder = SimpleNamespace(logic=lambda logic=logic: logic)
            setattr(slicer.modules, name, holder)
    return slicer.mrmlScene


def supplyModules() -> ModuleType:
    """Make ``qt`` and the application's own modules importable; gives ``qt``."""
    if "qt" not in sys.modules or not hasattr(sys.modules["qt"], "QShortcut"):
        sys.modules["qt"] = python_qt.makeQt()
    if "slicer.i18n" not in sys.modules:
        translation = ModuleType("slicer.i18n")
        translation.tr = lambda text: text
        translation.translate = lambda context, text: text
        sys.modules["slicer.i18n"] = slicer.i18n = translation
    sys.modules["slicer.parameterNodeWrapper"] = parameter_node.makeModule()
    sys.modules["slicer.ScriptedLoadableModule"] = moduleBases()
    return sys.modules["qt"]
