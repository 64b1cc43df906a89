"""What the engine finds lies where the volume shows it, and says what it is."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from scipy.spatial import cKDTree

BRIGHT = 1000


def worldPoints(mask, ijkToRAS, parentToWorld):
    """RAS points in world of the voxels of a ``[k, j, i]`` mask."""
    ijk = np.argwhere(mask)[:, ::-1]
    homogeneous = np.column_stack([ijk, np.ones(len(ijk))])
    whole = ijkToRAS if parentToWorld is None else parentToWorld @ ijkToRAS
    return (homogeneous @ whole.T)[:, :3]


def worldPointsOfSegment(segmentationNode, segmentID):
    """RAS points in world of a segment's voxels, from what the segment itself says."""
    image = (
        segmentationNode.GetSegmentation()
        .GetSegment(segmentID)
        .GetRepresentation(
            slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
        )
    )
    label = segmentationNode.GetSegmentation().GetSegment(segmentID).GetLabelValue()
    extent = image.GetExtent()
    scalars = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
    voxels = scalars.reshape(image.GetDimensions()[::-1]) == label
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    shift = np.eye(4)
    shift[:3, 3] = extent[::2]
    return throughParents(
        segmentationNode, worldPoints(voxels, slicer.util.arrayFromVTKMatrix(matrix) @ shift, None)
    )


def throughParents(node, points):
    transform = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        node.GetParentTransformNode(), None, transform
    )
    return np.array([transform.TransformPoint(point) for point in points])


def assertSamePoints(first, second):
    assert len(first) == len(second) > 0
    assert cKDTree(first).query(second)[0].max() < 1e-3
    assert cKDTree(second).query(first)[0].max() < 1e-3


@pytest.fixture
def segmented(makeVolume, makeLogic, geometry):
    volume = makeVolume(geometry.ijkToRAS, geometry.parentToWorld)
    output = makeLogic().segment(volume, model="airway")
    return volume, output


def test_segmentLiesOnTheStructure(segmented, geometry):
    volume, output = segmented
    bright = slicer.util.arrayFromVolume(volume) >= BRIGHT
    (segmentID,) = output.segmentIDs
    assertSamePoints(
        worldPointsOfSegment(output.segmentationNode, segmentID),
        worldPoints(bright, geometry.ijkToRAS, geometry.parentToWorld),
    )


def test_segmentExportsOnTheVolumesGrid(segmented):
    volume, output = segmented
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(
        output.segmentationNode, output.segmentIDs[0], volume
    )
    assert np.array_equal(voxels, slicer.util.arrayFromVolume(volume) >= BRIGHT)


def test_mapLiesOnTheVolume(segmented, geometry):
    volume, output = segmented
    hardness = output.maps["hardness"]
    scan = slicer.util.arrayFromVolume(volume).astype(np.float32)
    expected = np.exp(-(((scan - BRIGHT) / 300) ** 2))
    assert slicer.util.arrayFromVolume(hardness).dtype == np.float32
    np.testing.assert_allclose(slicer.util.arrayFromVolume(hardness), expected, atol=1e-6)
    matrix = vtk.vtkMatrix4x4()
    hardness.GetIJKToRASMatrix(matrix)
    np.testing.assert_allclose(slicer.util.arrayFromVTKMatrix(matrix), geometry.ijkToRAS, atol=1e-9)
    assert hardness.GetTransformNodeID() == volume.GetTransformNodeID()


def test_segmentationRefersToTheVolume(segmented):
    volume, output = segmented
    node = output.segmentationNode
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    assert node.GetNodeReference(role) is volume
    assert node.GetTransformNodeID() == volume.GetTransformNodeID()
    text = node.GetSegmentation().GetConversionParameter(
        slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    )
    reference = slicer.vtkOrientedImageData()
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(text, reference, False)
    matrix, expected = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    reference.GetImageToWorldMatrix(matrix)
    volume.GetIJKToRASMatrix(expected)
    np.testing.assert_allclose(
        slicer.util.arrayFromVTKMatrix(matrix), slicer.util.arrayFromVTKMatrix(expected), atol=1e-6
    )
    assert reference.GetDimensions() == volume.GetImageData().GetDimensions()


def tagOf(segment, name):
    value = vtk.reference("")
    assert segment.GetTag(name, value), f"the segment has no tag {name}"
    return str(value)


def test_segmentSaysWhatItIsAndWhoMadeIt(makeVolume, makeLogic):
    output = makeLogic().segment(makeVolume(), model="airway")
    segment = output.segmentationNode.GetSegmentation().GetSegment(output.segmentIDs[0])
    assert segment.GetName() == "Airway tree"
    np.testing.assert_allclose(segment.GetColor(), np.array([128, 196, 226]) / 255, atol=1e-6)
    assert tagOf(segment, "DICOM.SegmentAlgorithmType") == "AUTOMATIC"
    assert tagOf(segment, "DICOM.SegmentAlgorithmName") == "ImbalanceSeg airway 1.0"
    text = tagOf(segment, segment.GetTerminologyEntryTagName())
    entry = slicer.vtkSlicerTerminologyEntry()
    assert slicer.modules.terminologies.logic().DeserializeTerminologyEntry(text, entry)
    assert entry.GetTerminologyContextName() == "Segmentation category and type - ImbalanceSeg"
    assert entry.GetCategoryObject().GetCodeValue() == "123037004"
    assert entry.GetTypeObject().GetCodeValue() == "110726009"
    assert entry.GetTypeObject().GetCodingSchemeDesignator() == "SCT"
    assert output.notes == ("Made by thresholding.",)


def test_mapIsShownAsHeat(makeVolume, makeLogic):
    output = makeLogic().segment(makeVolume(), model="airway")
    display = output.maps["hardness"].GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0.0, 1.0)
    assert not display.GetAutoWindowLevel()
    assert display.GetApplyThreshold()
    assert not display.GetAutoThreshold()
    assert 0 < display.GetLowerThreshold() < 0.5
    assert display.GetUpperThreshold() == 1.0
    # Inferno comes with the application; without it the built-in table stands in.
    assert display.GetColorNode().GetName() in ("Inferno", "Iron")


def test_mapsAreMadeOnlyWhenAskedFor(makeVolume, makeLogic, scene):
    output = makeLogic().segment(makeVolume(), model="airway", maps=())
    assert output.maps == {}
    # The volume, and what the engine said, which is no map.
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 2
    assert scene.GetNumberOfNodesByClass("vtkMRMLLabelMapVolumeNode") == 1


def test_resultsStandInTheStudyOfTheVolume(makeVolume, makeLogic, scene):
    from ImbalanceSegLib.Scene.SubjectHierarchy import placeInStudyOf

    volume = makeVolume()
    output = makeLogic().segment(volume, model="airway")
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    constants = slicer.vtkMRMLSubjectHierarchyConstants
    root = hierarchy.GetSceneItemID()
    patient = hierarchy.CreateSubjectItem(root, "P")
    study = hierarchy.CreateStudyItem(patient, "S")
    hierarchy.CreateItem(study, volume)
    item = hierarchy.CreateItem(root, output.segmentationNode)
    placeInStudyOf(volume, output.segmentationNode)
    assert hierarchy.GetItemParent(item) == study
    folder = hierarchy.CreateFolderItem(study, "Mine")
    hierarchy.SetItemParent(item, folder)
    placeInStudyOf(volume, output.segmentationNode)
    assert hierarchy.GetItemParent(item) == folder
    assert hierarchy.GetItemAncestorAtLevel(item, constants.GetDICOMLevelStudy()) == study


def test_nothingFoundLeavesNoEmptySegment(makeVolume, makeLogic):
    output = makeLogic("empty").segment(makeVolume(), model="airway")
    assert output.segmentIDs == ()
    assert output.segmentationNode.GetSegmentation().GetNumberOfSegments() == 0
