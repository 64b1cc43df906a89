"""Clicks change what they mean, in their order, and are taken back one by one."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import slicer

from imbalanceseg.client import EngineError
from imbalanceseg.geometry import Grid
from ImbalanceSegLib.Scene.AnnotationVolume import AnnotationVolume
from ImbalanceSegLib.Scene.SegmentAlgorithms import algorithmsOf
from ImbalanceSegLib.Scene.VolumeGeometry import imageOfVolume

sys.path.insert(0, str(Path(__file__).parent))
support = importlib.import_module("correction_bench")
BOX = support.BOX
VOXEL = support.VOXEL
SEGMENT_1 = support.SEGMENT_1
Ends = support.Ends
addForeign = support.addForeign
bench = support.bench
changed = support.changed
foreign = support.foreign
nothing = support.nothing
own = support.own
paint = support.paint
plain = support.plain
world = support.world


def test_clickGoesToThePointOfTheVolume(bench):
    bench.correction.startClick(bench.node, world(bench, VOXEL), 1, 2.0)
    call = bench.client.last("click")
    assert (call.base, call.label, call.radius_mm) == ("a" * 32, 1, 2.0)
    grid = Grid.of(imageOfVolume(bench.volume))
    np.testing.assert_allclose(grid.physical_to_index(call.point_mm), VOXEL, atol=1e-4)


def test_answerChangesTheBoxAndIsTakenBack(bench):
    theirs = addForeign(bench)
    before, engine = own(bench), bench.record.engineLabels().copy()
    ends = Ends()
    bench.correction.startClick(bench.node, world(bench, VOXEL), 1, 0.1, ends)
    call = bench.client.last("click")
    bench.client.deliver(call, changed(bench, BOX, 1))
    expected = engine.copy()
    expected[BOX] = 1
    assert ends[0].succeeded, ends[0].sentence
    assert ends[0].value == np.count_nonzero(expected != before) > 0
    assert np.array_equal(own(bench), expected)
    assert np.array_equal(bench.record.engineLabels(), expected)
    assert np.array_equal(foreign(bench), theirs)
    assert algorithmsOf(bench.node, [SEGMENT_1])[SEGMENT_1][0] == "SEMIAUTOMATIC"
    assert bench.record.steps[-1]["kind"] == "click"
    assert len(bench.saved) == 1
    labels = AnnotationVolume.ofVolume(bench.volume).read().labels
    assert np.array_equal(np.argwhere(labels == 1), [VOXEL[::-1]])
    assert bench.correction.undo(bench.node) == "click"
    assert np.array_equal(own(bench), before)
    assert np.array_equal(bench.record.engineLabels(), engine)
    assert bench.record.baseJob == "a" * 32
    assert not AnnotationVolume.ofVolume(bench.volume).read().known.any()
    assert algorithmsOf(bench.node, [SEGMENT_1])[SEGMENT_1][0] == "AUTOMATIC"


def test_finishedSlicesAndOtherCorrectionsStay(plain):
    def stroke(voxels):
        voxels[4, 6, 9:12] = 1 - voxels[4, 6, 9:12]

    paint(plain, stroke)
    before = own(plain)
    plain.annotation.confirmSlice(plain.volume, plain.node, 2, 2)
    plain.correction.startClick(plain.node, world(plain, VOXEL), 1, 0.1)
    answer = changed(plain, BOX, 1)
    plain.client.deliver(plain.client.last("click"), answer)
    after = own(plain)
    assert np.array_equal(after[2], before[2])
    assert np.all(after[3, 6:9, 9:12] == 1)
    engine = plain.record.engineLabels()
    assert np.all(engine[BOX] == 1)


def test_clickOnWhatWasErasedByHandCounts(plain):
    spot = (4, 3, 2)
    assert plain.record.engineLabels()[spot[::-1]] == 1
    paint(plain, lambda voxels: voxels.__setitem__(np.s_[2, 2:5, 3:6], 0))
    assert own(plain)[spot[::-1]] == 0
    plain.correction.startClick(plain.node, world(plain, spot), 1, 0.1)
    plain.client.deliver(plain.client.last("click"), nothing())
    expected = plain.record.engineLabels().copy()
    expected[2, 2:5, 3:6] = 0
    expected[spot[::-1]] = 1
    assert np.array_equal(own(plain), expected)


def test_clicksQueueAndEachGoesOnFromTheOneBefore(plain):
    ends = Ends()
    for n in range(3):
        plain.correction.startClick(plain.node, world(plain, (n, 0, 0)), 1, 0.1, ends)
    bases = []
    for n in range(3):
        call = plain.client.last("click")
        assert plain.client.count("click") == n + 1
        bases.append(call.base)
        plain.client.deliver(call, changed(plain, np.s_[0:1, 0:1, n : n + 1], 1, f"{n}" * 32))
    assert bases == ["a" * 32, "0" * 32, "1" * 32]
    assert [outcome.succeeded for outcome in ends] == [True] * 3
    assert not plain.correction.isRunning
    assert np.all(own(plain)[0, 0, 0:3] == 1)
    # The scan is known by its address from the first one on.
    assert plain.client.count("upload") == 1
    assert [plain.correction.undo(plain.node) for _ in range(4)] == ["click"] * 3 + [""]
    assert plain.record.baseJob == "a" * 32
    assert not own(plain)[0, 0, 0:3].any()


def test_clickThatFailsLetsTheNextOneGo(plain):
    ends = Ends()
    for n in range(2):
        plain.correction.startClick(plain.node, world(plain, (n, 0, 0)), 1, 0.1, ends)
    plain.client.deliver(plain.client.last("click"), EngineError("click-label", "No.", "Other."))
    plain.client.deliver(plain.client.last("click"), nothing())
    assert [outcome.succeeded for outcome in ends] == [False, True]
    assert ends[0].sentence == "No. Other."
    assert plain.client.calls[-1].base == "a" * 32


def test_cancelForgetsClicksThatWait(plain):
    ends = Ends()
    for n in range(3):
        plain.correction.startClick(plain.node, world(plain, (n, 0, 0)), 1, 0.1, ends)
    plain.client.poll()
    plain.correction.cancel()
    assert [outcome.cancelled for outcome in ends] == [True] * 3
    assert plain.client.count("click") == 1
    assert not plain.correction.isRunning


def test_clicksThatCannotBeAreRefusedAtOnce(plain):
    for index, label, sentence in (
        ((40, 0, 0), 1, "inside the volume"),
        (VOXEL, 7, "no segment with the label 7"),
    ):
        with pytest.raises(ValueError, match=sentence):
            plain.correction.startClick(plain.node, world(plain, index), label)
    plain.record.pop()
    with pytest.raises(ValueError, match="found nothing"):
        plain.correction.startClick(plain.node, world(plain, VOXEL), 1)
    assert not plain.client.calls


def test_changedVolumeIsSentAnew(plain):
    plain.client.automatic["click"] = lambda call: nothing()
    for _ in range(2):
        plain.correction.click(plain.node, world(plain, VOXEL), 1)
    assert plain.client.count("upload") == 1
    slicer.util.arrayFromVolume(plain.volume)[0, 0, 0] += 1
    slicer.util.arrayFromVolumeModified(plain.volume)
    plain.correction.click(plain.node, world(plain, VOXEL), 1)
    assert plain.client.count("upload") == 2


def test_scanThatTheEngineHasForgottenIsSentAgain(plain):
    plain.client.automatic["click"] = lambda call: nothing()
    plain.correction.click(plain.node, world(plain, VOXEL), 1)
    answers = [EngineError("case-unknown", "It is gone.", ""), nothing()]
    plain.client.automatic["click"] = lambda call: answers.pop(0)
    plain.correction.click(plain.node, world(plain, VOXEL), 1)
    assert plain.client.count("upload") == 2
    # But not for ever.
    plain.client.automatic["click"] = EngineError("case-unknown", "It is gone.", "Sorry.")
    with pytest.raises(RuntimeError, match="not have any more"):
        plain.correction.click(plain.node, world(plain, VOXEL), 1)


@pytest.mark.parametrize("code", ["result-gone", "base-unknown"])
def test_resultThatTheEngineHasForgotten(plain, code):
    plain.client.automatic["click"] = EngineError(code, "Gone.", "")
    with pytest.raises(RuntimeError, match="Press Adapt or Segment once"):
        plain.correction.click(plain.node, world(plain, VOXEL), 1)
    assert plain.record.baseJob == "a" * 32
