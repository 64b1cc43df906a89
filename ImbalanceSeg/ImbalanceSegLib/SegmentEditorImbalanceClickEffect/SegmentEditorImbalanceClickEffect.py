"""The effect "Imbalance click": clicks in the slice views of any Segment Editor.

The editor loads this file by its path and takes folder and file for the names of module and class.
"""

from __future__ import annotations

from pathlib import Path

import ctk
import qt
import slicer
import vtk
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
from slicer.i18n import tr as _

NAME = "Imbalance click"
"""By which the editor finds the effect, in every language."""
_RADIUS = "RadiusMm"
_ICON = Path(__file__).parents[2] / "Resources" / "Icons" / "ImbalanceSeg.png"


class SegmentEditorImbalanceClickEffect(AbstractScriptedSegmentEditorEffect):
    """Left click: the segment was missed here. Shift or Ctrl and left click: it is wrong here."""

    def __init__(self, scriptedEffect):
        scriptedEffect.name = NAME
        scriptedEffect.title = _("Imbalance click")
        scriptedEffect.perSegment = True
        AbstractScriptedSegmentEditorEffect.__init__(self, scriptedEffect)
        self.radiusSlider = None
        self.statusLabel = None
        self.undoButton = None
        self._click = None
        self._selected = None

    def clone(self):
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        clonedEffect = effects.qSlicerSegmentEditorScriptedEffect(None)
        clonedEffect.setPythonSource(__file__.replace("\\", "/"))
        return clonedEffect

    def icon(self):
        return qt.QIcon(str(_ICON)) if _ICON.is_file() else qt.QIcon()

    def helpText(self):
        return _(
            "<html>Correct what ImbalanceSeg has segmented, with one click in a slice view.<ul>"
            "<li><b>Left-click:</b> the segment was missed here.</li>"
            "<li><b>Shift + left-click</b> or <b>Ctrl + left-click:</b> it is wrong here.</li>"
            "</ul>Not for clinical use.</html>"
        )

    def setupOptionsFrame(self):
        self.radiusSlider = ctk.ctkSliderWidget()
        self.radiusSlider.minimum = 0.5
        self.radiusSlider.maximum = 10.0
        self.radiusSlider.singleStep = 0.5
        self.radiusSlider.decimals = 1
        self.radiusSlider.value = 1.5
        self.radiusSlider.suffix = " mm"
        self.radiusSlider.toolTip = _("How far around the click its label is certain.")
        self.scriptedEffect.addLabeledOptionsWidget(_("Radius:"), self.radiusSlider)
        self.statusLabel = qt.QLabel()
        self.statusLabel.wordWrap = True
        self.scriptedEffect.addOptionsWidget(self.statusLabel)
        self.undoButton = qt.QPushButton(_("Undo click"))
        self.undoButton.toolTip = _("Take the last click or adaptation back.")
        self.scriptedEffect.addOptionsWidget(self.undoButton)
        self.radiusSlider.connect("valueChanged(double)", self.updateMRMLFromGUI)
        self.undoButton.connect("clicked(bool)", self.onUndo)

    def createCursor(self, widget):
        return qt.QCursor(qt.Qt.CrossCursor)

    def setMRMLDefaults(self):
        self.scriptedEffect.setParameterDefault(_RADIUS, 1.5)

    def activate(self):
        self._selected = None
        self.updateGUIFromMRML()

    def cleanup(self):
        # The widgets go now, and an answer of the engine may still come.
        self.statusLabel = self.radiusSlider = self.undoButton = None

    def updateGUIFromMRML(self):
        if self.radiusSlider is None:
            return
        wasBlocked = self.radiusSlider.blockSignals(True)
        self.radiusSlider.value = self.scriptedEffect.doubleParameter(_RADIUS)
        self.radiusSlider.blockSignals(wasBlocked)
        node, segmentID = self.segmentationNode(), self.segmentID()
        selected = (node.GetID() if node else "", segmentID)
        # What was said of the last click stays until another segment is selected.
        if selected != self._selected:
            self._selected = selected
            self.say(self.whyNoClick())

    def updateMRMLFromGUI(self, value=None):
        if self.radiusSlider is not None:
            self.scriptedEffect.setParameter(_RADIUS, self.radiusSlider.value)

    def processInteractionEvents(self, callerInteractor, eventId, viewWidget):
        if eventId != vtk.vtkCommand.LeftButtonPressEvent:
            return False
        if viewWidget.className() != "qMRMLSliceWidget":
            return False
        isWrong = bool(callerInteractor.GetShiftKey() or callerInteractor.GetControlKey())
        point = self.xyToRas(callerInteractor.GetEventPosition(), viewWidget)
        self.clickAt(point, isWrong)
        return True

    def clickAt(self, pointRAS, isWrong):
        """Work on a click; ``pointRAS`` in world coordinates (mm)."""
        self.click().start(
            self.segmentationNode(),
            self.segmentID(),
            pointRAS,
            isWrong,
            self.scriptedEffect.doubleParameter(_RADIUS),
        )

    def onUndo(self, checked=False):
        self.click().undo(self.segmentationNode())

    def say(self, sentence):
        if self.statusLabel is not None:
            self.statusLabel.text = sentence

    def whyNoClick(self):
        from ImbalanceSegLib.Logic.EditorClick import whyNoClick

        return whyNoClick(self.segmentationNode(), self.segmentID())

    def click(self):
        """What sends clicks to the engine, over the logic that the module has now."""
        from ImbalanceSegLib.Logic.EditorClick import EditorClick

        if self._click is None or not self._click.isRunning:
            correction = slicer.util.getModuleLogic("ImbalanceSeg").correction
            self._click = EditorClick(correction, self.scriptedEffect.saveStateForUndo, self.say)
        return self._click

    def segmentationNode(self):
        parameters = self.scriptedEffect.parameterSetNode()
        return None if parameters is None else parameters.GetSegmentationNode()

    def segmentID(self):
        parameters = self.scriptedEffect.parameterSetNode()
        return "" if parameters is None else parameters.GetSelectedSegmentID() or ""
