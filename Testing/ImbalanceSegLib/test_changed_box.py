"""A change of a box changes that box of the own segments, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk

from ImbalanceSegLib.Scene.SegmentReader import SegmentReader
from ImbalanceSegLib.Scene.SegmentVoxels import SegmentVoxels
from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord

START = (2, 1, 3)
SIZE = (7, 6, 3)
WINDOW = tuple(slice(a, a + n) for a, n in zip(START, SIZE, strict=True))[::-1]


@pytest.fixture
def segmented(makeVolume, makeLogic, geometry):
    volume = makeVolume(geometry.ijkToRAS, geometry.parentToWorld)
    return volume, makeLogic().segment(volume, model="two-classes").segmentationNode


def aChange(seed=1):
    """Labels of a box in which everything is mixed, and where they count."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, SIZE[::-1]).astype(np.uint8)
    return labels, random.random(labels.shape) < 0.6


def expectedAfter(before, labels, mask):
    after = before.copy()
    after[WINDOW][mask] = labels[mask]
    return after


def addUserSegment(node, volume, name="painted"):
    voxels = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    voxels[2:6, 3:7, 1:10] = 1
    node.GetSegmentation().AddEmptySegment(name, name.title(), [0.1, 0.2, 0.3])
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, node, name, volume)


def voxelsOf(node, segmentID, volume):
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentID, volume).copy()


def tagOf(node, segmentID, name="DICOM.SegmentAlgorithmType"):
    value = vtk.reference("")
    assert node.GetSegmentation().GetSegment(segmentID).GetTag(name, value)
    return str(value)


def test_boxIsChangedWhereTheMaskSays(segmented):
    volume, node = segmented
    before = SegmentReader.labelsOf(node, volume)
    labels, mask = aChange()
    changed = SegmentWriter(node, volume).writeBox(labels, START, mask)
    assert set(changed) == set(SegmentWriter.ownSegments(node).values())
    expected = expectedAfter(before, labels, mask)
    assert np.array_equal(SegmentReader.labelsOf(node, volume), expected)
    # Through the application's own reading, too.
    for label, segmentID in SegmentWriter.ownSegments(node).items():
        assert np.array_equal(voxelsOf(node, segmentID, volume), expected == label)
        assert tagOf(node, segmentID) == "SEMIAUTOMATIC"


@pytest.mark.parametrize("shared", [False, True], ids=["own layer", "shared layer"])
def test_foreignSegmentsStayVoxelIdentical(segmented, shared):
    volume, node = segmented
    addUserSegment(node, volume)
    if shared:
        node.GetSegmentation().CollapseBinaryLabelmaps(True)
        assert node.GetSegmentation().GetNumberOfLayers() == 1
    painted = voxelsOf(node, "painted", volume)
    before = SegmentReader.labelsOf(node, volume)
    assert painted.any()
    labels, mask = aChange()
    SegmentWriter(node, volume).writeBox(labels, START, mask)
    assert np.array_equal(voxelsOf(node, "painted", volume), painted)
    expected = expectedAfter(before, labels, mask)
    assert np.array_equal(SegmentReader.labelsOf(node, volume), expected)


def test_erasedVoxelsOfASharedLayerEraseNobodyElse(segmented):
    volume, node = segmented
    addUserSegment(node, volume)
    node.GetSegmentation().CollapseBinaryLabelmaps(True)
    painted = voxelsOf(node, "painted", volume)
    whole = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    SegmentWriter(node, volume).writeBox(whole)
    assert not SegmentReader.labelsOf(node, volume).any()
    assert np.array_equal(voxelsOf(node, "painted", volume), painted)


def test_wholeVolumeIsRestoredAsItWas(segmented):
    volume, node = segmented
    before = SegmentReader.labelsOf(node, volume)
    labels, mask = aChange()
    writer = SegmentWriter(node, volume)
    writer.writeBox(labels, START, mask)
    writer.writeBox(before)
    assert np.array_equal(SegmentReader.labelsOf(node, volume), before)
    writer.writeBox(np.zeros_like(before))
    writer.writeBox(before)
    assert np.array_equal(SegmentReader.labelsOf(node, volume), before)


def test_nothingNewChangesNothing(segmented):
    volume, node = segmented
    before = SegmentReader.labelsOf(node, volume)
    writer = SegmentWriter(node, volume)
    assert writer.writeBox(before) == ()
    assert writer.writeBox(before[WINDOW], START, np.zeros(SIZE[::-1], bool)) == ()
    for segmentID in SegmentWriter.ownSegments(node).values():
        assert tagOf(node, segmentID) == "AUTOMATIC"


def test_firstVoxelsOfAClassMakeItsSegment(makeVolume, makeLogic):
    volume = makeVolume()
    node = makeLogic("empty").segment(volume, model="two-classes").segmentationNode
    assert SegmentWriter.ownSegments(node) == {}
    labels, mask = aChange()
    labels[labels == 1] = 0
    SegmentWriter(node, volume).writeBox(labels, START, mask)
    assert SegmentWriter.ownSegments(node) == {2: "ImbalanceSeg_two-classes_2"}
    segment = node.GetSegmentation().GetSegment("ImbalanceSeg_two-classes_2")
    assert segment.GetName() == "Trachea"
    expected = expectedAfter(np.zeros(SegmentVoxels(node, volume).shape, np.uint8), labels, mask)
    assert np.array_equal(SegmentReader.labelsOf(node, volume), expected)


def test_removedSegmentIsMadeAgainWhenThereIsSomethingInIt(segmented):
    volume, node = segmented
    node.GetSegmentation().RemoveSegment("ImbalanceSeg_two-classes_2")
    assert SegmentWriter.ownSegments(node) == {1: "ImbalanceSeg_two-classes_1"}
    labels, mask = aChange()
    SegmentWriter(node, volume).writeBox(labels, START, mask)
    assert set(SegmentWriter.ownSegments(node)) == {1, 2}


def test_surfaceFollowsTheVoxels(segmented):
    volume, node = segmented
    node.CreateClosedSurfaceRepresentation()
    name = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    segment = node.GetSegmentation().GetSegment("ImbalanceSeg_two-classes_1")
    before = segment.GetRepresentation(name).GetBounds()
    labels = np.ones((7, 11, 13), np.uint8)
    SegmentWriter(node, volume).writeBox(labels)
    assert not np.allclose(before, segment.GetRepresentation(name).GetBounds())


def test_boxBeyondTheVolumeIsRefused(segmented):
    volume, node = segmented
    with pytest.raises(ValueError, match="beyond the volume"):
        SegmentWriter(node, volume).writeBox(np.ones((3, 3, 3), np.uint8), (12, 0, 0))


def test_segmentsOnAnotherGridAreReadAndChanged(segmented):
    volume, node = segmented
    # As the Segment Editor stores them after its geometry was changed.
    finer = slicer.vtkOrientedImageData()
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    before = SegmentReader.labelsOf(node, volume)
    for segmentID in SegmentWriter.ownSegments(node).values():
        assert logic.GetSegmentBinaryLabelmapRepresentation(node, segmentID, finer, False)
        shifted = vtk.vtkMatrix4x4()
        finer.GetImageToWorldMatrix(shifted)
        reference = slicer.vtkOrientedImageData()
        reference.DeepCopy(finer)
        spacing = reference.GetSpacing()
        reference.SetSpacing(spacing[0] / 2, spacing[1], spacing[2])
        extent = list(reference.GetExtent())
        reference.SetExtent(2 * extent[0] - 1, 2 * extent[1] + 1, *extent[2:])
        reference.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
            finer, reference, finer
        )
        assert logic.SetBinaryLabelmapToSegment(finer, node, segmentID, logic.MODE_REPLACE)
        assert SegmentVoxels(node, volume).extent(segmentID) is None
    assert np.array_equal(SegmentReader.labelsOf(node, volume), before)
    labels, mask = aChange()
    SegmentWriter(node, volume).writeBox(labels, START, mask)
    expected = expectedAfter(before, labels, mask)
    assert np.array_equal(SegmentReader.labelsOf(node, volume), expected)


def test_correctionGoesIntoTheSegmentsThatAreThere(segmented):
    from dataclasses import replace

    from ImbalanceSegLib.Engine.EngineResult import EngineResult

    volume, node = segmented
    record = WorkRecord(node)
    labels = np.zeros(SegmentVoxels(node, volume).shape, np.uint8)
    labels[1:3, 2:4, 3:5] = 2
    result = EngineResult(labels, record.segments, "adapted-7", "0.2")
    names = set(SegmentWriter.ownSegments(node).values())
    writer = SegmentWriter(node, volume)
    assert writer.write(result, isCorrection=True) == ("ImbalanceSeg_two-classes_2",)
    assert set(SegmentWriter.ownSegments(node).values()) == names
    assert node.GetSegmentation().GetNumberOfSegments() == 2
    assert tagOf(node, "ImbalanceSeg_two-classes_2") == "SEMIAUTOMATIC"
    made = tagOf(node, "ImbalanceSeg_two-classes_2", "DICOM.SegmentAlgorithmName")
    assert made == "ImbalanceSeg adapted-7 0.2"
    assert np.array_equal(SegmentReader.labelsOf(node, volume), labels)
    writer.write(replace(result, modelName="two-classes"))
    assert tagOf(node, "ImbalanceSeg_two-classes_2") == "AUTOMATIC"


@pytest.mark.parametrize(
    ("segmentID", "label"),
    [
        ("ImbalanceSeg_airway_1", 1),
        ("ImbalanceSeg_two-classes_12", 12),
        ("ImbalanceSeg_airway_", None),
        ("painted", None),
        ("Segment_1", None),
    ],
)
def test_labelIsPartOfTheID(segmentID, label):
    assert SegmentWriter.labelOf(segmentID) == label
