"""Corrections one at a time, suggestions, kept models, and scenes that change meanwhile."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicer

from imbalanceseg.annotation.annotation import ConfirmedSlice
from imbalanceseg.client import JobResult
from ImbalanceSegLib.Scene.SegmentReader import SegmentReader
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord

sys.path.insert(0, str(Path(__file__).parent))
support = importlib.import_module("correction_bench")
BOX = support.BOX
VOXEL = support.VOXEL
SECONDS = support.SECONDS
Ends = support.Ends
adapted = support.adapted
bench = support.bench
changed = support.changed
made = support.made
nothing = support.nothing
own = support.own
plain = support.plain
segmented = support.segmented
world = support.world


def test_oneThingAtATime(plain):
    plain.annotation.confirmSlice(plain.volume, plain.node, 2, 3)
    plain.correction.startAdapt(plain.node, SECONDS)
    attempts = (
        lambda: plain.correction.startClick(plain.node, world(plain, VOXEL), 1),
        lambda: plain.correction.startAdapt(plain.node, SECONDS),
        lambda: plain.correction.startSuggest(plain.node, 3),
        lambda: plain.correction.undo(plain.node),
    )
    for attempt in attempts:
        with pytest.raises(RuntimeError, match="at work on something else"):
            attempt()
    assert plain.correction.activity.kind == "adapt"
    plain.correction.cancel()
    assert plain.correction.activity is None
    plain.correction.isBusyElsewhere = lambda: True
    for attempt in attempts:
        with pytest.raises(RuntimeError, match="at work on something else"):
            attempt()


def test_suggestionsKnowWhatIsPainted(bench):
    found = [{"axis": 2, "index": 4, "score": 1.0, "reason": "airway at the left side"}]
    bench.client.automatic["suggest"] = lambda call: JobResult("f" * 32, {"suggestions": found})
    (first,) = bench.correction.suggest(bench.node, 3)
    assert (first.axis, first.index, first.score) == (2, 4, 1.0)
    assert first.reason == "airway at the left side"
    call = bench.client.last("suggest")
    assert (call.n, call.base, call.confirmed) == (3, "a" * 32, [])
    assert np.all(sitk.GetArrayViewFromImage(call.annotation) == 255)
    bench.annotation.confirmSlice(bench.volume, bench.node, 2, 4)
    found.clear()
    assert bench.correction.suggest(bench.node, 3) == []
    assert bench.client.last("suggest").confirmed == [(2, 4)]


def test_keptModelIsThatOfTheLastAdaptation(plain, tmp_path):
    with pytest.raises(ValueError, match="no adapted model"):
        plain.correction.keepModel(plain.node, tmp_path, "mine")
    plain.annotation.confirmSlice(plain.volume, plain.node, 2, 3)
    plain.correction.startAdapt(plain.node, SECONDS)
    plain.client.deliver(plain.client.last("adapt"), made(plain, adapted(plain)))
    plain.client.automatic["keep"] = lambda call: call.folder / call.name
    assert plain.correction.keepModel(plain.node, str(tmp_path), "mine") == tmp_path / "mine"
    assert plain.client.last("keep").model == "adapted-b"


@pytest.mark.parametrize("gone", ["node", "volume", "scene"])
@pytest.mark.parametrize("kind", ["adapt", "click", "suggest"])
def test_nodesThatGoMeanwhileAreASentence(plain, gone, kind):
    plain.annotation.confirmSlice(plain.volume, plain.node, 2, 3)
    ends, answers = Ends(), made(plain, adapted(plain))
    if kind == "adapt":
        plain.correction.startAdapt(plain.node, SECONDS, None, ends)
    elif kind == "click":
        plain.correction.startClick(plain.node, world(plain, VOXEL), 1, 1.5, ends)
        answers = nothing()
    else:
        plain.correction.startSuggest(plain.node, 2, ends)
        answers = JobResult("f" * 32, {"suggestions": []})
    call = plain.client.last(kind)
    if kind == "adapt":
        call.on_preview(answers.images["labels"])
    if gone == "scene":
        slicer.mrmlScene.Clear(False)
    else:
        slicer.mrmlScene.RemoveNode(getattr(plain, gone))
    if kind == "adapt":
        call.on_preview(answers.images["labels"])
    plain.client.deliver(call, answers)
    assert "removed" in ends[0].sentence
    assert not ends[0].succeeded
    assert not plain.correction.isRunning


def test_closedSceneLeavesNothingToUndo(plain):
    plain.correction.startClick(plain.node, world(plain, VOXEL), 1, 0.1)
    plain.client.deliver(plain.client.last("click"), changed(plain, BOX, 1))
    assert plain.correction.canUndo(plain.node)
    slicer.mrmlScene.Clear(False)
    assert not plain.correction.canUndo(plain.node)
    assert not plain.correction.canUndo(None)


def test_segmentingAnewLeavesNothingToUndo(plain):
    plain.correction.startClick(plain.node, world(plain, VOXEL), 1, 0.1)
    plain.client.deliver(plain.client.last("click"), changed(plain, BOX, 1))
    plain.record.push("segment", "9" * 32)
    assert not plain.correction.canUndo(plain.node)
    assert plain.correction.undo(plain.node) == ""


def test_twoSegmentationsAreUndoneByThemselves(plain):
    other = segmented(plain.volume, "c" * 32)
    plain.client.automatic["click"] = lambda call: changed(plain, BOX, 1)
    plain.correction.click(plain.node, world(plain, VOXEL), 1)
    assert not plain.correction.canUndo(other)
    assert plain.correction.canUndo(plain.node)
    untouched = SegmentReader.labelsOf(other, plain.volume)
    assert np.array_equal(untouched, WorkRecord(other).engineLabels())


def test_sliceFinishedAfterAStepStaysWhenItIsTakenBack(plain):
    plain.client.automatic["click"] = lambda call: changed(plain, BOX, 1)
    before = own(plain)
    plain.correction.click(plain.node, world(plain, VOXEL), 1)
    after = own(plain)
    plain.annotation.confirmSlice(plain.volume, plain.node, 2, 3)
    plain.correction.undo(plain.node)
    before[3] = after[3]
    assert np.array_equal(own(plain), before)
    assert plain.annotation.confirmedSlices(plain.volume) == [ConfirmedSlice(2, 3)]
