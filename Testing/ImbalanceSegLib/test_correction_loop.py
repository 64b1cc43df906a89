"""The whole loop of corrections with the engine itself as a child process."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
import slicer

from ImbalanceSegLib.Engine.EngineLink import EngineLink
from ImbalanceSegLib.Engine.EngineSettings import EngineSettings
from ImbalanceSegLib.Engine.SlicerEngine import engineEnvironment
from ImbalanceSegLib.Logic.AnnotationLogic import AnnotationLogic
from ImbalanceSegLib.Logic.CorrectionLogic import CorrectionLogic
from ImbalanceSegLib.Logic.SegmentationLogic import SegmentationLogic
from ImbalanceSegLib.Scene.SegmentReader import SegmentReader
from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord

IJK_TO_RAS = np.array(
    [[-0.95, 0.2, 0.1, 20.0], [-0.2, -0.96, 0.3, -35.0], [0.1, 0.18, 1.45, 300.0], [0, 0, 0, 1.0]]
)


@pytest.fixture
def link(make_card, tmp_path):
    torch = pytest.importorskip("torch")
    from imbalanceseg.models.write import write_bundle
    from imbalanceseg.networks import WingsNet

    torch.manual_seed(3)
    card = make_card(name="random-airway", spacing_mm=(1.0, 1.0, 1.5), tile_voxels=(32, 32, 32))
    model = write_bundle(tmp_path / "models" / "random-airway", WingsNet().eval(), card).path
    environment = {**os.environ, **engineEnvironment(os.environ.get("PYTHONPATH", ""))}
    settings = EngineSettings(modelFolders=(str(model),), dataFolder=str(tmp_path / "engine"))
    made = EngineLink(settings, [sys.executable, "-m", "imbalanceseg"], environment)
    yield made
    made.close()


def phantom():
    """A bright ball in noise, and where it is; oblique, under a transform."""
    k, j, i = np.indices((20, 28, 26))
    ball = (1.5 * (k - 10)) ** 2 + (j - 14) ** 2 + (i - 12) ** 2 < 8**2
    noise = np.random.default_rng(2).normal(0, 40, ball.shape)
    voxels = (np.where(ball, 200, -200) + noise).astype(np.int16)
    q, _ = np.linalg.qr(IJK_TO_RAS[:3, :3])
    matrix = np.eye(4)
    matrix[:3, :3] = q @ np.diag([1.0, 1.0, 1.5])
    matrix[:3, 3] = IJK_TO_RAS[:3, 3]
    volume = slicer.util.addVolumeFromArray(
        voxels, slicer.util.vtkMatrixFromArray(matrix), name="Phantom"
    )
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Moved")
    moved = np.eye(4)
    moved[:3, :3], moved[:3, 3] = q.T, (5.0, -3.0, 11.0)
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(moved))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    return volume, ball, moved @ matrix


def dice(first, second):
    return 2 * np.count_nonzero(first & second) / (first.sum() + second.sum())


def paintSlice(annotation, volume, node, index, truth):
    """Paint one slice as a person would, in the segment, and finish it."""
    segmentID = SegmentWriter.ownSegments(node)[1]
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentID, volume).copy()
    voxels[index] = truth[index]
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, node, segmentID, volume)
    annotation.confirmSlice(volume, node, 2, index)


@pytest.mark.slow
def test_segmentSuggestPaintAdaptClickUndo(link, scene, tmp_path):
    volume, ball, toWorld = phantom()
    node = SegmentationLogic(link).segment(volume, model="random-airway").segmentationNode
    annotation = AnnotationLogic()
    correction = CorrectionLogic(link, annotation)
    record = WorkRecord(node)
    annotation.offerSegments(node)
    begun = SegmentReader.labelsOf(node, volume)

    suggested = correction.suggest(node, 2)
    assert len(suggested) <= 2
    assert all(one.axis in (0, 1, 2) and one.reason for one in suggested)

    for index in (3, 6, 10, 14, 17):
        paintSlice(annotation, volume, node, index, ball)
    painted = SegmentReader.labelsOf(node, volume)
    previews, stages = [], []
    activity = correction.startAdapt(
        node,
        4.0,
        "",
        None,
        lambda event: stages.append(event.stage),
        lambda: previews.append(SegmentReader.labelsOf(node, volume)),
    )
    output = activity.wait()
    adapted = SegmentReader.labelsOf(node, volume)
    assert output.segmentIDs
    assert dice(adapted > 0, ball) > 0.9
    assert np.array_equal(adapted[[3, 6, 10, 14, 17]], ball[[3, 6, 10, 14, 17]].astype(int))
    assert previews
    assert "finetune" in stages
    assert record.steps[-1]["model"] in correction.adaptedModels(node)
    assert np.array_equal(record.engineLabels(), adapted)

    # A spot of background next to the ball, said to belong to it.
    missed = (12, 24, 8)
    assert adapted[missed[::-1]] == 0
    changed = correction.click(node, (toWorld @ [*missed, 1])[:3], 1)
    assert changed > 0
    clicked = SegmentReader.labelsOf(node, volume)
    assert clicked[missed[::-1]] == 1
    assert np.array_equal(clicked[[3, 6, 10, 14, 17]], adapted[[3, 6, 10, 14, 17]])
    correction.click(node, (toWorld @ [*missed, 1])[:3], 0)
    assert SegmentReader.labelsOf(node, volume)[missed[::-1]] == 0
    assert correction.suggest(node, 3) is not None

    kept = correction.keepModel(node, tmp_path / "kept", "ball")
    assert (kept / "configs" / "metadata.json").is_file()

    steps = [correction.undo(node) for _ in range(4)]
    assert steps == ["click", "click", "adapt", ""]
    assert np.array_equal(SegmentReader.labelsOf(node, volume), painted)
    assert record.baseJob == record.steps[0]["job"]
    outside = np.delete(painted, [3, 6, 10, 14, 17], 0)
    assert np.array_equal(outside, np.delete(begun, [3, 6, 10, 14, 17], 0))


@pytest.mark.slow
def test_paintingAloneTeachesTheEngineItsClasses(link, scene):
    volume, ball, _toWorld = phantom()
    annotation = AnnotationLogic()
    correction = CorrectionLogic(link, annotation)
    node = annotation.beginFromScratch(volume)
    node.GetSegmentation().AddEmptySegment("surroundings", "Left half")
    left = np.zeros(ball.shape, bool)
    left[:, :, 14:] = True
    for index in (4, 10, 16):
        for segmentID, truth in ((SegmentWriter.ownSegments(node)[1], ball & ~left),
                                 ("surroundings", ball & left)):  # fmt: skip
            voxels = slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentID, volume).copy()
            voxels[index] = truth[index]
            slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, node, segmentID, volume)
        annotation.confirmSlice(volume, node, 2, index)
    painted = SegmentReader.labelsOf(node, volume)
    correction.adapt(node, 4.0)
    labels = SegmentReader.labelsOf(node, volume)
    assert dice(labels > 0, ball) > 0.8
    names = {info.label: info.name for info in WorkRecord(node).segments}
    assert names == {1: "Structure", 2: "Left half"}
    assert node.GetSegmentation().GetNumberOfSegments() == 2
    assert all(one.reason for one in correction.suggest(node, 2))
    assert correction.undo(node) == "adapt"
    assert np.array_equal(SegmentReader.labelsOf(node, volume), painted)
