"""The module's panel inside the application, its buttons pressed, with a stub engine."""

import sys
import unittest
from pathlib import Path

import numpy as np
import slicer

sys.path.append(str(Path(__file__).resolve().parent))

from ImbalanceSegTestCase import AXIAL, BRIGHT, ImbalanceSegTestCase, pointOf

from ImbalanceSegLib.Panel.PanelState import controlStates
from ImbalanceSegLib.Scene.SegmentReader import SegmentReader
from ImbalanceSegLib.Scene.SliceView import SliceView

DARK = (11, 2, 3)


class ImbalanceSegPanelTest(ImbalanceSegTestCase):
    """The panel as a person uses it."""

    def setUp(self):
        super().setUp()
        self.widget = slicer.util.getModuleWidget("ImbalanceSeg")
        self.panel, self.ui = self.widget.panel, self.widget.ui
        self._useStub()
        self.volume = self.makeVolume()
        self._enter()
        self.addCleanup(self._leave)
        self.parameters.inputVolume = self.volume

    @property
    def parameters(self):
        return self.panel.parameters

    @property
    def node(self):
        return self.parameters.outputSegmentation

    def labels(self):
        return SegmentReader.labelsOf(self.node, self.volume)

    def press(self, button):
        self.assertTrue(button.enabled, button.toolTip)
        button.click()

    def finish(self, what):
        self.waitFor(lambda: not self.panel.activityKind, what=what)

    def segment(self):
        self.press(self.ui.segmentButton)
        self.finish("the segmentation")
        self.assertEqual(self.errors, [])

    def offer(self, model):
        """Select a model that is known once the engine was asked."""
        link = self.widget.logic.link
        link.wait(link.hello())
        self.panel.refresh()
        self.parameters.model = model

    def test_wholeWayThroughTheButtons(self):
        self.assertEqual(self.ui.segmentButton.text, "Segment")
        self.parameters.attentionMap = True
        self.press(self.ui.segmentButton)
        self.assertEqual(self.ui.segmentButton.text, "Cancel")
        self.finish("the segmentation")
        self.assertEqual(self.errors, [])
        bright = slicer.util.arrayFromVolume(self.volume) >= BRIGHT
        self.assertTrue(np.array_equal(self.labels(), bright))

        self._finishASlice()
        self.press(self.ui.suggestButton)
        self.finish("the suggestions")
        self.assertGreater(self.ui.suggestionsList.count, 0)

        self.parameters.adaptSeconds = 5.0
        self.press(self.ui.adaptButton)
        self.assertEqual(self.ui.adaptButton.text, "Stop")
        self.finish("the adaptation")
        self.assertEqual(self.errors, [])
        self.assertEqual(self.ui.undoButton.text, "Undo adaptation")
        self.assertTrue(self.ui.keepModelButton.enabled)
        adapted = self.labels()

        if self.widget.logic.hasViews:
            self._click(DARK)
            self.assertEqual(self.labels()[DARK], 1)
            self.assertEqual(self.ui.undoButton.text, "Undo click")
            self.press(self.ui.undoButton)
            self.assertTrue(np.array_equal(self.labels(), adapted))
        self.press(self.ui.undoButton)
        self.assertTrue(np.array_equal(self.labels(), bright))
        self.assertFalse(self.ui.undoButton.enabled)
        self.assertEqual(self.errors, [])

    def test_cancelEndsTheRun(self):
        self.offer("endless")
        self.press(self.ui.segmentButton)
        self.waitFor(lambda: self.ui.segmentProgressBar.maximum > 0, what="a step")
        self.press(self.ui.segmentButton)
        self.finish("the cancelled run")
        self.assertEqual(self.ui.segmentStatusLabel.text, "Cancelled.")
        self.assertEqual((self.errors, self.node), ([], None))

    def test_failureIsToldAndNothingIsLeftBehind(self):
        self.offer("failing")
        self.press(self.ui.segmentButton)
        self.finish("the failing run")
        self.assertEqual(len(self.errors), 1)
        self.assertIn("not enough memory", self.errors[0])
        self.assertIsNone(self.node)
        self.parameters.model = "airway"
        self.errors.clear()
        self.segment()

    def test_sceneIsClosedInMidRun(self):
        self.offer("endless")
        self.press(self.ui.segmentButton)
        for _turn in range(20):
            slicer.app.processEvents()
        slicer.mrmlScene.Clear()
        self.finish("the run of the closed scene")
        self.assertIsNotNone(self.parameters)
        self.assertIsNone(self.parameters.inputVolume)
        self.assertFalse(self.ui.segmentButton.enabled)
        self.volume = self.makeVolume()
        self.parameters.inputVolume = self.volume
        self.segment()

    def test_savedSceneBringsThePanelBack(self):
        self.segment()
        self.parameters.clickRadiusMm = 2.5
        self._finishASlice()
        labels = self.labels()
        path = str(self.folder / "scene.mrb")
        self.assertTrue(slicer.util.saveScene(path))
        slicer.mrmlScene.Clear()
        slicer.util.loadScene(path)
        # The panel takes the scene up as it does when it is shown.
        self.panel.enterScene()
        self.volume = self.parameters.inputVolume
        self.assertEqual(self.parameters.model, "airway")
        self.assertEqual(self.parameters.clickRadiusMm, 2.5)
        self.assertTrue(np.array_equal(self.labels(), labels))
        self.assertEqual(self.ui.confirmedSlicesList.count, 1)
        self.assertTrue(self.ui.suggestButton.enabled, self.ui.suggestButton.toolTip)
        self.press(self.ui.suggestButton)
        self.finish("the suggestions")
        self.assertEqual(self.errors, [])

    def test_mapsLieOverTheVolume(self):
        if not self.widget.logic.hasViews:
            self.skipTest("there are no views")
        slicer.util.setSliceViewerLayers(background=self.volume, fit=True)
        self.segment()
        sliceLogic = slicer.app.layoutManager().sliceWidget("Red").sliceLogic()
        composite = sliceLogic.GetSliceCompositeNode()
        hardness = self.node.GetNodeReference("ImbalanceSeg.map.hardness")
        self.assertEqual(composite.GetForegroundVolumeID(), hardness.GetID())
        self.parameters.hardnessMap = False
        self.assertNotEqual(composite.GetForegroundVolumeID(), hardness.GetID())

    def test_twoVolumesAreWorkedOnInTurn(self):
        self.segment()
        first, before = self.node, self.labels()
        other = self.makeVolume(name="Other", seed=3)
        self.parameters.inputVolume = other
        self.parameters.outputSegmentation = None
        self.segment()
        self.assertIsNot(self.node, first)
        self.parameters.inputVolume, self.parameters.outputSegmentation = self.volume, first
        self.assertTrue(np.array_equal(self.labels(), before))
        self.assertTrue(self.ui.adaptButton.enabled, self.ui.adaptButton.toolTip)

    def test_everyButtonThatIsDisabledSaysWhy(self):
        for volume in (None, self.volume):
            self.parameters.inputVolume = volume
            for name in controlStates(self.panel._panelFacts()):
                button = getattr(self.ui, name)
                self.assertTrue(button.toolTip, name)
        self.parameters.inputVolume = None
        self.assertFalse(self.ui.segmentButton.enabled)
        self.assertFalse(self.ui.adaptButton.enabled)

    def test_leavingAndComingBackKeepsWhatWasSet(self):
        self.parameters.adaptSeconds = 45.0
        self._leave()
        self.assertIsNone(self.parameters)
        self._enter()
        self.assertEqual(self.parameters.adaptSeconds, 45.0)
        self.assertEqual(self.ui.inputVolumeSelector.currentNode(), self.volume)

    def _finishASlice(self):
        if self.widget.logic.hasViews:
            slicer.util.setSliceViewerLayers(background=self.volume, fit=True)
            view = self.panel.jumpTo(AXIAL, 5)
            self.assertTrue(view)
            self.parameters.view = SliceView(view)
            self.press(self.ui.sliceDoneButton)
        else:
            self.widget.logic.annotation.confirmSlice(self.volume, self.node, AXIAL, 5)
            self.panel.refresh()
        self.assertEqual(self.errors, [])
        self.assertEqual(self.ui.confirmedSlicesList.count, 1)

    def _click(self, place):
        """Place the point that a click in a view would place."""
        self.parameters.clickRadiusMm = 0.5
        self.press(self.ui.missedButton)
        points = slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
        points[-1].AddControlPointWorld(pointOf(self.volume, place))
        self.waitFor(lambda: self.labels()[place] == 1, what="the click is answered")
        self.finish("the click")
        self.press(self.ui.missedButton)

    def _useStub(self):
        link, stub = self.widget.logic.link, self.link
        kept = {name: getattr(link, name) for name in ("_command", "_environment", "_settings")}
        install = self.panel.advanced.install
        link.close()
        for name in kept:
            setattr(link, name, getattr(stub, name))
        install.isReady = lambda: True

        def restore():
            self.panel.cancel()
            link.close()
            for name, value in kept.items():
                setattr(link, name, value)
            del install.isReady

        self.addCleanup(restore)

    def _enter(self):
        if slicer.util.mainWindow() is not None:
            slicer.util.selectModule("ImbalanceSeg")
        elif self.panel.parameters is None or not self.panel._isEntered:
            self.widget.enter()

    def _leave(self):
        if slicer.util.mainWindow() is not None:
            slicer.util.selectModule("Data")
        elif self.panel._isEntered:
            self.widget.exit()


if __name__ == "__main__":
    unittest.main()
