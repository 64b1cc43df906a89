"""What is painted is learned, shown on the way, and taken back as one step."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicer

from imbalanceseg.client import EngineError
from imbalanceseg.errors import Cancelled
from imbalanceseg.geometry import Grid
from imbalanceseg.progress import ProgressEvent
from ImbalanceSegLib.Scene.MapWriter import MapWriter
from ImbalanceSegLib.Scene.SegmentAlgorithms import algorithmsOf
from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter
from ImbalanceSegLib.Scene.VolumeGeometry import imageOfVolume
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord

sys.path.insert(0, str(Path(__file__).parent))
support = importlib.import_module("correction_bench")
SECONDS = support.SECONDS
SEGMENT_1 = support.SEGMENT_1
Ends = support.Ends
adapted = support.adapted
addForeign = support.addForeign
bench = support.bench
benchOf = support.benchOf
foreign = support.foreign
made = support.made
nothing = support.nothing
own = support.own
paint = support.paint
plain = support.plain
world = support.world


def test_whatWasPaintedIsTaught(bench):
    bench.annotation.confirmSlice(bench.volume, bench.node, 2, 3)
    bench.annotation.confirmSlice(bench.volume, bench.node, 0, 5)
    bench.correction.startAdapt(bench.node, SECONDS)
    call = bench.client.last("adapt")
    assert (call.model, call.seconds, call.prepare_clicks) == ("airway", SECONDS, True)
    assert call.confirmed == [(2, 3), (0, 5)]
    assert not hasattr(call, "base")
    assert not hasattr(call, "names")
    labels = sitk.GetArrayFromImage(call.annotation)
    expected = own(bench)
    assert np.array_equal(labels[3], expected[3])
    assert np.array_equal(labels[:, :, 5], expected[:, :, 5])
    assert np.all(np.delete(labels, 3, 0)[:, :, [0, 12]] == 255)
    assert Grid.of(call.annotation).same_as(Grid.of(imageOfVolume(bench.volume)))


def test_resultIsOneStepThatCanBeTakenBack(bench):
    theirs = addForeign(bench)
    before, engine = own(bench), bench.record.engineLabels().copy()
    bench.annotation.confirmSlice(bench.volume, bench.node, 2, 3)
    expected = adapted(bench)
    expected[3] = before[3]
    ends, previews = Ends(), []
    bench.correction.startAdapt(
        bench.node, SECONDS, None, ends, onPreview=lambda: previews.append(own(bench))
    )
    call = bench.client.last("adapt")
    call.on_preview(made(bench, 0 * expected).images["labels"])
    bench.client.deliver(call, made(bench, adapted(bench), maps=("hardness",)))
    (outcome,) = ends
    assert outcome.succeeded, outcome.sentence
    assert outcome.value.segmentationNode is bench.node
    assert outcome.value.segmentIDs == (SEGMENT_1,)
    assert outcome.value.notes == ("Adapted.",)
    assert np.array_equal(own(bench), expected)
    assert not np.delete(previews[0], 3, 0).any()
    assert np.array_equal(previews[0][3], before[3])
    assert np.array_equal(foreign(bench), theirs)
    assert np.array_equal(bench.record.engineLabels(), np.roll(engine, 1, axis=2))
    assert bench.record.steps[-1] == {"kind": "adapt", "job": "b" * 32, "model": "adapted-b"}
    assert bench.record.modelName == "airway"
    assert bench.record.report["model"]["name"] == "airway-child"
    assert algorithmsOf(bench.node, [SEGMENT_1])[SEGMENT_1] == (
        "SEMIAUTOMATIC",
        "ImbalanceSeg airway-child 1.0.1",
    )
    assert bench.correction.adaptedModels(bench.node) == ["adapted-b"]
    # One step for the editor, with the segments as they were.
    assert len(bench.saved) == 1
    assert np.array_equal(bench.saved[0], before)

    assert bench.correction.canUndo(bench.node)
    assert bench.correction.undo(bench.node) == "adapt"
    assert np.array_equal(own(bench), before)
    assert np.array_equal(bench.record.engineLabels(), engine)
    assert bench.record.baseJob == "a" * 32
    assert bench.record.report == {"of": "first"}
    assert MapWriter.mapOf(bench.node, "hardness") is None
    assert algorithmsOf(bench.node, [SEGMENT_1])[SEGMENT_1][0] == "AUTOMATIC"
    assert np.array_equal(foreign(bench), theirs)
    assert not bench.correction.canUndo(bench.node)
    assert bench.correction.undo(bench.node) == ""


def test_resultLiesInTheWorldWhereTheVolumeDoes(bench):
    bench.annotation.confirmSlice(bench.volume, bench.node, 2, 6)
    labels = np.zeros_like(own(bench))
    assert not own(bench)[6].any()
    labels[4, 7, 9] = 1
    bench.correction.startAdapt(bench.node, SECONDS)
    bench.client.deliver(bench.client.last("adapt"), made(bench, labels))
    assert own(bench).sum() == 1
    name = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    bench.node.CreateClosedSurfaceRepresentation()
    surface = bench.node.GetSegmentation().GetSegment(SEGMENT_1).GetRepresentation(name)
    centre = np.mean([surface.GetPoint(n) for n in range(surface.GetNumberOfPoints())], axis=0)
    inWorld = [0.0, 0.0, 0.0]
    bench.node.TransformPointToWorld(list(centre), inWorld)
    np.testing.assert_allclose(inWorld, world(bench, (9, 7, 4)), atol=0.3)


def test_mapOfBeforeComesBack(plain):
    first = np.linspace(0, 1, own(plain).size, dtype=np.float32).reshape(own(plain).shape)
    MapWriter(plain.node, plain.volume).write("hardness", first)
    plain.annotation.confirmSlice(plain.volume, plain.node, 2, 3)
    plain.correction.startAdapt(plain.node, SECONDS)
    plain.client.deliver(
        plain.client.last("adapt"), made(plain, adapted(plain), maps=("hardness",))
    )
    node = MapWriter.mapOf(plain.node, "hardness")
    assert np.all(slicer.util.arrayFromVolume(node) == np.float32(0.25))
    plain.correction.undo(plain.node)
    np.testing.assert_allclose(slicer.util.arrayFromVolume(node), first, atol=0.003)


def test_cancelTakesPreviewsBack(bench):
    theirs = addForeign(bench)
    before = own(bench)
    bench.annotation.confirmSlice(bench.volume, bench.node, 2, 3)
    ends = Ends()
    bench.correction.startAdapt(bench.node, SECONDS, None, ends)
    call = bench.client.last("adapt")
    preview = adapted(bench)
    preview[0, 0:2, 0:2] = 2
    call.on_preview(made(bench, preview).images["labels"])
    assert not np.array_equal(own(bench), before)
    assert len(SegmentWriter.ownSegments(bench.node)) == 2
    bench.correction.cancel()
    assert ends[0].cancelled
    assert np.array_equal(own(bench), before)
    assert SegmentWriter.ownSegments(bench.node) == {1: SEGMENT_1}
    assert np.array_equal(foreign(bench), theirs)
    assert bench.record.baseJob == "a" * 32
    assert bench.client.cancelled == [call.task]
    # What comes late changes nothing.
    call.on_preview(made(bench, preview).images["labels"])
    bench.client.deliver(call, Cancelled())
    assert np.array_equal(own(bench), before)
    assert len(ends) == 1
    assert not bench.correction.isRunning


def test_failureTakesPreviewsBackAndSaysWhy(plain):
    before = own(plain)
    plain.annotation.confirmSlice(plain.volume, plain.node, 2, 3)
    ends = Ends()
    plain.correction.startAdapt(plain.node, SECONDS, None, ends)
    call = plain.client.last("adapt")
    call.on_preview(made(plain, adapted(plain)).images["labels"])
    plain.client.deliver(call, EngineError("finetune", "It has no use.", "Paint more."))
    assert ends[0].sentence == "It has no use. Paint more."
    assert np.array_equal(own(plain), before)


def test_whatIsPaintedMeanwhileStays(plain):
    plain.annotation.confirmSlice(plain.volume, plain.node, 2, 3)
    before = own(plain)
    plain.correction.startAdapt(plain.node, SECONDS)
    call = plain.client.last("adapt")
    call.on_preview(made(plain, adapted(plain)).images["labels"])

    def stroke(voxels):
        voxels[6, 0:2, 0:3] = 1

    paint(plain, stroke)
    call.on_preview(made(plain, 0 * before).images["labels"])
    assert np.all(own(plain)[6, 0:2, 0:3] == 1)
    plain.client.deliver(call, made(plain, 0 * before))
    assert np.all(own(plain)[6, 0:2, 0:3] == 1)
    assert own(plain)[[0, 1, 2, 4, 5]].sum() == 0
    # It is a correction for the next adaptation, and outlives the undo.
    labels = plain.annotation.annotationOf(plain.volume, plain.node).labels
    assert np.all(labels[6, 0:2, 0:3] == 1)
    plain.correction.undo(plain.node)
    before[6, 0:2, 0:3] = 1
    assert np.array_equal(own(plain), before)


def test_correctionsAreNotForgottenByTheNextAdaptation(plain):
    def stroke(voxels):
        voxels[6, 0:2, 0:3] = 1

    paint(plain, stroke)
    plain.correction.startAdapt(plain.node, SECONDS)
    call = plain.client.last("adapt")
    taught = sitk.GetArrayFromImage(call.annotation)
    assert np.array_equal(np.argwhere(taught == 1)[:, 0], [6] * 6)
    # The engine gives back what it was taught.
    plain.client.deliver(call, made(plain, own(plain)))
    plain.correction.startAdapt(plain.node, SECONDS)
    again = plain.client.last("adapt")
    assert np.array_equal(sitk.GetArrayFromImage(again.annotation), taught)
    assert again.model == "airway"
    plain.correction.cancel()
    plain.correction.undo(plain.node)
    # Wiping the stroke out now leaves nothing to teach.
    paint(plain, lambda voxels: voxels.__setitem__(np.s_[6, 0:2, 0:3], 0))
    with pytest.raises(ValueError, match="Nothing was painted"):
        plain.correction.startAdapt(plain.node, SECONDS)


def test_finishNowKeepsTheBestSoFar(plain):
    plain.annotation.confirmSlice(plain.volume, plain.node, 2, 3)
    plain.correction.finishNow()
    plain.correction.startAdapt(plain.node, SECONDS)
    call = plain.client.last("adapt")
    plain.correction.finishNow()
    assert plain.client.finished == [call.task]
    plain.client.deliver(call, made(plain, adapted(plain)))
    assert plain.record.steps[-1]["kind"] == "adapt"


def test_otherModelsAndNoneCanBeStartedFrom(plain):
    plain.annotation.confirmSlice(plain.volume, plain.node, 2, 3)
    for model, asked in (("lesion", "lesion"), ("", None)):
        plain.correction.startAdapt(plain.node, SECONDS, model, device="cpu")
        call = plain.client.last("adapt")
        assert (call.model, call.device) == (asked, "cpu")
        plain.correction.cancel()


def test_modelIsFoundByTheNameOfItsCard(plain):
    plain.client.info = {"models": [{"id": "airway-2", "name": "airway"}]}
    plain.annotation.confirmSlice(plain.volume, plain.node, 2, 3)
    plain.correction.startAdapt(plain.node, SECONDS)
    assert plain.client.last("adapt").model == "airway-2"


def test_progressIsToldUntilTheEnd(plain):
    plain.annotation.confirmSlice(plain.volume, plain.node, 2, 3)
    events = []
    plain.correction.startAdapt(plain.node, SECONDS, onProgress=events.append)
    call = plain.client.last("adapt")
    event = ProgressEvent("finetune", 1, 5, "", {"loss": 0.5})
    call.task.on_event(event)
    plain.correction.cancel()
    call.task.on_event(event)
    assert events == [event]


def test_fromScratch(makeVolume, geometry):
    bench = benchOf(makeVolume(geometry.ijkToRAS, geometry.parentToWorld), geometry)
    slicer.mrmlScene.RemoveNode(bench.node)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
    node.CreateDefaultDisplayNodes()
    node.SetAndObserveTransformNodeID(bench.volume.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(bench.volume)
    bench.node, bench.record = node, WorkRecord(node)
    theirs = np.zeros(slicer.util.arrayFromVolume(bench.volume).shape, np.uint8)
    node.GetSegmentation().AddEmptySegment("lesion", "My lesion", [0.1, 0.2, 0.3])
    paint(bench, lambda voxels: voxels.__setitem__(np.s_[3, 2:6, 3:9], 1), "lesion")
    theirs = addForeign(bench)
    with pytest.raises(ValueError, match="Nothing was painted"):
        bench.correction.startAdapt(node, SECONDS)
    bench.annotation.adoptSegment(node, "lesion", 1)
    bench.annotation.confirmSlice(bench.volume, node, 2, 3)
    ends = Ends()
    bench.correction.startAdapt(node, SECONDS, None, ends)
    call = bench.client.last("adapt")
    assert call.model is None
    assert call.names == {1: "My lesion"}
    before = own(bench)
    labels = np.zeros_like(before)
    labels[2:5, 2:6, 3:9] = 1
    bench.client.deliver(call, made(bench, labels))
    assert ends[0].succeeded, ends[0].sentence
    assert np.array_equal(own(bench), labels)
    assert np.array_equal(foreign(bench), theirs)
    segment = node.GetSegmentation().GetSegment("lesion")
    assert segment.GetName() == "My lesion"
    np.testing.assert_allclose(segment.GetColor(), [0.1, 0.2, 0.3], atol=1e-6)
    # The next one begins from nothing again, and clicks have something to go on from.
    assert bench.record.baseJob == "b" * 32
    bench.correction.startAdapt(node, SECONDS)
    assert bench.client.last("adapt").model is None
    bench.correction.cancel()
    assert bench.correction.undo(node) == "adapt"
    assert np.array_equal(own(bench), before)
    assert bench.record.baseJob == ""
    assert bench.record.modelName == ""
