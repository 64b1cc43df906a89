"""The effect "Imbalance click" in the application's own Segment Editor, with a stub engine."""

import sys
import unittest
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import slicer

sys.path.append(str(Path(__file__).resolve().parent))

from ImbalanceSegTestCase import ImbalanceSegTestCase, pointOf

from ImbalanceSegLib.Logic.AnnotationLogic import AnnotationLogic
from ImbalanceSegLib.Logic.CorrectionLogic import CorrectionLogic
from ImbalanceSegLib.Logic.SegmentationLogic import SegmentationLogic
from ImbalanceSegLib.Panel.ClickEffect import registerClickEffect
from ImbalanceSegLib.Scene.SegmentReader import SegmentReader

NAME = "Imbalance click"
DARK = (11, 2, 3)


class ImbalanceSegEffectTest(ImbalanceSegTestCase):
    """The effect in a Segment Editor of its own."""

    def setUp(self):
        super().setUp()
        self.assertTrue(registerClickEffect())
        self.correction = CorrectionLogic(self.link, AnnotationLogic())
        logic = SimpleNamespace(correction=self.correction)
        self.addCleanup(setattr, slicer.util, "getModuleLogic", slicer.util.getModuleLogic)
        slicer.util.getModuleLogic = lambda name: logic
        self.volume = self.makeVolume()
        output = SegmentationLogic(self.link).segment(self.volume, model="airway")
        self.node, self.segmentID = output.segmentationNode, output.segmentIDs[0]
        self.editor = slicer.qMRMLSegmentEditorWidget()
        self.addCleanup(self.editor.deleteLater)
        self.editor.setMRMLScene(slicer.mrmlScene)
        editorNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
        self.editor.setMRMLSegmentEditorNode(editorNode)
        self.editor.setSegmentationNode(self.node)
        self.editor.setSourceVolumeNode(self.volume)
        self.editor.setCurrentSegmentID(self.segmentID)
        self.editor.setActiveEffectByName(NAME)
        self.effect = self.editor.effectByName(NAME).self()

    def tearDown(self):
        self.editor.setActiveEffect(None)
        super().tearDown()

    def labels(self):
        return SegmentReader.labelsOf(self.node, self.volume)

    def click(self, place, isWrong=False):
        self.effect.clickAt(pointOf(self.volume, place), isWrong)
        self.waitFor(lambda: not self.correction.isRunning, what="the click is answered")

    def test_effectIsOffered(self):
        self.assertIn(NAME, list(self.editor.availableEffectNames()))
        self.assertEqual(self.editor.activeEffect().name, NAME)

    def test_clickChangesTheSegmentAndUndoLeadsBack(self):
        before = self.labels()
        self.effect.radiusSlider.value = 0.5
        self.click(DARK)
        self.assertEqual(self.labels()[DARK], 1)
        self.assertEqual(self.effect.statusLabel.text, "Done.")
        self.effect.onUndo()
        self.assertTrue(np.array_equal(self.labels(), before))

    def test_undoOfTheEditorLeadsBackToo(self):
        before = self.labels()
        self.click(DARK)
        self.editor.undo()
        self.assertTrue(np.array_equal(self.labels(), before))

    def test_wrongClickTakesAway(self):
        place = tuple(np.argwhere(self.labels() == 1)[0])
        self.click(place, isWrong=True)
        self.assertEqual(self.labels()[place], 0)

    def test_segmentsOfOthersAreNotClicked(self):
        other = self.node.GetSegmentation().AddEmptySegment("mine", "Mine")
        self.editor.setCurrentSegmentID(other)
        before = self.labels()
        self.click(DARK)
        self.assertIn("was not made by ImbalanceSeg", self.effect.statusLabel.text)
        self.assertTrue(np.array_equal(self.labels(), before))

    def test_secondRegistrationChangesNothing(self):
        names = list(self.editor.availableEffectNames())
        self.assertTrue(registerClickEffect())
        self.assertEqual(list(self.editor.availableEffectNames()), names)


if __name__ == "__main__":
    unittest.main()
