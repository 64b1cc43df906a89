"""The work from a volume to an export inside the application, with a stub engine and no panel."""

import sys
import unittest
from pathlib import Path

import numpy as np
import slicer

sys.path.append(str(Path(__file__).resolve().parent))

from ImbalanceSegTestCase import (
    AXIAL,
    BRIGHT,
    ImbalanceSegTestCase,
    oblique,
    pointOf,
    stubLink,
)

from ImbalanceSegLib.Engine.EngineSettings import EngineSettings
from ImbalanceSegLib.Logic.AnnotationLogic import AnnotationLogic
from ImbalanceSegLib.Logic.CorrectionLogic import CorrectionLogic
from ImbalanceSegLib.Logic.ExportLogic import ExportLogic
from ImbalanceSegLib.Logic.MapDisplay import MapDisplay
from ImbalanceSegLib.Logic.SegmentationLogic import SegmentationLogic
from ImbalanceSegLib.Logic.SliceNavigation import SliceNavigation
from ImbalanceSegLib.Scene.SegmentReader import SegmentReader
from ImbalanceSegLib.Scene.Terminology import loadTerminology
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord


class ImbalanceSegApplicationTest(ImbalanceSegTestCase):
    """The logic of the module inside the application."""

    def setUp(self):
        super().setUp()
        self.segmentation = SegmentationLogic(self.link)
        self.annotation = AnnotationLogic()
        self.correction = CorrectionLogic(self.link, self.annotation)
        self.export = ExportLogic(self.link)

    def segment(self, volume, maps=("hardness", "attention")):
        output = self.segmentation.segment(volume, model="airway", maps=maps)
        return output.segmentationNode, output

    def bright(self, volume):
        return slicer.util.arrayFromVolume(volume) >= BRIGHT

    def test_wholeLoop(self):
        volume = self.makeVolume()
        node, output = self.segment(volume)
        bright = self.bright(volume)
        (segmentID,) = output.segmentIDs
        self.assertTrue(np.array_equal(self.voxelsOf(node, segmentID, volume), bright))
        self.assertEqual(set(output.maps), {"hardness", "attention"})
        node.CreateClosedSurfaceRepresentation()

        suggested = self.correction.suggest(node, 3)
        self.assertEqual(len(suggested), 3)

        voxels = self.voxelsOf(node, segmentID, volume).copy()
        voxels[2, 0, 0:3] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, node, segmentID, volume)
        self.assertIsNone(self.annotation.confirmSlice(volume, node, AXIAL, 2))
        self.correction.adapt(node, seconds=1)
        adapted = SegmentReader.labelsOf(node, volume)
        self.assertTrue(np.array_equal(adapted[2], voxels[2]))

        dark = tuple(np.argwhere(adapted == 0)[-1])
        self.assertEqual(self.correction.click(node, pointOf(volume, dark), 1, 0.1), 1)
        self.assertEqual(SegmentReader.labelsOf(node, volume)[dark], 1)
        self.assertEqual(self.correction.undo(node), "click")
        self.assertEqual(SegmentReader.labelsOf(node, volume)[dark], 0)

        path = self.export.saveNrrd(node, self.folder / "result")
        again = slicer.util.loadSegmentation(str(path))
        name = again.GetSegmentation().GetNthSegment(0).GetName()
        self.assertEqual(name, "Airway tree")
        self.assertTrue(self.export.saveReport(node, self.folder / "result").is_file())
        self.assertTrue(self.export.whyNoDicomSeg(node))

        self.assertEqual(self.correction.undo(node), "adapt")
        self.assertTrue(np.array_equal(SegmentReader.labelsOf(node, volume), voxels))

    def test_obliqueVolumeUnderATransform(self):
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Moved")
        matrix = np.eye(4)
        matrix[:3, :3] = oblique()[:3, :3] / np.linalg.norm(oblique()[:3, :3], axis=0)
        matrix[:3, 3] = [31.0, -17.0, 5.0]
        slicer.util.updateTransformMatrixFromArray(transform, matrix)
        volume = self.makeVolume(oblique())
        volume.SetAndObserveTransformNodeID(transform.GetID())
        node, output = self.segment(volume)
        (segmentID,) = output.segmentIDs
        self.assertSamePlaces(node, segmentID, volume, self.bright(volume))
        place = (11, 2, 3)
        self.assertEqual(self.correction.click(node, pointOf(volume, place), 1, 0.1), 1)
        expected = self.bright(volume)
        expected[place] = True
        self.assertSamePlaces(node, segmentID, volume, expected)

    def test_slicesAreFoundInTurnedViews(self):
        if slicer.app.layoutManager() is None:
            self.skipTest("there are no views")
        volume = self.makeVolume(oblique())
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
        for axis, index in ((2, 5), (0, 7), (1, 3)):
            view = SliceNavigation().jumpTo(volume, axis, index)
            sliceNode = slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceNode")
            self.assertEqual(self.annotation.sliceOfView(sliceNode, volume), (axis, index))

    def test_savedSceneIsGoneOnWith(self):
        volume = self.makeVolume()
        node, _output = self.segment(volume)
        self.annotation.confirmSlice(volume, node, AXIAL, 2)
        labels, job = SegmentReader.labelsOf(node, volume), WorkRecord(node).baseJob
        path = str(self.folder / "scene.mrb")
        self.assertTrue(slicer.util.saveScene(path))
        slicer.mrmlScene.Clear()
        slicer.util.loadScene(path)
        node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
        record = WorkRecord(node)
        volume = record.volumeNode
        self.assertEqual((record.modelName, record.baseJob), ("airway", job))
        self.assertTrue(np.array_equal(SegmentReader.labelsOf(node, volume), labels))
        confirmed = self.annotation.confirmedSlices(volume, node)
        self.assertEqual([(one.axis, one.index) for one in confirmed], [(AXIAL, 2)])
        for name in ("hardness", "attention"):
            self.assertIsNotNone(node.GetNodeReference(f"ImbalanceSeg.map.{name}"))
        dark = tuple(np.argwhere(labels == 0)[-1])
        self.assertEqual(self.correction.click(node, pointOf(volume, dark), 1, 0.1), 1)

    def test_sceneIsClosedInMidRun(self):
        outcomes = []
        self.segmentation.start(self.makeVolume(), model="endless", onFinished=outcomes.append)
        for _turn in range(20):
            slicer.app.processEvents()
        slicer.mrmlScene.Clear()
        self.segmentation.cancel()
        self.waitFor(lambda: not self.link.isBusy, what="the engine is free again")
        self.assertEqual([outcome.cancelled for outcome in outcomes], [True])
        nodes = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
        self.assertEqual(nodes, 0)
        node, _output = self.segment(self.makeVolume())
        self.assertEqual(node.GetSegmentation().GetNumberOfSegments(), 1)

    def test_resultOfAClosedSceneIsNotPutIntoTheNext(self):
        outcomes = []
        self.segmentation.start(self.makeVolume(), model="airway", onFinished=outcomes.append)
        slicer.mrmlScene.Clear()
        self.waitFor(lambda: outcomes, what="the outcome")
        self.assertFalse(outcomes[0].succeeded)
        self.assertTrue(outcomes[0].sentence)
        nodes = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
        self.assertEqual(nodes, 0)

    def test_twoVolumesSideBySide(self):
        first = self.makeVolume(name="First", seed=1)
        second = self.makeVolume(name="Second", seed=2)
        nodes = [self.segment(volume)[0] for volume in (first, second)]
        before = SegmentReader.labelsOf(nodes[1], second)
        dark = tuple(np.argwhere(SegmentReader.labelsOf(nodes[0], first) == 0)[-1])
        self.correction.click(nodes[0], pointOf(first, dark), 1, 0.1)
        self.annotation.confirmSlice(first, nodes[0], AXIAL, 4)
        self.assertTrue(np.array_equal(SegmentReader.labelsOf(nodes[1], second), before))
        self.assertEqual(self.annotation.confirmedSlices(second, nodes[1]), [])

    def test_otherSegmentsStay(self):
        volume = self.makeVolume()
        node, _output = self.segment(volume)
        other = node.GetSegmentation().AddEmptySegment("mine", "Mine")
        mine = np.zeros(self.bright(volume).shape, np.uint8)
        mine[3:6, 4:9, 5:15] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(mine, node, other, volume)
        self.segmentation.segment(volume, model="airway", segmentationNode=node)
        self.correction.click(node, pointOf(volume, (4, 5, 6)), 0, 3.0)
        self.correction.undo(node)
        self.assertTrue(np.array_equal(self.voxelsOf(node, other, volume), mine))

    def test_failureIsASentence(self):
        with self.assertRaisesRegex(RuntimeError, "not enough memory"):
            self.segmentation.segment(self.makeVolume(), model="failing")
        with self.assertRaises(ValueError):
            self.segmentation.segment(None, model="airway")

    def test_engineThatDiedIsStartedAgain(self):
        link = stubLink(self.folder / "engine")
        self.addCleanup(link.close)
        logic = SegmentationLogic(link)
        with self.assertRaises(RuntimeError):
            logic.segment(self.makeVolume(), model="dying")
        self.assertTrue(logic.segment(self.makeVolume(), model="airway").segmentIDs)

    def test_resultsStandBesideTheVolume(self):
        volume = self.makeVolume()
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Patient")
        study = hierarchy.CreateStudyItem(patient, "Study")
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(volume), study)
        node, output = self.segment(volume)
        for made in (node, output.maps["hardness"]):
            item = hierarchy.GetItemByDataNode(made)
            self.assertEqual(hierarchy.GetItemParent(item), study)

    def test_mapsAreShownAndHidden(self):
        volume = self.makeVolume()
        node, output = self.segment(volume)
        display = output.maps["hardness"].GetDisplayNode()
        self.assertEqual(display.GetColorNode().GetName(), "Inferno")
        if slicer.app.layoutManager() is None:
            return
        slicer.util.setSliceViewerLayers(background=volume, foreground=None, fit=True)
        shown = MapDisplay().showMaps(node, {"hardness": 0.5, "attention": 0.4})
        self.assertIn("hardness", shown)
        sliceLogic = slicer.app.layoutManager().sliceWidget("Red").sliceLogic()
        composite = sliceLogic.GetSliceCompositeNode()
        self.assertEqual(composite.GetForegroundVolumeID(), output.maps["hardness"].GetID())
        MapDisplay().hide()
        self.assertFalse(composite.GetForegroundVolumeID())

    def test_settingsComeBack(self):
        settings = EngineSettings(place="https://gpu:8650", token="abc", memoryGb=2.5, exact=True)
        settings.save(slicer.app.userSettings())
        self.assertEqual(EngineSettings.load(slicer.app.userSettings()), settings)

    def test_termsAreOffered(self):
        self.assertTrue(loadTerminology())


if __name__ == "__main__":
    unittest.main()
