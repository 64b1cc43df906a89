"""What only the real application can show: the panel, the parameter node, the subject hierarchy.

The engine is replaced at the border of the process, so that no torch and no model is needed.
"""

import json
import unittest

import numpy as np
import SimpleITK as sitk
import slicer

from ImbalanceSegLib.Engine.RunOutcome import RunOutcome
from ImbalanceSegLib.Engine.RunStatus import RunStatus
from ImbalanceSegLib.Logic.InputCheck import whyNotReady
from ImbalanceSegLib.Logic.SegmentationLogic import SegmentationLogic
from ImbalanceSegLib.Scene.Terminology import loadTerminology


class StandInEngine:
    """Calls bright what is bright, at once."""

    isRunning = False

    def start(self, request, onProgress, onLog, onFinished):
        scan = sitk.ReadImage(str(request.scanPath))
        request.outputFolder.mkdir()
        labels = sitk.Cast(scan > 100, sitk.sitkUInt8)
        sitk.WriteImage(labels, str(request.outputFolder / "labels.nrrd"))
        for name in request.maps:
            values = sitk.Cast(labels, sitk.sitkFloat32)
            sitk.WriteImage(values, str(request.outputFolder / f"{name}.nrrd"))
        (request.outputFolder / "report.json").write_text(json.dumps(self._report(request.model)))
        onFinished(RunOutcome(RunStatus.COMPLETED))

    def stop(self):
        pass

    def wait(self):
        pass

    @staticmethod
    def _report(model):
        segment = {
            "label": 1,
            "name": "Airway tree",
            "color": [128, 196, 226],
            "category": {"value": "123037004", "meaning": "Anatomical Structure"},
            "type": {"value": "110726009", "meaning": "Trachea and bronchus"},
        }
        return {"model": {"name": model, "version": "1.0"}, "segments": [segment]}


class ImbalanceSegApplicationTest(unittest.TestCase):
    """The module inside the application."""

    def setUp(self):
        slicer.mrmlScene.Clear()
        voxels = np.zeros((8, 9, 10), np.int16)
        voxels[2:5, 3:6, 4:8] = 500
        self.volume = slicer.util.addVolumeFromArray(voxels, np.diag([-1.0, -1.0, 2.5, 1.0]), "CT")

    def test_resultsStandBesideTheVolume(self):
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Patient")
        study = hierarchy.CreateStudyItem(patient, "Study")
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(self.volume), study)
        output = SegmentationLogic(StandInEngine()).segment(self.volume, model="airway")
        voxels = slicer.util.arrayFromSegmentBinaryLabelmap(
            output.segmentationNode, output.segmentIDs[0], self.volume
        )
        assert np.array_equal(voxels, slicer.util.arrayFromVolume(self.volume) > 100)
        for node in (output.segmentationNode, output.maps["hardness"]):
            item = hierarchy.GetItemByDataNode(node)
            assert hierarchy.GetItemParent(item) == study

    def test_heatMapHasItsColors(self):
        output = SegmentationLogic(StandInEngine()).segment(self.volume, model="airway")
        display = output.maps["hardness"].GetDisplayNode()
        assert display.GetColorNode().GetName() == "Inferno"

    def test_panelExplainsItself(self):
        panel = slicer.util.getModuleWidget("ImbalanceSeg")
        panel.enter()
        parameters = panel.logic.getParameterNode()
        parameters.inputVolume = None
        assert not panel.ui.applyButton.enabled
        assert panel.ui.applyButton.toolTip
        parameters.inputVolume = self.volume
        assert whyNotReady(self.volume) == ""
        assert panel.ui.inputVolumeSelector.currentNode() == self.volume
        panel.exit()
        panel.enter()
        assert panel.logic.getParameterNode().inputVolume == self.volume
        panel.exit()

    def test_termsAreOffered(self):
        assert loadTerminology()


if __name__ == "__main__":
    unittest.main()
