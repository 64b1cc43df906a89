"""What the tests inside the application share: scenes, phantoms, a stub engine and patience."""

import shutil
import sys
import tempfile
import time
import unittest
from pathlib import Path

import numpy as np
import qt
import slicer
import vtk
import vtk.util.numpy_support
from scipy.spatial import cKDTree

from ImbalanceSegLib.Engine.EngineLink import EngineLink
from ImbalanceSegLib.Engine.EngineSettings import EngineSettings

STUB = Path(__file__).resolve().parent / "stub_engine"
BRIGHT = 1000
"""From here on the stub engine calls a voxel part of the structure."""
SHAPE = (12, 20, 24)
AXIAL = 2
_SAME_MM = 2e-3
_GROUP = "ImbalanceSeg"
_SPACING = np.array([0.8, 0.9, 2.5])


def straight():
    """IJK to RAS of a scan as scanners make it."""
    matrix = np.diag([*(np.array([-1.0, -1.0, 1.0]) * _SPACING), 1.0])
    matrix[:3, 3] = [70.0, 60.5, -33.0]
    return matrix


def oblique():
    """IJK to RAS of a scan that is turned about two axes."""
    about_z, about_x = np.radians(25.0), np.radians(-14.0)
    turn_z, turn_x = np.eye(3), np.eye(3)
    turn_z[:2, :2] = [[np.cos(about_z), -np.sin(about_z)], [np.sin(about_z), np.cos(about_z)]]
    turn_x[1:, 1:] = [[np.cos(about_x), -np.sin(about_x)], [np.sin(about_x), np.cos(about_x)]]
    matrix = np.eye(4)
    matrix[:3, :3] = turn_z @ turn_x @ np.diag(_SPACING)
    matrix[:3, 3] = [-12.0, 7.25, 101.0]
    return matrix


def structure(seed=0):
    """A scan ``[k, j, i]`` with a bright structure that has no symmetry."""
    voxels = np.random.default_rng(seed).integers(-900, 600, SHAPE).astype(np.int16)
    voxels[3:8, 4:9, 5:15] = 1500
    voxels[6:10, 8:11, 12:19] = 1300
    return voxels


class ImbalanceSegTestCase(unittest.TestCase):
    """An empty scene, settings that come back, a stub engine, and no dialogs."""

    @classmethod
    def setUpClass(cls):
        cls.dataFolder = Path(tempfile.mkdtemp(prefix="imbalanceseg-"))
        cls.link = stubLink(cls.dataFolder / "engine")

    @classmethod
    def tearDownClass(cls):
        cls.link.close()
        shutil.rmtree(cls.dataFolder, ignore_errors=True)

    def setUp(self):
        slicer.mrmlScene.Clear()
        self.folder = Path(tempfile.mkdtemp(prefix="imbalanceseg-"))
        self.addCleanup(shutil.rmtree, self.folder, True)
        self._keepSettings()
        self.errors = []
        self._errorDisplay = slicer.util.errorDisplay
        slicer.util.errorDisplay = lambda text, *rest, **more: self.errors.append(text)
        self.addCleanup(self._restoreErrorDisplay)

    def makeVolume(self, ijkToRAS=None, name="CT", seed=0):
        """A volume node with the structure in it."""
        matrix = straight() if ijkToRAS is None else ijkToRAS
        return slicer.util.addVolumeFromArray(structure(seed), matrix, name)

    def waitFor(self, condition, seconds=60.0, what=""):
        """Let the application handle events until something is so."""
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                self.fail(f"not within {seconds:g} s: {what or condition}; {self.errors}")
            slicer.app.processEvents()
            time.sleep(0.01)

    def voxelsOf(self, segmentationNode, segmentID, volumeNode):
        """A segment on the grid of a volume, as the application reads it."""
        return slicer.util.arrayFromSegmentBinaryLabelmap(segmentationNode, segmentID, volumeNode)

    def assertSamePlaces(self, segmentationNode, segmentID, volumeNode, mask):
        """A segment lies in the world where the voxels of a volume lie."""
        segment, volume = _placesOfSegment(segmentationNode, segmentID), placesOf(volumeNode, mask)
        self.assertEqual(len(segment), len(volume))
        self.assertLess(cKDTree(segment).query(volume)[0].max(), _SAME_MM)
        self.assertLess(cKDTree(volume).query(segment)[0].max(), _SAME_MM)

    def _keepSettings(self):
        settings = slicer.app.userSettings()
        kept = {key: settings.value(key) for key in settings.allKeys() if key.startswith(_GROUP)}
        settings.remove(_GROUP)

        def restore():
            settings.remove(_GROUP)
            for key, value in kept.items():
                settings.setValue(key, value)

        self.addCleanup(restore)

    def _restoreErrorDisplay(self):
        slicer.util.errorDisplay = self._errorDisplay


def stubLink(folder):
    """A link to the stub engine, run by the Python of this application."""
    program = shutil.which("PythonSlicer") or sys.executable
    environment = dict(slicer.util.startupEnvironment())
    settings = EngineSettings(dataFolder=str(folder))
    return EngineLink(settings, [program, str(STUB)], environment, qt.QTimer.singleShot)


def placesOf(volumeNode, mask):
    """RAS of the world of the voxels of a ``[k, j, i]`` mask, in mm."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return _inWorld(volumeNode, mask, slicer.util.arrayFromVTKMatrix(matrix), (0, 0, 0))


def pointOf(volumeNode, kji):
    """RAS of the world of one voxel, in mm."""
    mask = np.zeros(SHAPE, bool)
    mask[tuple(kji)] = True
    return placesOf(volumeNode, mask)[0].tolist()


def _placesOfSegment(segmentationNode, segmentID):
    segment = segmentationNode.GetSegmentation().GetSegment(segmentID)
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    image = segment.GetRepresentation(name)
    scalars = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    mask = scalars.reshape(image.GetDimensions()[::-1]) == segment.GetLabelValue()
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    start = image.GetExtent()[::2]
    return _inWorld(segmentationNode, mask, slicer.util.arrayFromVTKMatrix(matrix), start)


def _inWorld(node, mask, matrix, start):
    ijk = np.argwhere(mask)[:, ::-1] + np.asarray(start)
    points = np.column_stack([ijk, np.ones(len(ijk))]) @ matrix.T
    toWorld = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        node.GetParentTransformNode(), None, toWorld
    )
    return np.array([toWorld.TransformPoint(point) for point in points[:, :3].tolist()])
