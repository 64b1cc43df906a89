"""From a volume to a corrected file: every step of the work, in one scene, with an engine."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import SimpleITK as sitk
import slicer

from ImbalanceSegLib.Logic.AnnotationLogic import AnnotationLogic
from ImbalanceSegLib.Logic.CorrectionLogic import CorrectionLogic
from ImbalanceSegLib.Logic.ExportLogic import ExportLogic
from ImbalanceSegLib.Logic.SegmentationLogic import SegmentationLogic
from ImbalanceSegLib.Scene.SegmentReader import SegmentReader
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord

BRIGHT = 1000
AXIAL = 2
MISSED = (0, 9, 1)
"""Index [k, j, i] of a voxel that is darker than the structure and belongs to it."""


class Loop:
    """The logics over one engine, and what they are at work on."""

    def __init__(self, link, volume):
        self.volume = volume
        self.segmentation = SegmentationLogic(link)
        self.annotation = AnnotationLogic()
        self.correction = CorrectionLogic(link, self.annotation)
        self.export = ExportLogic(link)
        self.changes = []
        self.correction.beforeChange = self.changes.append
        output = self.segmentation.segment(volume, model="airway", maps=("hardness", "attention"))
        self.node, self.maps = output.segmentationNode, output.maps

    @property
    def labels(self):
        return SegmentReader.labelsOf(self.node, self.volume)

    @property
    def segmentID(self):
        return WorkRecord(self.node).segmentIDs[1]

    def world(self, kji):
        """RAS of the world of the centre of a voxel."""
        matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
        self.volume.GetIJKToRASMatrix(matrix)
        local = matrix.MultiplyPoint([*map(float, kji[::-1]), 1.0])[:3]
        world = [0.0, 0.0, 0.0]
        self.volume.TransformPointToWorld(local, world)
        return world

    def paint(self, index, plane):
        """Paint a whole axial slice through the segment's array."""
        voxels = slicer.util.arrayFromSegmentBinaryLabelmap(self.node, self.segmentID, self.volume)
        voxels[index] = plane
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            voxels, self.node, self.segmentID, self.volume
        )


@pytest.fixture
def loop(makeVolume, goodLink, geometry):
    volume = makeVolume(geometry.ijkToRAS, geometry.parentToWorld)
    voxels = slicer.util.arrayFromVolume(volume)
    voxels[MISSED] = 800
    slicer.util.arrayFromVolumeModified(volume)
    return Loop(goodLink, volume)


def test_everyStepLeadsToTheNext(loop, tmp_path):
    bright = slicer.util.arrayFromVolume(loop.volume) >= BRIGHT
    assert np.array_equal(loop.labels, bright)
    assert set(loop.maps) == {"hardness", "attention"}

    suggested = loop.correction.suggest(loop.node, 3)
    assert len(suggested) == 3
    assert all(one.reason for one in suggested)

    # Two slices are painted: in one something is missing, in the other something is too much.
    painted = bright[2].copy()
    painted[0, 0] = True
    loop.paint(2, painted)
    missing = bright[0].copy()
    missing[MISSED[1:]] = True
    loop.paint(0, missing)
    for index in (0, 2):
        assert loop.annotation.confirmSlice(loop.volume, loop.node, AXIAL, index) is None
    again = loop.correction.suggest(loop.node, 20)
    assert not {(AXIAL, 0), (AXIAL, 2)} & {(one.axis, one.index) for one in again}

    output = loop.correction.adapt(loop.node, seconds=1)
    assert output.segmentationNode is loop.node
    learned = loop.labels
    assert np.array_equal(learned[0], missing)
    assert np.array_equal(learned[2], painted)
    assert len(loop.changes) == 1
    assert len(loop.correction.adaptedModels(loop.node)) == 1

    empty = np.argwhere(learned[4] == 0)[0]
    changed = loop.correction.click(loop.node, loop.world((4, *empty)), 1, 0.1)
    assert changed == 1
    assert loop.labels[(4, *empty)] == 1
    full = np.argwhere(learned[3] == 1)[0]
    assert loop.correction.click(loop.node, loop.world((3, *full)), 0, 0.1) == 1
    assert loop.labels[(3, *full)] == 0
    # In a finished slice the person has the last word.
    assert loop.correction.click(loop.node, loop.world((2, 0, 0)), 0, 0.1) == 0
    assert loop.labels[2, 0, 0] == 1

    undone = [loop.correction.undo(loop.node) for _step in range(4)]
    assert undone == ["click", "click", "click", "adapt"]
    expected = bright.astype(np.uint8)
    expected[0], expected[2] = missing, painted
    assert np.array_equal(loop.labels, expected)
    assert not loop.correction.canUndo(loop.node)

    path = loop.export.saveNrrd(loop.node, tmp_path / "result")
    image = sitk.ReadImage(str(path))
    assert np.count_nonzero(sitk.GetArrayFromImage(image)) == np.count_nonzero(expected)
    assert image.GetMetaData("Segment0_Name") == "Airway tree"


def test_otherSegmentsStayAsTheyAre(loop):
    other = slicer.vtkSegment()
    other.SetName("Mine")
    loop.node.GetSegmentation().AddSegment(other, "mine")
    mine = np.zeros(loop.labels.shape, np.uint8)
    mine[1:3, 2:5, 3:9] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mine, loop.node, "mine", loop.volume)
    loop.annotation.confirmSlice(loop.volume, loop.node, AXIAL, 2)
    loop.correction.adapt(loop.node, seconds=1)
    loop.correction.click(loop.node, loop.world((1, 3, 4)), 0, 3.0)
    loop.correction.undo(loop.node)
    kept = slicer.util.arrayFromSegmentBinaryLabelmap(loop.node, "mine", loop.volume)
    assert np.array_equal(kept, mine)


def test_twoVolumesAreCorrectedSideBySide(makeVolume, goodLink):
    loops = [Loop(goodLink, makeVolume(seed=seed)) for seed in (1, 2)]
    for one in loops:
        one.annotation.confirmSlice(one.volume, one.node, AXIAL, 3)
        one.correction.adapt(one.node, seconds=1)
    before = [one.labels for one in loops]
    point = np.argwhere(before[0][4] == 0)[0]
    loops[0].correction.click(loops[0].node, loops[0].world((4, *point)), 1, 0.1)
    assert np.array_equal(loops[1].labels, before[1])
    first, second = (one.correction.adaptedModels(one.node) for one in loops)
    assert first != second


def test_savedSceneIsGoneOnWith(loop, geometry, tmp_path):
    loop.annotation.confirmSlice(loop.volume, loop.node, AXIAL, 2)
    before, maps = loop.labels, set(loop.maps)
    model = WorkRecord(loop.node).modelName
    path = tmp_path / "scene.mrb"
    assert slicer.mrmlScene.WriteToMRB(str(path))
    slicer.mrmlScene.Clear(False)
    # What the application does with such a file, which needs its cache folder for that.
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    slicer.mrmlScene.SetURL(str(next(tmp_path.rglob("*.mrml"))))
    assert slicer.mrmlScene.Import()
    node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    record = WorkRecord(node)
    loop.node, loop.volume = node, record.volumeNode
    # Slicer opens a left-handed volume with its slices in the other order.
    isTurned = np.linalg.det(geometry.ijkToRAS[:3, :3]) < 0
    if isTurned:
        before = before[::-1]
    assert np.array_equal(loop.labels, before)
    assert (record.modelName, record.steps[0]["kind"]) == (model, "segment")
    confirmed = loop.annotation.confirmedSlices(loop.volume, node)
    index = len(before) - 1 - 2 if isTurned else 2
    assert [(one.axis, one.index) for one in confirmed] == [(AXIAL, index)]
    roles = [node.GetNodeReference(f"ImbalanceSeg.map.{name}") for name in maps]
    assert all(roles)
    if not isTurned:
        point = np.argwhere(before[4] == 0)[0]
        assert loop.correction.click(node, loop.world((4, *point)), 1, 0.1) == 1
