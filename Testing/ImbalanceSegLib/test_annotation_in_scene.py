"""What was painted comes back with the scene, voxel by voxel and slice by slice."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.annotation.files import load_annotation, save_annotation
from imbalanceseg.errors import InputError
from ImbalanceSegLib.Scene.AnnotationVolume import AnnotationVolume


def painted(volume, classes=None):
    """Two finished slices of different axes, a stroke and a click."""
    annotation = AnnotationVolume.ofVolume(volume).read()
    annotation = Annotation(annotation.grid, classes)
    _, height, width = annotation.labels.shape
    plane = np.zeros((height, width), np.uint8)
    plane[2:5, 3:6] = 1
    annotation.paint_slice(2, 3, plane)
    other = np.zeros(annotation.labels.shape[:2], np.uint8)
    other[1:3, 2] = 2
    annotation.paint_slice(0, 4, other)
    annotation.click(annotation.grid.index_to_physical((6, 6, 6)), 2, radius_mm=2.0)
    return annotation


def assertSame(first, second):
    np.testing.assert_array_equal(first.labels, second.labels)
    assert set(first.confirmed) == set(second.confirmed)
    assert first.classes == second.classes
    np.testing.assert_allclose(first.grid.matrix, second.grid.matrix, atol=1e-6)
    np.testing.assert_allclose(first.grid.origin_mm, second.grid.origin_mm, atol=1e-4)


@pytest.mark.parametrize("classes", [None, (1, 2)])
def test_writtenIsRead(makeVolume, geometry, classes):
    volume = makeVolume(geometry.ijkToRAS, geometry.parentToWorld)
    annotation = painted(volume, classes)
    AnnotationVolume.ofVolume(volume).write(annotation)
    assertSame(AnnotationVolume.ofVolume(volume).read(), annotation)


def test_nothingIsSaidAtFirst(makeVolume, geometry):
    volume = makeVolume(geometry.ijkToRAS, geometry.parentToWorld)
    annotation = AnnotationVolume.ofVolume(volume).read()
    assert not annotation.known.any()
    assert not annotation.confirmed
    # It moves with the volume.
    node = AnnotationVolume.ofVolume(volume).node
    assert node.GetTransformNodeID() == volume.GetTransformNodeID()


def test_fileOfTheSceneIsOneOfTheEngine(makeVolume, geometry, tmp_path):
    volume = makeVolume(geometry.ijkToRAS)
    annotation = painted(volume, (2, 1))
    AnnotationVolume.ofVolume(volume).write(annotation)
    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(tmp_path / "annotation.nrrd"))
    assert storage.WriteData(AnnotationVolume.ofVolume(volume).node)
    assertSame(load_annotation(tmp_path / "annotation.nrrd"), annotation)


def test_fileOfTheEngineOpensInTheScene(makeVolume, geometry, tmp_path):
    volume = makeVolume(geometry.ijkToRAS)
    annotation = painted(volume)
    save_annotation(annotation, tmp_path / "annotation.seg.nrrd")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(tmp_path / "annotation.seg.nrrd"))
    assert storage.ReadData(node)
    assertSame(AnnotationVolume(node).read(), annotation)


def test_comesBackWithTheScene(makeVolume, geometry, tmp_path):
    volume = makeVolume(geometry.ijkToRAS)
    annotation = painted(volume)
    holder = AnnotationVolume.ofVolume(volume)
    holder.write(annotation)
    name = holder.node.GetName()
    storage = slicer.vtkMRMLNRRDStorageNode()
    storage.SetFileName(str(tmp_path / "annotation.nrrd"))
    slicer.mrmlScene.AddNode(storage)
    holder.node.SetAndObserveStorageNodeID(storage.GetID())
    assert storage.WriteData(holder.node)
    slicer.mrmlScene.SetURL(str(tmp_path / "scene.mrml"))
    slicer.mrmlScene.SetRootDirectory(str(tmp_path))
    assert slicer.mrmlScene.Commit()

    opened = slicer.vtkMRMLScene()
    for kind in (
        slicer.vtkMRMLLabelMapVolumeNode,
        slicer.vtkMRMLLabelMapVolumeDisplayNode,
        slicer.vtkMRMLNRRDStorageNode,
        slicer.vtkMRMLScalarVolumeNode,
    ):
        opened.RegisterNodeClass(kind())
    opened.SetURL(str(tmp_path / "scene.mrml"))
    opened.Import()
    node = opened.GetFirstNodeByName(name)
    assertSame(AnnotationVolume(node).read(), annotation)


def test_damagedAttributesAreASentence(makeVolume, geometry):
    volume = makeVolume(geometry.ijkToRAS)
    holder = AnnotationVolume.ofVolume(volume)
    holder.node.SetAttribute("ImbalanceSeg_ConfirmedSlices", "[[7, 1]]")
    with pytest.raises(InputError, match="slice"):
        holder.read()
