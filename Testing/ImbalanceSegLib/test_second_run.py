"""A second run replaces its own segment and touches nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk

from ImbalanceSegLib.Logic.AnnotationLogic import AnnotationLogic
from ImbalanceSegLib.Logic.SegmentationLogic import SegmentationLogic
from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord

BRIGHT = 1000


def voxelsOf(segmentationNode, segmentID, volume):
    return slicer.util.arrayFromSegmentBinaryLabelmap(segmentationNode, segmentID, volume).copy()


def addUserSegment(segmentationNode, volume):
    """A segment that overlaps the structure, as a user might have painted it."""
    voxels = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    voxels[2:6, 3:7, 1:10] = 1
    segmentationNode.GetSegmentation().AddEmptySegment("painted", "Painted", [0.1, 0.2, 0.3])
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, segmentationNode, "painted", volume)
    return voxels


@pytest.mark.parametrize("shared", [False, True], ids=["own layer", "shared layer"])
def test_userSegmentStaysVoxelIdentical(makeVolume, makeLogic, shared):
    volume = makeVolume()
    logic = makeLogic()
    first = logic.segment(volume, model="airway")
    node, (segmentID,) = first.segmentationNode, first.segmentIDs
    addUserSegment(node, volume)
    segmentation = node.GetSegmentation()
    if shared:
        segmentation.CollapseBinaryLabelmaps(True)
        assert segmentation.GetNumberOfLayers() == 1
    painted = voxelsOf(node, "painted", volume)
    segmentation.GetSegment("painted").SetTag("user", "mine")
    segmentation.GetSegment(segmentID).SetName("Bronchi of Mrs. X")

    scan = slicer.util.arrayFromVolume(volume)
    scan[:] = -900
    scan[4:7, 0:9, 0:6] = 1500
    slicer.util.arrayFromVolumeModified(volume)
    second = logic.segment(volume, model="airway", segmentationNode=node)

    assert second.segmentationNode is node
    assert second.segmentIDs == (segmentID,)
    assert segmentation.GetNumberOfSegments() == 2
    assert np.array_equal(voxelsOf(node, segmentID, volume), scan >= BRIGHT)
    assert painted.any()
    assert np.array_equal(voxelsOf(node, "painted", volume), painted)
    user = segmentation.GetSegment("painted")
    assert user.GetName() == "Painted"
    np.testing.assert_allclose(user.GetColor(), [0.1, 0.2, 0.3], atol=1e-6)
    assert user.GetTag("user", vtk.reference(""))
    assert segmentation.GetSegment(segmentID).GetName() == "Bronchi of Mrs. X"


def test_firstRunIntoAUsersSegmentation(makeVolume, makeLogic, scene):
    volume = makeVolume()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    painted = addUserSegment(node, volume)
    output = makeLogic().segment(volume, model="airway", segmentationNode=node)
    assert output.segmentationNode is node
    assert np.array_equal(voxelsOf(node, "painted", volume), painted)
    scan = slicer.util.arrayFromVolume(volume)
    assert np.array_equal(voxelsOf(node, output.segmentIDs[0], volume), scan >= BRIGHT)


def test_secondRunFillsTheSameMapAndRenewsTheSurface(makeVolume, makeLogic, scene):
    volume = makeVolume()
    logic = makeLogic()
    first = logic.segment(volume, model="airway")
    node, (segmentID,) = first.segmentationNode, first.segmentIDs
    node.CreateClosedSurfaceRepresentation()
    before = surfaceBounds(node, segmentID)
    scan = slicer.util.arrayFromVolume(volume)
    scan[:] = 0
    scan[1:3, 1:3, 1:3] = 2000
    slicer.util.arrayFromVolumeModified(volume)
    second = logic.segment(volume, model="airway", segmentationNode=node)
    assert second.maps["hardness"] is first.maps["hardness"]
    expected = np.exp(-(((scan.astype(np.float32) - BRIGHT) / 300) ** 2))
    hardness = slicer.util.arrayFromVolume(second.maps["hardness"])
    np.testing.assert_allclose(hardness, expected, atol=1e-6)
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 3
    assert scene.GetNumberOfNodesByClass("vtkMRMLLabelMapVolumeNode") == 1
    assert not np.allclose(before, surfaceBounds(node, segmentID))


def surfaceBounds(node, segmentID):
    name = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    return node.GetSegmentation().GetSegment(segmentID).GetRepresentation(name).GetBounds()


def test_secondRunThatFindsNothingEmptiesItsSegment(makeVolume, makeLogic):
    volume = makeVolume()
    first = makeLogic().segment(volume, model="airway")
    node, (segmentID,) = first.segmentationNode, first.segmentIDs
    painted = addUserSegment(node, volume)
    second = makeLogic("empty").segment(volume, model="airway", segmentationNode=node)
    assert second.segmentIDs == ()
    assert not voxelsOf(node, segmentID, volume).any()
    assert np.array_equal(voxelsOf(node, "painted", volume), painted)


def test_twoModelsShareASegmentation(makeVolume, makeLogic):
    volume = makeVolume()
    first = makeLogic().segment(volume, model="airway")
    node = first.segmentationNode
    second = makeLogic().segment(volume, model="two-classes", segmentationNode=node)
    assert set(first.segmentIDs).isdisjoint(second.segmentIDs)
    assert node.GetSegmentation().GetNumberOfSegments() == 3
    scan = slicer.util.arrayFromVolume(volume)
    assert np.array_equal(voxelsOf(node, first.segmentIDs[0], volume), scan >= BRIGHT)
    assert SegmentWriter.ownSegments(node) == {
        1: "ImbalanceSeg_two-classes_1",
        2: "ImbalanceSeg_two-classes_2",
    }
    assert WorkRecord(node).modelName == "two-classes"


def test_ownSegmentationFollowsTheVolumeUnderANewTransform(makeVolume, makeLogic, scene):
    volume = makeVolume()
    first = makeLogic().segment(volume, model="airway")
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "New")
    volume.SetAndObserveTransformNodeID(transform.GetID())
    second = makeLogic().segment(volume, model="airway", segmentationNode=first.segmentationNode)
    assert second.segmentationNode.GetTransformNodeID() == transform.GetID()
    assert second.maps["hardness"].GetTransformNodeID() == transform.GetID()


def test_finishedSlicesOutliveASecondRun(makeVolume, goodLink):
    """Also what was painted on after the slice was said to be finished."""
    volume, annotation = makeVolume(), AnnotationLogic()
    logic = SegmentationLogic(goodLink, annotation)
    first = logic.segment(volume, model="airway")
    node, (segmentID,) = first.segmentationNode, first.segmentIDs
    annotation.confirmSlice(volume, node, 2, 5)
    mine = voxelsOf(node, segmentID, volume)
    mine[5] = 0
    mine[5, 7:9, 2:4] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mine, node, segmentID, volume)
    logic.segment(volume, model="airway", segmentationNode=node)
    assert np.array_equal(voxelsOf(node, segmentID, volume), mine)
