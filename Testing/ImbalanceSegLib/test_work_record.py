"""What the engine has done stands in the scene, and comes back with it."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import slicer

from ImbalanceSegLib.Scene.SegmentReader import SegmentReader
from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord

BRIGHT = 1000


@pytest.fixture
def segmented(makeVolume, makeLogic, geometry):
    volume = makeVolume(geometry.ijkToRAS, geometry.parentToWorld)
    return volume, makeLogic().segment(volume, model="two-classes").segmentationNode


def test_recordSaysWhatWasDone(segmented):
    volume, node = segmented
    record = WorkRecord(node)
    assert record.volumeNode is volume
    assert (record.modelName, record.modelVersion) == ("two-classes", "1.0")
    assert [segment.name for segment in record.segments] == ["Airway tree", "Trachea"]
    assert record.segments[0].color == (128, 196, 226)
    assert record.segments[1].type.value == "44567001"
    assert record.report["model"] == {"name": "two-classes", "version": "1.0"}
    (step,) = record.steps
    assert (step["kind"], step["model"]) == ("segment", "two-classes")
    assert len(record.baseJob) == 32


def test_labelsOfTheEngineAreKeptHidden(segmented):
    volume, node = segmented
    record = WorkRecord(node)
    labels = record.engineLabels()
    scan = slicer.util.arrayFromVolume(volume)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, (scan >= BRIGHT).astype(int) + (scan >= 1600))
    assert record.labels.GetHideFromEditors()
    assert record.labels.GetSaveWithScene()
    assert record.labels.GetTransformNodeID() == volume.GetTransformNodeID()
    with pytest.raises(ValueError, match="read-only"):
        labels[0] = 1
    record.setEngineLabels(np.zeros_like(labels))
    assert not record.engineLabels().any()
    assert slicer.util.arrayFromVolume(record.labels).flags.writeable


def test_segmentsReadBackAreTheLabels(segmented):
    volume, node = segmented
    assert np.array_equal(SegmentReader.labelsOf(node, volume), WorkRecord(node).engineLabels())


def test_stepsGoBackAndForth(segmented):
    record = WorkRecord(segmented[1])
    first = record.baseJob
    record.push("click", "b" * 32)
    record.push("adapt", "c" * 32, "adapted-1")
    assert record.baseJob == "c" * 32
    assert record.pop() == {"kind": "adapt", "job": "c" * 32, "model": "adapted-1"}
    assert record.pop()["kind"] == "click"
    assert record.baseJob == first
    record.push("segment", "d" * 32)
    assert [step["job"] for step in record.steps] == ["d" * 32]


def test_nodeWithoutARecordIsNoFault(scene):
    record = WorkRecord(scene.AddNewNodeByClass("vtkMRMLSegmentationNode"))
    assert record.volumeNode is None
    assert (record.modelName, record.baseJob, record.steps) == ("", "", [])
    assert (record.segments, record.report, record.segmentIDs) == ((), {}, {})
    assert record.engineLabels() is None
    assert record.pop() is None
    with pytest.raises(RuntimeError, match="removed"):
        record.setEngineLabels(np.zeros((1, 1, 1), np.uint8))


def test_damagedRecordIsNoFault(segmented):
    _, node = segmented
    for name in ("segments", "segmentIDs", "steps", "report"):
        for text in ("{", "3", "[3]", '{"1": 3}'):
            node.SetAttribute(f"ImbalanceSeg.{name}", text)
            record = WorkRecord(node)
            assert isinstance(record.segments, tuple)
            assert isinstance(record.segmentIDs, dict)
            assert isinstance(record.steps, list)
            assert isinstance(record.report, dict)
            assert isinstance(record.baseJob, str)


def test_labelsOfAnotherSizeAreNotBelieved(segmented):
    volume, node = segmented
    slicer.util.updateVolumeFromArray(volume, np.zeros((3, 4, 5), np.int16))
    assert WorkRecord(node).engineLabels() is None


def openScene(path):
    """What the application does with an .mrb, which needs its cache folder for that."""
    with zipfile.ZipFile(path) as archive:
        archive.extractall(path.with_suffix(""))
    (file,) = path.with_suffix("").rglob("*.mrml")
    slicer.mrmlScene.SetURL(str(file))
    assert slicer.mrmlScene.Import()


def test_recordComesBackWithTheScene(segmented, tmp_path):
    _, node = segmented
    record = WorkRecord(node)
    record.push("click", "b" * 32)
    # Names and reports hold what would break a careless file format.
    record._keep("ImbalanceSeg.report", {"note": 'a;b:c "d" <é> & 100 %'})
    path = tmp_path / "scene.mrb"
    assert slicer.mrmlScene.WriteToMRB(str(path))
    slicer.mrmlScene.Clear(False)
    openScene(path)
    opened = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    found = WorkRecord(opened)
    assert [step["job"] for step in found.steps][1:] == ["b" * 32]
    assert found.modelName == "two-classes"
    assert found.report == {"note": 'a;b:c "d" <é> & 100 %'}
    assert len(found.segments) == 2
    assert found.labels.GetHideFromEditors()
    # The application may turn the axes of what it opens, of all volumes alike.
    scan = slicer.util.arrayFromVolume(found.volumeNode)
    labels = (scan >= BRIGHT).astype(np.uint8) + (scan >= 1600)
    assert np.array_equal(found.engineLabels(), labels)
    assert np.array_equal(SegmentReader.labelsOf(opened, found.volumeNode), labels)
    assert set(SegmentWriter.ownSegments(opened)) == {1, 2}
