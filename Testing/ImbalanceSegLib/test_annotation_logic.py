"""What was painted in segments reaches the engine, slice by slice and voxel by voxel."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import slicer

from imbalanceseg.annotation.annotation import ConfirmedSlice
from imbalanceseg.labels import ANATOMICAL_STRUCTURE, CodedConcept, SegmentInfo
from ImbalanceSegLib.Engine.EngineResult import EngineResult
from ImbalanceSegLib.Logic.AnnotationLogic import AnnotationLogic
from ImbalanceSegLib.Scene.AnnotationVolume import AnnotationVolume
from ImbalanceSegLib.Scene.SegmentReader import SegmentReader
from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord

SEGMENTS = tuple(
    SegmentInfo(label, name, ANATOMICAL_STRUCTURE, CodedConcept(f"{label}", name), (200, 10, label))
    for label, name in ((1, "Airway"), (2, "Trachea"))
)


def engineLabelsOf(volume):
    scan = slicer.util.arrayFromVolume(volume)
    return (scan >= 1000).astype(np.uint8)


def segmented(volume, model="airway", labels=None, node=None, job="a" * 32):
    """A segmentation as a run of the engine leaves it."""
    labels = engineLabelsOf(volume) if labels is None else labels
    node = node or slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Result")
    result = EngineResult(labels, SEGMENTS, model, "1", jobID=job)
    SegmentWriter(node, volume).write(result)
    record = WorkRecord(node)
    record.describe(result)
    record.push("segment", result.jobID)
    record.setEngineLabels(labels)
    return node


def paint(node, volume, label, change):
    """Change one segment as the Segment Editor would."""
    segmentID = SegmentWriter.ownSegments(node)[label]
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentID, volume).copy()
    change(voxels)
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, node, segmentID, volume)


def userSegment(node, volume, segmentID="mine", box=np.s_[1:3, 2:6, 1:5]):
    voxels = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    voxels[box] = 1
    node.GetSegmentation().AddEmptySegment(segmentID, "My lesion", [0.1, 0.2, 0.3])
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, node, segmentID, volume)
    return voxels


@pytest.fixture
def logic():
    return AnnotationLogic()


def worldOf(volume, geometry, index):
    ijk = np.append(np.asarray(index, float), 1)
    toWorld = np.eye(4) if geometry.parentToWorld is None else geometry.parentToWorld
    return (toWorld @ geometry.ijkToRAS @ ijk)[:3]


def viewAlong(volume, geometry, axis, index):
    """A slice view that shows one slice of a volume, somewhat aside of its middle."""
    toWorld = np.eye(4) if geometry.parentToWorld is None else geometry.parentToWorld
    axes = (toWorld @ geometry.ijkToRAS)[:3, :3]
    axes = axes / np.linalg.norm(axes, axis=0)
    point = [4.0, 6.0, 2.0]
    point[axis] = index
    matrix = np.eye(4)
    matrix[:3, 0] = axes[:, (axis + 1) % 3]
    matrix[:3, 1] = axes[:, (axis + 2) % 3]
    matrix[:3, 2] = np.cross(matrix[:3, 0], matrix[:3, 1])
    matrix[:3, 3] = worldOf(volume, geometry, point)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode")
    node.SetLayoutName("Red")
    slicer.util.updateVTKMatrixFromArray(node.GetSliceToRAS(), matrix)
    node.UpdateMatrices()
    return node


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_viewShowsTheSliceItStandsOn(makeVolume, geometry, logic, axis):
    volume = makeVolume(geometry.ijkToRAS, geometry.parentToWorld)
    for index in (0, 3, 6):
        assert logic.sliceOfView(viewAlong(volume, geometry, axis, index), volume) == (axis, index)


def test_viewBetweenTwoSlicesShowsTheNearest(makeVolume, geometry, logic):
    volume = makeVolume(geometry.ijkToRAS, geometry.parentToWorld)
    assert logic.sliceOfView(viewAlong(volume, geometry, 2, 3.4), volume) == (2, 3)
    assert logic.sliceOfView(viewAlong(volume, geometry, 2, 3.6), volume) == (2, 4)
    assert logic.sliceOfView(viewAlong(volume, geometry, 2, -0.4), volume) == (2, 0)
    for outside in (-0.6, 6.6, 400):
        with pytest.raises(ValueError, match="Move it"):
            logic.sliceOfView(viewAlong(volume, geometry, 2, outside), volume)


def test_turnedViewIsRefused(makeVolume, geometry, logic):
    volume = makeVolume(geometry.ijkToRAS, geometry.parentToWorld)
    node = viewAlong(volume, geometry, 2, 3)
    matrix = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
    turn = np.radians(40)
    matrix[:3, 0] = np.cos(turn) * matrix[:3, 0] + np.sin(turn) * matrix[:3, 2]
    matrix[:3, 2] = np.cross(matrix[:3, 0], matrix[:3, 1])
    slicer.util.updateVTKMatrixFromArray(node.GetSliceToRAS(), matrix)
    with pytest.raises(ValueError, match="Rotate the view to the volume plane"):
        logic.sliceOfView(node, volume)


def test_warpedVolumeHasNoSlicesInViews(makeVolume, geometry, logic, scene):
    volume = makeVolume(geometry.ijkToRAS, geometry.parentToWorld)
    node = viewAlong(volume, geometry, 2, 3)
    warp = scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    volume.SetAndObserveTransformNodeID(warp.GetID())
    if warp.IsTransformToWorldLinear():
        pytest.skip("an empty warp counts as linear here")
    with pytest.raises(ValueError, match="warped"):
        logic.sliceOfView(node, volume)


@pytest.mark.parametrize(("axis", "index"), [(0, 5), (1, 4), (2, 2)])
def test_finishedSliceIsWhatStandsInTheSegments(makeVolume, geometry, logic, axis, index):
    volume = makeVolume(geometry.ijkToRAS, geometry.parentToWorld)
    node = segmented(volume)
    userSegment(node, volume)
    own = SegmentReader.labelsOf(node, volume)
    assert logic.confirmSlice(volume, node, axis, index) is None
    annotation = logic.annotationOf(volume, node)
    at = tuple(index if n == 2 - axis else slice(None) for n in range(3))
    assert np.array_equal(annotation.labels[at], own[at])
    known = np.zeros(own.shape, bool)
    known[at] = True
    assert np.array_equal(annotation.known, known)
    assert logic.confirmedSlices(volume, node) == [ConfirmedSlice(axis, index)]
    assert logic.confirmedSlices(volume) == [ConfirmedSlice(axis, index)]
    # The annotation lies on the volume, in the world, too.
    holder = AnnotationVolume.ofVolume(volume).node
    assert holder.GetTransformNodeID() == volume.GetTransformNodeID()
    grid = annotation.grid
    for corner in ((0, 0, 0), (12, 10, 6)):
        ras = geometry.ijkToRAS @ [*corner, 1]
        np.testing.assert_allclose(grid.index_to_physical(corner) * [-1, -1, 1], ras[:3], atol=1e-4)


def test_paintingOnInAFinishedSliceCounts(makeVolume, logic):
    volume = makeVolume()
    node = segmented(volume)
    logic.confirmSlice(volume, node, 2, 2)

    def add(voxels):
        voxels[2, 8:10, 0:3] = 1

    paint(node, volume, 1, add)
    annotation = logic.annotationOf(volume, node)
    assert np.all(annotation.labels[2, 8:10, 0:3] == 1)
    assert np.array_equal(annotation.known.any(axis=(1, 2)), np.arange(7) == 2)
    # It is kept as well.
    assert np.all(AnnotationVolume.ofVolume(volume).read().labels[2, 8:10, 0:3] == 1)


def test_correctionsOutsideFinishedSlicesAreSingleVoxels(makeVolume, logic):
    volume = makeVolume()
    node = segmented(volume)
    engine = engineLabelsOf(volume)
    logic.confirmSlice(volume, node, 2, 0)

    def change(voxels):
        voxels[5, 0:2, 0:3] = 1
        voxels[2, 2:4, 3:5] = 0

    paint(node, volume, 1, change)
    own = SegmentReader.labelsOf(node, volume)
    annotation = logic.annotationOf(volume, node)
    differs = own != engine
    differs[0] = False
    assert differs.sum() > 8
    assert np.array_equal(annotation.known[1:], differs[1:])
    assert np.array_equal(annotation.labels[differs], own[differs])
    assert annotation.classes == (1, 2)


def test_foreignSegmentsSayNothing(makeVolume, logic):
    volume = makeVolume()
    node = segmented(volume)
    userSegment(node, volume, box=np.s_[:, :, :])
    assert not logic.annotationOf(volume, node).known.any()


def test_crossingSlicesThatDisagreeAreTold(makeVolume, logic):
    volume = makeVolume()
    node = segmented(volume)
    logic.confirmSlice(volume, node, 2, 2)

    def remove(voxels):
        voxels[2, :, 4] = 0

    paint(node, volume, 1, remove)
    conflict = logic.confirmSlice(volume, node, 0, 4)
    assert conflict is not None
    assert (conflict.was, conflict.now) == (1, 0)
    # Finishing the same slice again is no conflict.
    assert logic.confirmSlice(volume, node, 0, 4) is None


def test_finishedSliceIsTakenBack(makeVolume, logic):
    volume = makeVolume()
    node = segmented(volume)
    before = SegmentReader.labelsOf(node, volume)
    logic.confirmSlice(volume, node, 2, 2)
    logic.confirmSlice(volume, node, 0, 4)
    logic.unconfirmSlice(volume, 2, 2, node)
    annotation = logic.annotationOf(volume, node)
    assert annotation.confirmed == [ConfirmedSlice(0, 4)]
    known = np.zeros(annotation.labels.shape, bool)
    known[:, :, 4] = True
    assert np.array_equal(annotation.known, known)
    assert np.array_equal(SegmentReader.labelsOf(node, volume), before)


def test_sliceThatDoesNotExistIsASentence(makeVolume, logic):
    volume = makeVolume()
    node = segmented(volume)
    for axis, index in ((2, 7), (3, 0), (0, -1)):
        with pytest.raises(ValueError, match="slice"):
            logic.confirmSlice(volume, node, axis, index)
        with pytest.raises(ValueError, match="slice"):
            logic.unconfirmSlice(volume, axis, index, node)


def test_twoSegmentationsOfAVolumeDoNotMix(makeVolume, logic):
    volume = makeVolume()
    first, second = segmented(volume), segmented(volume, "other", job="b" * 32)
    logic.confirmSlice(volume, first, 2, 2)
    logic.confirmSlice(volume, second, 1, 5)
    assert logic.confirmedSlices(volume, first) == [ConfirmedSlice(2, 2)]
    assert logic.confirmedSlices(volume, second) == [ConfirmedSlice(1, 5)]
    assert logic.annotationOf(volume, first).confirmed == [ConfirmedSlice(2, 2)]


def test_segmentationOfAnotherVolumeIsRefused(makeVolume, logic):
    first, second = makeVolume(), makeVolume(seed=1)
    node = segmented(first)
    with pytest.raises(ValueError, match="does not belong"):
        logic.confirmSlice(second, node, 2, 2)


def test_finishedSlicesSurviveASecondRunOfTheModel(makeVolume, logic):
    volume = makeVolume()
    node = segmented(volume)

    def repaint(voxels):
        voxels[2] = 0
        voxels[2, 1:3, 1:4] = 1

    paint(node, volume, 1, repaint)
    logic.confirmSlice(volume, node, 2, 2)
    segmented(volume, node=node, job="c" * 32)
    logic.keepPainted(volume, node)
    own = SegmentReader.labelsOf(node, volume)
    expected = engineLabelsOf(volume)
    expected[2] = 0
    expected[2, 1:3, 1:4] = 1
    assert np.array_equal(own, expected)
    assert logic.annotationOf(volume, node).confirmed == [ConfirmedSlice(2, 2)]


def test_paintedSlicesOfOneModelSayNothingToAnother(makeVolume, logic):
    volume = makeVolume()
    node = segmented(volume)
    logic.confirmSlice(volume, node, 2, 2)
    segmented(volume, "other", node=node, job="d" * 32)
    assert logic.confirmedSlices(volume, node) == []
    assert not logic.annotationOf(volume, node).known.any()
    assert np.array_equal(SegmentReader.labelsOf(node, volume), engineLabelsOf(volume))


def fromScratch(volume):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
    node.CreateDefaultDisplayNodes()
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    return node


def test_segmentOfAPersonBecomesAClass(makeVolume, geometry, logic):
    volume = makeVolume(geometry.ijkToRAS, geometry.parentToWorld)
    node = fromScratch(volume)
    voxels = userSegment(node, volume)
    other = userSegment(node, volume, "other", np.s_[4:6, 0:2, 0:2])
    with pytest.raises(ValueError, match="No segment"):
        logic.confirmSlice(volume, node, 2, 2)
    logic.adoptSegment(node, "mine", 3)
    logic.confirmSlice(volume, node, 2, 2)
    annotation = logic.annotationOf(volume, node)
    assert annotation.values == (3,)
    assert annotation.classes == (3,)
    assert np.array_equal(annotation.labels == 3, voxels > 0)
    # In the finished slice the rest is background; a stroke elsewhere says only what it marks.
    assert np.all(annotation.known[2])
    assert np.array_equal(annotation.known[1], voxels[1] > 0)
    segment = node.GetSegmentation().GetSegment("mine")
    assert segment.GetName() == "My lesion"
    np.testing.assert_allclose(segment.GetColor(), [0.1, 0.2, 0.3], atol=1e-6)
    stays = slicer.util.arrayFromSegmentBinaryLabelmap(node, "other", volume)
    assert np.array_equal(stays, other)
    assert SegmentWriter.ownSegments(node) == {3: "mine"}


def test_adoptingRefusesWhatCannotBe(makeVolume, logic):
    volume = makeVolume()
    node = fromScratch(volume)
    userSegment(node, volume)
    userSegment(node, volume, "other")
    logic.adoptSegment(node, "mine", 1)
    logic.adoptSegment(node, "mine", 1)
    for segmentID, label in (("other", 1), ("other", 0), ("other", 255), ("nobody", 2)):
        with pytest.raises(ValueError, match=r"no segment|cannot be used"):
            logic.adoptSegment(node, segmentID, label)
    logic.adoptSegment(node, "other", 2)
    assert SegmentWriter.ownSegments(node) == {1: "mine", 2: "other"}


def test_modelsSegmentsKeepTheirLabelsBesideAnAdoptedOne(makeVolume, logic):
    volume = makeVolume()
    node = segmented(volume)
    userSegment(node, volume)
    logic.adoptSegment(node, "mine", 3)
    assert SegmentWriter.ownSegments(node) == {1: "ImbalanceSeg_airway_1", 3: "mine"}


def test_whatWasNotFoundCanBePainted(makeVolume, logic):
    volume = makeVolume()
    node = segmented(volume, labels=np.zeros_like(engineLabelsOf(volume)))
    assert SegmentWriter.ownSegments(node) == {}
    logic.offerSegments(node)
    logic.offerSegments(node)
    assert set(SegmentWriter.ownSegments(node)) == {1, 2}
    paint(node, volume, 2, lambda voxels: voxels.__setitem__(np.s_[3, 2:4, 2:4], 1))
    logic.confirmSlice(volume, node, 2, 3)
    annotation = logic.annotationOf(volume, node)
    assert np.all(annotation.labels[3, 2:4, 2:4] == 2)
    assert annotation.known.sum() == annotation.labels[3].size


def test_segmentationWithoutVolumeIsASentence(scene, makeVolume, logic):
    volume = makeVolume()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Lost")
    with pytest.raises(ValueError, match="not known which volume"):
        logic.annotationOf(volume, node)


def test_damagedAttributesAreASentence(makeVolume, logic):
    volume = makeVolume()
    node = segmented(volume)
    logic.confirmSlice(volume, node, 2, 2)
    holder = AnnotationVolume.ofVolume(volume).node
    holder.SetAttribute("ImbalanceSeg_ConfirmedSlices", "[[7, 1]]")
    with pytest.raises(ValueError, match="slice"):
        logic.annotationOf(volume, node)
    with pytest.raises(ValueError, match="slice"):
        logic.confirmedSlices(volume, node)


def test_annotationComesBackWithTheScene(makeVolume, geometry, logic, tmp_path):
    volume = makeVolume(geometry.ijkToRAS, geometry.parentToWorld)
    node = segmented(volume)

    def change(voxels):
        voxels[5, 0:2, 0:3] = 1

    paint(node, volume, 1, change)
    logic.confirmSlice(volume, node, 2, 2)
    before, then = logic.annotationOf(volume, node), matrixOf(volume)
    path = tmp_path / "scene.mrb"
    assert slicer.mrmlScene.WriteToMRB(str(path))
    slicer.mrmlScene.Clear(False)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    slicer.mrmlScene.SetURL(str(next(tmp_path.rglob("*.mrml"))))
    assert slicer.mrmlScene.Import()
    node = slicer.mrmlScene.GetFirstNodeByName("Result")
    volume = WorkRecord(node).volumeNode
    after = logic.annotationOf(volume, node)
    # The application turns axes of volumes that are left-handed: what counts is the place.
    k, j, i = np.indices(before.labels.shape).reshape(3, -1)
    places = np.linalg.inv(matrixOf(volume)) @ then @ np.stack([i, j, k, np.ones_like(i)])
    x, y, z = np.rint(places[:3]).astype(int)
    assert np.array_equal(after.labels[z, y, x], before.labels[k, j, i])
    index = 2 if after.labels[2, 0, 0] != 255 else 4
    assert logic.confirmedSlices(volume, node) == [ConfirmedSlice(2, index)]


def matrixOf(volume):
    matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
    volume.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def test_whatIsBegunFromScratchLearnsAllItsSegments(logic, makeVolume):
    volume = makeVolume()
    node = logic.beginFromScratch(volume)
    segmentation = node.GetSegmentation()
    segmentation.AddEmptySegment("second", "Second")
    paint(node, volume, 1, lambda voxels: voxels.__setitem__(np.s_[3, 2:5, 4:6], 1))
    voxels = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    voxels[3, 6:8, 4:6] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, node, "second", volume)
    assert logic.confirmSlice(volume, node, 2, 3) is None
    labels = logic.annotationOf(volume, node).plane(2, 3)
    assert np.unique(labels).tolist() == [0, 1, 2]
    assert (labels[6:8, 4:6] == 2).all()
    assert WorkRecord(node).volumeNode is volume
    assert not SegmentWriter.hasForeignSegments(node)


def test_nothingIsBegunOnAVolumeThatCannotBeUsed(logic, scene):
    with pytest.raises(ValueError, match="Select the volume"):
        logic.beginFromScratch(None)
    assert scene.GetFirstNodeByClass("vtkMRMLSegmentationNode") is None
