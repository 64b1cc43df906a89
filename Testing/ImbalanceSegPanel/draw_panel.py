"""Draws the panel at each step of the work, in a light and a dark palette.

    python draw_panel.py FOLDER

The application's widgets are stand-ins, which look alike but are not the real ones.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
_HERE = Path(__file__).parent
_MODULE_FOLDER = _HERE.parents[1] / "ImbalanceSeg"
sys.path[:0] = [str(_HERE), str(_MODULE_FOLDER)]

import numpy as np  # noqa: E402
import slicer  # noqa: E402
from panel_harness import application  # noqa: E402
from PIL import Image  # noqa: E402
from PySide6 import QtGui, QtWidgets  # noqa: E402

_WIDTH = 400
_SECTIONS = ("segment", "look", "correct", "export", "advanced")
_SERIES = (
    ("20260131", "CT", "Thorax 1.25 B60f", 248),
    ("20260131", "CT", "Thorax 5.0 B30f", 62),
    ("20251114", "SEG", "Airway tree", 1),
)
_DARK = {
    "Window": "#323232",
    "WindowText": "#f0f0f0",
    "Base": "#242424",
    "AlternateBase": "#2d2d2d",
    "Text": "#f0f0f0",
    "PlaceholderText": "#909090",
    "Button": "#3c3c3c",
    "ButtonText": "#f0f0f0",
    "Highlight": "#2a82da",
    "HighlightedText": "#ffffff",
    "ToolTipBase": "#242424",
    "ToolTipText": "#f0f0f0",
    "Light": "#505050",
    "Midlight": "#464646",
    "Mid": "#2a2a2a",
    "Dark": "#1e1e1e",
    "Shadow": "#101010",
}


def darkPalette() -> QtGui.QPalette:
    """Light writing on a dark ground."""
    palette, roles = QtGui.QPalette(), QtGui.QPalette.ColorRole
    for name, color in _DARK.items():
        palette.setColor(roles[name], QtGui.QColor(color))
    for name in ("WindowText", "Text", "ButtonText"):
        palette.setColor(QtGui.QPalette.ColorGroup.Disabled, roles[name], QtGui.QColor("#8a8a8a"))
    return palette


def makeWidget() -> tuple[Any, Any, Any]:
    """The module's widget in a window, with a volume in the scene."""
    qt = application.supplyModules()
    scene = application.makeScene()
    window, dialogs = application.Window(qt), application.Dialogs()
    slicer.app = application.App(slicer.applicationLogicOfTests)
    slicer.util.mainWindow = lambda: None
    slicer.util.loadUI = window.loadUI
    slicer.util.childWidgetVariables = window.childWidgetVariables
    slicer.util.errorDisplay = dialogs.errorDisplay
    spec = importlib.util.spec_from_file_location("module", _MODULE_FOLDER / "ImbalanceSeg.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    from panel_harness.fake_logic import FakeLogic

    from ImbalanceSegLib.Install.Installer import Installer

    Installer.missing = staticmethod(lambda: [])
    platform.platform = lambda terse=False: "Linux"
    node = module.ScriptedLoadableModuleLogic().getParameterNode
    module.ImbalanceSegLogic = lambda: FakeLogic(node)
    parent = QtWidgets.QWidget()
    widget = module.ImbalanceSegWidget(parent)
    widget.setup()
    widget.enter()
    return widget, parent, scene


class Pictures:
    """Takes pictures of the panel and writes them.

    Args:
        folder: that they go to.
        palette: name of the palette, for the names of the files.
    """

    def __init__(self, folder: Path, palette: str) -> None:
        self._folder, self._palette = folder, palette
        self.widget, self._parent, self.scene = makeWidget()

    def open(self, *sections: str) -> None:
        """Open these sections and fold all others."""
        for name in _SECTIONS:
            button = getattr(self.widget.ui, f"{name}CollapsibleButton")
            button.collapsed = name not in sections

    def take(self, name: str) -> None:
        """Draw the panel as it is now."""
        parent, application_ = self._parent, QtWidgets.QApplication.instance()
        parent.setFixedWidth(_WIDTH)
        parent.show()
        for _round in range(3):
            application_.processEvents()
        height = parent.layout().heightForWidth(_WIDTH)
        parent.setFixedHeight(max(height, parent.layout().minimumSize().height(), 120))
        application_.processEvents()
        path = str(self._folder / f"{name}_{self._palette}.png")
        parent.grab().save(path)
        # Few colours make small files.
        picture = Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE)
        picture.save(path, optimize=True)
        parent.setMinimumHeight(0)
        parent.setMaximumHeight(16777215)


def drawAll(pictures: Pictures) -> None:
    """Every step of the work, from the empty scene to the export."""
    from panel_harness.results import fill

    from ImbalanceSegLib.Logic.SuggestedSlice import SuggestedSlice

    ui, panel, logic = pictures.widget.ui, pictures.widget.panel, pictures.widget.logic
    pictures.open("segment")
    pictures.take("1_empty")
    volume = scan()
    panel.parameters.inputVolume = volume
    pictures.take("2_ready")
    ui.segmentButton.click()
    logic.activity.tell("tiles", 7, 24)
    logic.activity.quietSeconds = 14.0
    panel.monitor._onTick()
    pictures.take("3_running")
    notes = ("The slices are 2.5 mm thick: thin branches may be missing.",)
    output = fill(volume, notes)
    node = output.segmentationNode
    logic.activity.succeed(output)
    pictures.open("segment", "look")
    ui.nextRegionButton.click()
    pictures.take("4_looked")
    red(pictures.scene)
    for offset in (5.0, 10.0):
        pictures.scene.GetSingletonNode("Red", "vtkMRMLSliceNode").SetSliceOffset(offset)
        ui.sliceDoneButton.click()
    ui.suggestButton.click()
    reasons = ("many hard voxels", "a branch ends here", "far from all finished slices")
    logic.activity.succeed(
        [SuggestedSlice(axis, 3 + axis, 1.0, reason) for axis, reason in enumerate(reasons)]
    )
    pictures.open("correct")
    ui.missedButton.click()
    pictures.take("5_correcting")
    ui.missedButton.click()
    draw(pictures, ui, panel, logic, node)


def draw(pictures: Pictures, ui: Any, panel: Any, logic: Any, node: Any) -> None:
    """The steps after the first corrections."""
    ui.adaptButton.click()
    logic.activity.tell("finetune", 1, 4, loss=0.214, held_out_dice=0.87)
    pictures.take("6_adapting")
    logic.activity.succeed()
    logic.correction.undoable, logic.correction.models = True, ["adapted-1"]
    node.SetAttribute("ImbalanceSeg.steps", '[{"kind":"adapt","job":"x","model":"adapted-1"}]')
    panel.refresh()
    pictures.take("7_adapted")
    pictures.open("export")
    ui.exportTargetSelector.currentIndex = 2
    ui.exportUrlEdit.text = "https://pacs.example.org/dicom-web"
    ui.archiveCollapsibleButton.collapsed = False
    ui.patientIDEdit.text = "4711"
    ui.findScansButton.click()
    logic.activity.succeed([remoteSeries(*about) for about in _SERIES])
    ui.scanList.setCurrentRow(0)
    pictures.take("8_export")
    ui.archiveCollapsibleButton.collapsed = True
    pictures.open("advanced")
    ui.enginePlaceSelector.currentIndex = 1
    pictures.take("9_advanced")


def remoteSeries(date: str, modality: str, description: str, instances: int) -> Any:
    """A series as a PACS tells of it."""
    return SimpleNamespace(
        date=date, modality=modality, description=description, instances=instances
    )


def scan() -> Any:
    """A volume with a bright structure."""
    voxels = np.zeros((12, 30, 40), np.int16)
    voxels[2:9, 8:22, 6:34] = 500
    matrix = slicer.util.vtkMatrixFromArray(np.diag([-1.0, -1.0, 2.5, 1.0]))
    return slicer.util.addVolumeFromArray(voxels, matrix, name="Chest CT")


def red(scene: Any) -> None:
    """The view that shows axial slices."""
    node = slicer.vtkMRMLSliceNode()
    node.SetLayoutName("Red")
    node.SetSingletonTag("Red")
    scene.AddNode(node).SetOrientationToAxial()


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    qtApplication = QtWidgets.QApplication([])
    qtApplication.setStyle("Fusion")
    qtApplication.setFont(QtGui.QFont("DejaVu Sans", 9))
    steps: dict[str, Callable[[], QtGui.QPalette]] = {
        "light": qtApplication.style().standardPalette,
        "dark": darkPalette,
    }
    for name, palette in steps.items():
        qtApplication.setPalette(palette())
        pictures = Pictures(folder, name)
        drawAll(pictures)
        pictures.widget.cleanup()
        pictures.scene.Clear(False)


if __name__ == "__main__":
    main()
