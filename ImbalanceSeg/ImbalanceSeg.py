"""The ImbalanceSeg module of 3D Slicer: names the module and wires its panel to the logic."""

import sys

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from ImbalanceSegLib.Engine.RunStatus import RunStatus
from ImbalanceSegLib.Engine.SlicerEngine import engineOfThisSlicer
from ImbalanceSegLib.Logic.InputCheck import whyNotReady
from ImbalanceSegLib.Logic.SegmentationLogic import SegmentationLogic
from ImbalanceSegLib.Scene.ImbalanceSegParameterNode import ImbalanceSegParameterNode
from ImbalanceSegLib.Scene.Terminology import loadTerminology


class ImbalanceSeg(ScriptedLoadableModule):
    """What the module is called and where it stands in the list of modules."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("ImbalanceSeg")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Segmentations", "Terminologies", "Volumes"]
        self.parent.contributors = ["ImbalanceSeg contributors"]
        self.parent.helpText = _(
            "Segments structures that are small, rare and scattered, and shows where the result is "
            "fragile. Not for clinical use."
        )
        self.parent.acknowledgementText = _("Built on PyTorch, MONAI and SimpleITK.")
        slicer.app.connect("startupCompleted()", loadTerminology)


class ImbalanceSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The module's panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._guiTag = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/ImbalanceSeg.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = ImbalanceSegLogic()
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEndClose)
        self.ui.applyButton.connect("clicked(bool)", self.onApplyButton)
        self.ui.progressBar.setVisible(False)
        self.initializeParameterNode()

    def cleanup(self):
        if self.logic is not None:
            self.logic.cancel()
        self.removeObservers()

    def enter(self):
        self.initializeParameterNode()

    def exit(self):
        self._releaseParameterNode()

    def onReload(self):
        for name in [name for name in sys.modules if name.split(".")[0] == "ImbalanceSegLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, caller, event):
        self.logic.cancel()
        self._releaseParameterNode()

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        self._releaseParameterNode()
        self._parameterNode = self.logic.getParameterNode()
        if self._parameterNode.inputVolume is None:
            first = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
            self._parameterNode.inputVolume = first
        self._guiTag = self._parameterNode.connectGui(self.ui)
        self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._updateButton)
        self._updateButton()

    def onApplyButton(self):
        if self.logic.isRunning:
            self.logic.cancel()
            return
        self.ui.logText.clear()
        parameters = self._parameterNode
        with slicer.util.tryWithErrorDisplay(
            _("The segmentation could not be started."), waitCursor=True
        ):
            self.logic.start(parameters, self._onFinished, self._onProgress, self._onLog)
        self._showState(_("Starting the engine..."))

    def _releaseParameterNode(self):
        if self._parameterNode is None:
            return
        self._parameterNode.disconnectGui(self._guiTag)
        self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._updateButton)
        self._parameterNode = None

    def _whyNotReady(self):
        parameters = self._parameterNode
        if parameters is None:
            return _("No scene is open.")
        if not parameters.model.isInstalled:
            return _("The model '{model}' is not part of this installation.").format(
                model=parameters.model.label()
            )
        return whyNotReady(parameters.inputVolume, parameters.outputSegmentation)

    def _updateButton(self, caller=None, event=None):
        running = self.logic.isRunning
        reason = "" if running else self._whyNotReady()
        button = self.ui.applyButton
        button.text = _("Cancel") if running else _("Segment")
        button.enabled = not reason
        if reason:
            button.toolTip = reason
        elif running:
            button.toolTip = _("Stop the segmentation that is running.")
        else:
            button.toolTip = _("Segment the selected volume.")

    def _showState(self, text):
        self.ui.statusLabel.text = text
        self.ui.progressBar.setVisible(self.logic.isRunning)
        if self.logic.isRunning:
            self.ui.progressBar.setRange(0, 0)
        self._updateButton()

    def _onProgress(self, event):
        self.ui.progressBar.setRange(0, event.total)
        self.ui.progressBar.setValue(event.done)
        self.ui.statusLabel.text = event.message or event.stage

    def _onLog(self, line):
        self.ui.logText.appendPlainText(line)

    def _onFinished(self, outcome, output):
        if output is not None:
            self._showOutput(output)
        elif outcome.status is RunStatus.CANCELLED:
            self._showState(_("Cancelled."))
        else:
            self._showState(_("Failed."))
            slicer.util.errorDisplay(outcome.sentence, detailedText=outcome.details)

    def _showOutput(self, output):
        for note in output.notes:
            self._onLog(note)
        self._showState(_("Done.") if output.segmentIDs else _("Done. Nothing was found."))
        self.logic.getParameterNode().outputSegmentation = output.segmentationNode
        hardness = output.maps.get("hardness")
        if hardness is not None and slicer.app.layoutManager() is not None:
            slicer.util.setSliceViewerLayers(foreground=hardness, foregroundOpacity=0.5)


class ImbalanceSegLogic(ScriptedLoadableModuleLogic):
    """Segments volume nodes; works without a GUI.

    Example::

        output = slicer.util.getModuleLogic("ImbalanceSeg").segmentation.segment(
            volumeNode, model="airway"
        )
    """

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        self._segmentation = None

    @property
    def segmentation(self):
        """The logic proper; raises RuntimeError where the engine's program is missing."""
        if self._segmentation is None:
            engine = engineOfThisSlicer(qt.QTimer.singleShot)
            self._segmentation = SegmentationLogic(engine, slicer.app.temporaryPath)
        return self._segmentation

    @property
    def isRunning(self):
        return self._segmentation is not None and self._segmentation.isRunning

    def getParameterNode(self):
        return ImbalanceSegParameterNode(super().getParameterNode())

    def start(self, parameters, onFinished, onProgress, onLog):
        """Begin to segment what the parameter node says and return at once."""
        self.segmentation.start(
            parameters.inputVolume,
            model=parameters.model.value,
            device=parameters.device.value,
            maps=("hardness",) if parameters.hardnessMap else (),
            segmentationNode=parameters.outputSegmentation,
            onFinished=onFinished,
            onProgress=onProgress,
            onLog=onLog,
        )

    def cancel(self):
        if self._segmentation is not None:
            self._segmentation.cancel()


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
