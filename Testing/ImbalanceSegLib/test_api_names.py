"""Every name of Slicer that the code uses exists in Slicer, and in the Slicer it runs in.

``Testing/Slicer/api_names.json`` holds what a running Slicer listed; ``api_check`` beside it
follows the objects of the code to their classes.
"""

from __future__ import annotations

import ast
import importlib
import json
import sys
from pathlib import Path
from typing import ClassVar

import pytest

_FOLDER = Path(__file__).parents[1] / "Slicer"
sys.path.insert(0, str(_FOLDER))
extract = importlib.import_module("extract_api_names")
later = importlib.import_module("api_check.later")
own_code = importlib.import_module("api_check.own_code")
truth_of = importlib.import_module("api_check.truth")
ui_file = importlib.import_module("api_check.ui_file")

NAMES = json.loads(extract.NAMES_FILE.read_text(encoding="utf-8"))
FILES = extract.code_files()


@pytest.fixture(scope="module")
def truth():
    return truth_of.Truth(NAMES)


@pytest.fixture(scope="module")
def check(truth):
    return extract.make_check(truth)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_whatTheCodeUsesExists(check, path):
    assert not check.findings(path)


@pytest.mark.parametrize("page", extract.PAGES, ids=lambda page: page.name)
def test_whatThePagesShowExists(check, page):
    assert not extract.findings_of_page(check, page)


@pytest.mark.parametrize("path", extract.UI_FILES, ids=lambda path: path.name)
def test_panelSetsAndConnectsWhatExists(truth, path):
    assert not ui_file.UiFile(path).findings(truth)


def test_panelGivesTheSceneToEveryWidgetThatNeedsIt():
    panel = ui_file.UiFile(extract.UI_FILES[0])
    needy = {
        name
        for name, kind in panel.classes.items()
        if "setMRMLScene" in NAMES["widgets"].get(kind, {}).get("methods", ())
    }
    given = {item.findtext("receiver") for item in panel.tree.iter("connection")}
    assert needy - {panel.tree.find("widget").attrib["name"]} <= given


class TestNamesOfLaterVersions:
    """Slicer 5.10 lacks them: the code asks first, and goes on without them."""

    LAYERS = "test_map_display.py::test_olderSlicerShowsTheMoreOpaqueMap"
    TESTED: ClassVar[dict[str, str]] = {
        "GetNthLayerOpacity": LAYERS,
        "GetNthLayerVolumeID": LAYERS,
        "SetNthLayerOpacity": LAYERS,
        "SetNthLayerVolumeID": LAYERS,
        "slicer.packaging": "test_install.py::test_olderSlicersUseTheirOwnFunction",
    }

    def test_codeAsksBeforeItUsesThem(self):
        blind = [
            f"{path.name}:{use.line} {use.later.name} (since {use.later.since})"
            for path in FILES
            for use in later.later_uses(ast.parse(path.read_text(encoding="utf-8")))
            if not use.guarded
        ]
        assert not blind

    def test_goingOnWithoutThemIsTested(self):
        used = {
            use.later.name.partition("(")[0]
            for path in FILES
            for use in later.later_uses(ast.parse(path.read_text(encoding="utf-8")))
        }
        assert used == set(self.TESTED)
        for place in self.TESTED.values():
            file, _, test = place.partition("::")
            assert f"def {test}(" in Path(__file__).with_name(file).read_text("utf-8"), place

    @pytest.mark.parametrize(
        "code",
        [
            "def f():\n    import slicer.packaging",
            "def f():\n    import DICOMSegmentationPlugin",
            "def f():\n    slicer.util.launchConsoleProcess([], blocking=False)",
            "def f(node):\n    node.SetNthLayerVolumeID(2, 'a')",
            "def f(node):\n    hasattr(node, 'Other')\n    node.SetNthLayerVolumeID(2, 'a')",
            "try:\n    import slicer.packaging\nexcept ValueError:\n    pass",
        ],
    )
    def test_aUseWithoutAQuestionIsFound(self, code):
        assert [use.guarded for use in later.later_uses(ast.parse(code))] == [False]

    @pytest.mark.parametrize(
        "code",
        [
            "try:\n    import slicer.packaging\nexcept ImportError:\n    pass",
            "def f(n):\n    return hasattr(n, 'AddLayer') and n.AddLayer()",
            "def has():\n    return find_spec('slicer.packaging')\n"
            "def f():\n    if has():\n        import slicer.packaging",
            "def f():\n    slicer.util.launchConsoleProcess([])",
        ],
    )
    def test_aUseBehindAQuestionIsNot(self, code):
        assert all(use.guarded for use in later.later_uses(ast.parse(code)))


class TestTheCheckItself:
    """What is wrong is found, and what is right is not."""

    def findings(self, check, body, annotations=""):
        lines = "\n    ".join(body.splitlines())
        code = (
            "import ctk\nimport qt\nimport slicer\nimport vtk\nfrom slicer.i18n import tr as _\n"
            "from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter\n"
            f"def f({annotations}):\n    {lines}\n"
        )
        module = own_code.OwnModule("planted", ast.parse(code))
        return [text.partition(": ")[2] for text in check.findings_in(module)]

    VOLUME = "volume: slicer.vtkMRMLScalarVolumeNode"
    SEGMENTATION = "node: slicer.vtkMRMLSegmentationNode"

    @pytest.mark.parametrize(
        ("annotations", "body", "finding"),
        [
            ("", "slicer.util.updateVolume(1)", "slicer.util has no updateVolume"),
            ("", "slicer.mrmlScenes", "slicer has no mrmlScenes"),
            ("", "slicer.modules.terminology.logic()", "slicer.modules has no terminology"),
            ("", "slicer.app.layoutManagers()", "slicer.app has no layoutManagers"),
            ("", "qt.QTimers.singleShot(0, f)", "qt has no QTimers"),
            ("", "vtk.vtkMatrix5x5()", "vtk has no vtkMatrix5x5"),
            ("volume: slicer.vtkMRMLVolume", "pass", "slicer has no vtkMRMLVolume"),
            (VOLUME, "volume.GetIJKToRAS()", "vtkMRMLScalarVolumeNode has no GetIJKToRAS"),
            (
                VOLUME,
                "volume.GetName(1)",
                "vtkMRMLScalarVolumeNode.GetName takes 0 arguments, not 1",
            ),
            (VOLUME, "volume.name = 'x'", "vtkMRMLScalarVolumeNode has no attribute name to set"),
            (
                SEGMENTATION,
                "segmentation = node.GetSegmentation()\nsegmentation.GetSegments()",
                "vtkSegmentation has no GetSegments",
            ),
            (
                SEGMENTATION,
                "for n in range(3):\n    node.GetSegmentation().GetSegment('a').SetTags('a', 'b')",
                "vtkSegment has no SetTags",
            ),
            (
                "",
                "node = slicer.mrmlScene.AddNewNodeByClass('vtkMRMLScalarVolumNode')",
                "there is no class vtkMRMLScalarVolumNode",
            ),
            (
                "",
                "a = slicer.mrmlScene.AddNewNodeByClass('vtkMRMLScalarVolumeNode')\n"
                "a.GetDisplayNode().SetWindowLevel(0)\na.GetDisplayNode().AutoWindowOff()",
                "vtkMRMLScalarVolumeDisplayNode has no AutoWindowOff",
            ),
            ("", "slicer.util.addVolumeFromArray(1, matrix=2)", "has no argument matrix"),
            ("", "slicer.util.updateVolumeFromArray(1)", "needs narray"),
            ("", "from slicer.util import loadVolumes", "slicer.util has no loadVolumes"),
            ("ui", "ui.inputVolumeSelecter.enabled = True", "the panel has no inputVolumeSelecter"),
            ("ui", "ui.inputVolumeSelector.enable = True", "has no property enable to set"),
            ("ui", "ui.inputVolumeSelector.setEnabled = True", "has no property setEnabled to set"),
            (
                "ui",
                "ui.inputVolumeSelector.currentNodeID()",
                "currentNodeID is a property of qMRMLNodeComboBox: it cannot be called",
            ),
            (
                "ui",
                "ui.inputVolumeSelector.connect('currentNodeChanged(vtkNode*)', f)",
                "qMRMLNodeComboBox has no signal currentNodeChanged(vtkNode*)",
            ),
            ("x", "x.SetWindowLevelMinMix(0, 1)", "nothing has SetWindowLevelMinMix"),
            ("logic", "logic.segmentations", "ImbalanceSegLogic has no segmentations"),
            ("parameters", "parameters.inputVolumes", "has no inputVolumes"),
            ("scriptedEffect", "scriptedEffect.saveState()", "has no saveState"),
            ("node: slicer.vtkMRMLNode", "node.AddNoColumn(1)", "vtkMRMLNode has no AddNoColumn"),
            (
                "a: list[slicer.vtkMRMLScalarVolumeNode]",
                "for one in sorted(a):\n    one.GetImage()",
                "vtkMRMLScalarVolumeNode has no GetImage",
            ),
            (
                "node: slicer.vtkMRMLSegmentationNode, volume",
                "SegmentWriter(node)",
                "SegmentWriter needs volumeNode",
            ),
            ("", "SegmentWriter.segmentIDs('a', 1)", "SegmentWriter has no segmentIDs"),
        ],
    )
    def test_whatIsWrongIsFound(self, check, annotations, body, finding):
        found = self.findings(check, body, annotations)
        assert [text for text in found if finding in text], found

    @pytest.mark.parametrize(
        ("annotations", "body"),
        [
            (VOLUME, "volume.GetImageData().GetPointData().GetScalars()"),
            (VOLUME, "volume.AddObserver(slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent, f)"),
            ("x", "node = x.GetNodeReference('a')\nnode.GetSegmentation()"),
            ("", "slicer.mrmlScene.GetNodeByID('a').GetSegmentation().GetNumberOfSegments()"),
            (
                "ui",
                "ui.inputVolumeSelector.setCurrentNode(None)\nui.inputVolumeSelector.toolTip = ''",
            ),
            ("ui", "ui.inputVolumeSelector.connect('currentNodeChanged(vtkMRMLNode*)', f)"),
            ("ui", "ui.inputVolumeSelector.currentNode()"),
            ("", "slicer.modules.terminologies.logic().LoadTerminologyFromFile('a')"),
            ("value", "value.text()"),
            ("parameters", "parameters.disconnectGui(parameters.inputVolume)"),
            ("", "qt.QTimer.singleShot(0, f)"),
            ("node: slicer.vtkMRMLNode", "node.GetSegmentation()"),
        ],
    )
    def test_whatIsRightIsNot(self, check, annotations, body):
        assert not self.findings(check, body, annotations)

    def test_aPanelWithATypoIsFound(self, truth, tmp_path):
        text = extract.UI_FILES[0].read_text(encoding="utf-8")
        for right, wrong, finding in (
            ('name="noneEnabled"', 'name="nonEnabled"', "has no property nonEnabled"),
            ("mrmlSceneChanged(vtkMRMLScene*)", "sceneChanged(vtkMRMLScene*)", "has no signal"),
            ("<slot>setMRMLScene(", "<slot>setScene(", "has no slot"),
            ("<header>qMRMLWidget.h", "<header>qMRMLWidgets.h", "the header of qMRMLWidget"),
        ):
            planted = tmp_path / "planted.ui"
            planted.write_text(text.replace(right, wrong), encoding="utf-8")
            found = ui_file.UiFile(planted).findings(truth)
            assert [one for one in found if finding in one], wrong
