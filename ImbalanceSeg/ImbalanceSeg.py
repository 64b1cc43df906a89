"""The ImbalanceSeg module of 3D Slicer: names the module and wires its panel to the logic."""

import sys

import qt
import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

from ImbalanceSegLib.Engine.EngineSettings import EngineSettings
from ImbalanceSegLib.Engine.SlicerEngine import engineOfThisSlicer
from ImbalanceSegLib.Logic.AnnotationLogic import AnnotationLogic
from ImbalanceSegLib.Logic.ArchiveLogic import ArchiveLogic
from ImbalanceSegLib.Logic.CorrectionLogic import CorrectionLogic
from ImbalanceSegLib.Logic.ExportLogic import ExportLogic
from ImbalanceSegLib.Logic.MapDisplay import MapDisplay
from ImbalanceSegLib.Logic.SampleData import registerSampleData
from ImbalanceSegLib.Logic.SegmentationLogic import SegmentationLogic
from ImbalanceSegLib.Logic.SliceNavigation import SliceNavigation
from ImbalanceSegLib.Panel.ClickEffect import registerClickEffect
from ImbalanceSegLib.Panel.Panel import Panel
from ImbalanceSegLib.Scene.ImbalanceSegParameterNode import ImbalanceSegParameterNode
from ImbalanceSegLib.Scene.Terminology import loadTerminology


class ImbalanceSeg(ScriptedLoadableModule):
    """What the module is called and where it stands in the list of modules."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("ImbalanceSeg")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = [
            "Colors",
            "Markups",
            "Plots",
            "SegmentEditor",
            "Segmentations",
            "SubjectHierarchy",
            "Terminologies",
            "Volumes",
        ]
        self.parent.contributors = ["ImbalanceSeg contributors"]
        self.parent.helpText = _(
            "Segments structures that are small, rare and scattered, shows where the result is "
            "fragile, and learns from corrections. Not for clinical use."
        )
        self.parent.acknowledgementText = _("Built on PyTorch, MONAI and SimpleITK.")
        for register in (loadTerminology, registerSampleData, registerClickEffect):
            slicer.app.connect("startupCompleted()", register)


class ImbalanceSegWidget(ScriptedLoadableModuleWidget):
    """The module's panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        self.logic = None
        self.panel = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        widget = slicer.util.loadUI(self.resourcePath("UI/ImbalanceSeg.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = ImbalanceSegLogic()
        self.panel = Panel(self.ui, self.logic)
        self.panel.setup()
        # An engine that was started here must not outlive the application.
        slicer.app.connect("aboutToQuit()", self.logic.close)

    def cleanup(self):
        if self.panel is not None:
            self.panel.close()
        if self.logic is not None:
            self.logic.close()

    def enter(self):
        self.panel.enter()

    def exit(self):
        self.panel.exit()

    def onReload(self):
        self.cleanup()
        self.panel = self.logic = None
        for name in [name for name in sys.modules if name.split(".")[0] == "ImbalanceSegLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)


class ImbalanceSegLogic(ScriptedLoadableModuleLogic):
    """All that the module does, with or without a GUI.

    Example::

        logic = slicer.util.getModuleLogic("ImbalanceSeg")
        output = logic.segmentation.segment(volumeNode, model="airway")

    Attributes:
        link: the engine, on this computer or elsewhere; started when it is used first.
        segmentation: segments volumes.
        annotation: keeps what was painted.
        correction: adapts, answers clicks, suggests slices, takes steps back.
        maps: shows heat maps in the views.
        navigation: shows slices in the views.
        export: writes DICOM Segmentations, labels and reports.
        archive: finds scans in a PACS and gets them.
    """

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        settings = EngineSettings.load(slicer.app.userSettings())
        self.link = engineOfThisSlicer(qt.QTimer.singleShot, settings)
        self.annotation = AnnotationLogic()
        self.segmentation = SegmentationLogic(self.link, self.annotation)
        self.correction = CorrectionLogic(self.link, self.annotation)
        self.correction.isBusyElsewhere = lambda: self.segmentation.isRunning
        self.maps = MapDisplay()
        self.navigation = SliceNavigation()
        self.export = ExportLogic(self.link)
        self.archive = ArchiveLogic(self.link)

    @property
    def hasViews(self):
        """Whether the application shows views."""
        return slicer.app.layoutManager() is not None

    def getParameterNode(self):
        return ImbalanceSegParameterNode(super().getParameterNode())

    def close(self):
        """End the engine, if it was started here, and whatever it does."""
        self.segmentation.cancel()
        self.correction.cancel()
        self.link.close()
        self.archive.close()


class ImbalanceSegTest(ScriptedLoadableModuleTest):
    """What can be checked in a moment with nothing but the module; more is under Testing/Slicer."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def test_parametersOutliveTheWrapper(self):
        logic = ImbalanceSegLogic()
        logic.getParameterNode().hardnessMap = False
        self.assertFalse(logic.getParameterNode().hardnessMap)

    def test_missingVolumeIsExplained(self):
        logic = ImbalanceSegLogic()
        with self.assertRaises(ValueError):
            logic.segmentation.segment(None, model="airway")

    def test_termsAreOffered(self):
        self.assertTrue(loadTerminology())
