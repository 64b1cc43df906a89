"""The loop with the engine itself, on the phantom that comes with the module.

Left out where the packages of the engine are not installed.
"""

import sys
import unittest
from pathlib import Path

import numpy as np
import qt
import slicer

sys.path.append(str(Path(__file__).resolve().parent))

from ImbalanceSegTestCase import AXIAL, ImbalanceSegTestCase

from ImbalanceSegLib.Engine.EngineSettings import EngineSettings
from ImbalanceSegLib.Engine.SlicerEngine import engineOfThisSlicer
from ImbalanceSegLib.Install.Installer import Installer
from ImbalanceSegLib.Logic.AnnotationLogic import AnnotationLogic
from ImbalanceSegLib.Logic.CorrectionLogic import CorrectionLogic
from ImbalanceSegLib.Logic.ExportLogic import ExportLogic
from ImbalanceSegLib.Logic.SampleData import phantoms
from ImbalanceSegLib.Logic.SegmentationLogic import SegmentationLogic
from ImbalanceSegLib.Scene.SegmentReader import SegmentReader


@unittest.skipIf(Installer.missing(), "the packages of the engine are not installed")
class ImbalanceSegEngineTest(ImbalanceSegTestCase):
    """What the stub cannot show: that the engine starts here and finds something."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        settings = EngineSettings(dataFolder=str(cls.dataFolder / "real"))
        cls.engine = engineOfThisSlicer(qt.QTimer.singleShot, settings)

    @classmethod
    def tearDownClass(cls):
        cls.engine.close()
        super().tearDownClass()

    def test_wholeLoopOnThePhantom(self):
        volume = slicer.util.loadVolume(str(phantoms()[0].image))
        annotation = AnnotationLogic()
        correction = CorrectionLogic(self.engine, annotation)
        output = SegmentationLogic(self.engine).segment(
            volume, model="airway", maps=("hardness", "attention")
        )
        node = output.segmentationNode
        self.assertTrue(output.segmentIDs)
        self.assertEqual(set(output.maps), {"hardness", "attention"})
        before = SegmentReader.labelsOf(node, volume)

        correction.suggest(node, 3)
        index = int(np.argmax(before.sum(axis=(1, 2))))
        annotation.confirmSlice(volume, node, AXIAL, index)
        correction.adapt(node, seconds=10)
        kept = SegmentReader.labelsOf(node, volume)[index]
        self.assertTrue(np.array_equal(kept, before[index]))
        self.assertEqual(correction.undo(node), "adapt")
        self.assertTrue(np.array_equal(SegmentReader.labelsOf(node, volume), before))
        path = ExportLogic(self.engine).saveNrrd(node, self.folder / "airways")
        self.assertTrue(path.is_file())


if __name__ == "__main__":
    unittest.main()
