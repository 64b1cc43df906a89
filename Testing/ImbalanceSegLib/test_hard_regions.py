"""The list of hard regions, and the way through it."""

from __future__ import annotations

import time

import numpy as np
import pytest
import slicer

from ImbalanceSegLib.Logic.HardRegions import MOST, hardRegions
from ImbalanceSegLib.Logic.HardRegionStepper import HardRegionStepper
from ImbalanceSegLib.Scene.MapWriter import MapWriter
from ImbalanceSegLib.Scene.VolumeGeometry import ijkToRASMatrix

SPACING = (0.7, 0.9, 2.5)
VOXEL_MM3 = 0.7 * 0.9 * 2.5


def empty(shape=(20, 60, 70)):
    return np.zeros(shape, np.float32), np.zeros(shape, np.uint8)


def test_regionIsWhereTheHardVoxelsAre():
    hardness, labels = empty()
    hardness[4:7, 20:24, 30:35] = 0.6
    labels[5, 22, 32] = 1
    (region,) = hardRegions(hardness, labels, SPACING)
    i, j, k = region.centreIJK
    assert 30 <= i < 35
    assert 20 <= j < 24
    assert 4 <= k < 7
    assert region.volumeMm3 == pytest.approx(3 * 4 * 5 * VOXEL_MM3)
    assert region.meanHardness == pytest.approx(0.6)
    assert region.distanceMm == pytest.approx(0, abs=3)


def test_centreIsTheHardestVoxelOfItsNeighborhood():
    hardness, labels = empty()
    hardness[4:7, 20:24, 30:35] = 0.3
    hardness[5, 21, 33] = 0.9
    labels[5] = 1
    assert hardRegions(hardness, labels, SPACING)[0].centreIJK == (33, 21, 5)


def test_regionsAreRankedByHardnessTimesVolume():
    hardness, labels = empty()
    hardness[2:4, 5:8, 5:8] = 0.9
    hardness[12:18, 30:50, 30:50] = 0.4
    hardness[2:4, 40:43, 60:63] = 0.5
    labels[:] = 1
    regions = hardRegions(hardness, labels, SPACING)
    assert [round(region.meanHardness, 1) for region in regions] == [0.4, 0.9, 0.5]


def test_weakHardnessFarFromEverythingDoesNotCount():
    hardness, labels = empty((20, 120, 120))
    labels[10, 10, 10] = 1
    hardness[10, 8:13, 8:13] = 0.3
    hardness[10, 90:95, 90:95] = 0.3
    hardness[10, 90:95, 20:25] = 0.7
    regions = hardRegions(hardness, labels, (1, 1, 1))
    assert [region.centreIJK[0] // 5 * 5 for region in regions] == [20, 5]


def test_missedStructureCountsWhereNothingWasFound():
    hardness, labels = empty()
    hardness[4:7, 20:24, 30:35] = 0.6
    (region,) = hardRegions(hardness, labels, SPACING)
    assert region.distanceMm == np.inf


def test_distanceIsThatFromTheNearestVoxelFound():
    hardness, labels = empty((20, 60, 120))
    labels[10, 30, 10] = 1
    hardness[10, 28:33, 78:83] = 0.8
    (region,) = hardRegions(hardness, labels, (1, 1, 1))
    assert region.distanceMm == pytest.approx(70, abs=6)


@pytest.mark.parametrize("value", [0.0, 0.05, np.nan, np.inf, -np.inf, -1.0])
def test_nothingHardGivesAnEmptyList(value):
    hardness, labels = empty()
    hardness[4:7, 20:24, 30:35] = value
    labels[5] = 1
    assert hardRegions(hardness, labels, SPACING) == []


def test_damagedVoxelsAreNoRegion():
    hardness, labels = empty()
    labels[:] = 1
    hardness[:, :, ::2] = np.nan
    hardness[0, 0, 1] = np.inf
    hardness[4:7, 20:24, 31] = 0.6
    hardness[5, 22, 32] = np.nan
    (region,) = hardRegions(hardness, labels, SPACING)
    assert region.centreIJK[0] == 31
    assert region.volumeMm3 == pytest.approx(12 * VOXEL_MM3)
    assert region.meanHardness == pytest.approx(0.6)


def test_longRegionIsDividedIntoPlaces():
    hardness, labels = empty((10, 40, 200))
    hardness[4:6, 20:22, 5:195] = 0.5
    labels[5] = 1
    regions = hardRegions(hardness, labels, (1, 1, 1))
    assert 190 / 31 <= len(regions) <= 14
    assert sum(region.volumeMm3 for region in regions) == pytest.approx(4 * 190)
    centres = [region.centreIJK[0] for region in regions]
    assert len(set(centres)) == len(centres)


def test_listIsNoLongerThanAnyoneWouldGoThrough():
    random = np.random.default_rng(0)
    labels = np.ones((40, 200, 200), np.uint8)
    hardness = np.zeros(labels.shape, np.float32)
    for k, j, i in random.integers(0, (38, 198, 198), (300, 3)):
        hardness[k : k + 2, j : j + 2, i : i + 2] = random.uniform(0.3, 1)
    regions = hardRegions(hardness, labels, (1, 1, 1))
    assert len(regions) == MOST


def test_arraysOfDifferentShapeAreRefused():
    with pytest.raises(ValueError, match="shape"):
        hardRegions(np.zeros((3, 4, 5), np.float32), np.zeros((3, 4, 6), np.uint8), (1, 1, 1))


@pytest.mark.slow
def test_largeScanIsQuick():
    hardness = np.zeros((400, 512, 512), np.float32)
    labels = np.zeros(hardness.shape, np.uint8)
    labels[50:350, 100:400, 100:400] = 1
    hardness[100:300, 100:130, 100:400] = 0.5
    began = time.process_time()
    assert hardRegions(hardness, labels, (0.7, 0.7, 0.7))
    assert time.process_time() - began < 10


class Navigation:
    def __init__(self):
        self.jumps = []

    def jumpTo(self, volumeNode, axis, index, pointIJK=None):
        assert pointIJK[axis] == index
        self.jumps.append((axis, pointIJK))
        return "Red"


@pytest.fixture
def case(makeVolume, scene):
    """A segmentation with a hardness map of three regions, the volume, and a stepper."""
    volume = makeVolume()
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Airways")
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segmentation.SetNodeReferenceID(
        segmentation.GetReferenceImageGeometryReferenceRole(), volume.GetID()
    )
    navigation = Navigation()
    return segmentation, volume, navigation, HardRegionStepper(segmentation, navigation)


def writeMap(case, *values):
    hardness = np.zeros((7, 11, 13), np.float32)
    for n, value in enumerate(values):
        hardness[1 + 2 * n, 2 + 3 * n, 3 + 4 * n] = value
    MapWriter(case[0], case[1]).write("hardness", hardness)


def test_stepsGoFromTheHardestOnAndRoundAgain(case):
    writeMap(case, 0.6, 0.9, 0.7)
    stepper, jumps = case[3], case[2].jumps
    assert stepper.position == ""
    seen = []
    for _ in range(4):
        stepper.next()
        seen.append(stepper.position)
    assert seen == ["1 of 3", "2 of 3", "3 of 3", "1 of 3"]
    assert [point for _axis, point in jumps] == [(7, 5, 3), (11, 8, 5), (3, 2, 1), (7, 5, 3)]


def test_previousBeginsAtTheEnd(case):
    writeMap(case, 0.6, 0.9, 0.7)
    region = case[3].previous()
    assert case[3].position == "3 of 3"
    assert region.meanHardness == pytest.approx(0.6)
    case[3].previous()
    assert case[3].position == "2 of 3"


def test_planeOfTheScanIsShown(case):
    writeMap(case, 0.6)
    case[3].next()
    assert case[2].jumps[0][0] == 2


def test_sentenceSaysWhereAndHowLarge(case):
    writeMap(case, 0.6)
    case[3].next()
    assert case[3].sentence == ("Hard region 1 of 1: 0.0016 ml, in a scan where nothing was found.")


def test_sentenceTellsTheDistanceFromTheOwnSegments(case):
    segmentation, volume, _navigation, stepper = case
    writeMap(case, 0.6)
    voxels = np.zeros((7, 11, 13), np.uint8)
    voxels[6, 10, 12] = 1
    segmentation.GetSegmentation().AddEmptySegment("ImbalanceSeg_airway_1")
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        voxels, segmentation, "ImbalanceSeg_airway_1", volume
    )
    region = stepper.next()
    assert region.distanceMm == pytest.approx(np.hypot(np.hypot(9 * 0.7, 8 * 0.9), 5 * 2.5))
    assert "16 mm from what was found" in stepper.sentence


def test_newMapBeginsAnew(case):
    writeMap(case, 0.6, 0.9, 0.7)
    case[3].next()
    case[3].next()
    writeMap(case, 0.5, 0.8)
    case[3].next()
    assert case[3].position == "1 of 2"
    assert case[2].jumps[-1][1] == (7, 5, 3)


def test_sameMapIsSearchedOnce(case, monkeypatch):
    from ImbalanceSegLib.Logic import HardRegionStepper as module

    searches = []
    search = module.hardRegions
    monkeypatch.setattr(module, "hardRegions", lambda *a: searches.append(a) or search(*a))
    writeMap(case, 0.6, 0.9)
    for _ in range(5):
        case[3].next()
    assert len(searches) == 1


def test_nothingHardIsSaid(case):
    writeMap(case, 0.05)
    assert case[3].next() is None
    assert case[3].position == ""
    assert "Nothing" in case[3].sentence
    assert not case[2].jumps


def test_missingMapIsExplained(case):
    with pytest.raises(ValueError, match="no hardness map"):
        case[3].next()


def test_missingVolumeIsExplained(case, scene):
    writeMap(case, 0.6)
    scene.RemoveNode(case[1])
    with pytest.raises(ValueError, match="no longer"):
        case[3].next()


def test_mapOfAnotherVolumeIsExplained(case):
    MapWriter(case[0], case[1]).write("hardness", np.ones((3, 4, 5), np.float32))
    with pytest.raises(ValueError, match="another volume"):
        case[3].next()


def test_viewsGoThereInEarnest(case, makeViews):
    writeMap(case, 0.6)
    logics = makeViews()
    HardRegionStepper(case[0]).next()
    matrix = slicer.util.arrayFromVTKMatrix(ijkToRASMatrix(case[1]))
    world = (matrix @ (3, 2, 1, 1))[:3]
    for logic in logics.values():
        sliceToRAS = slicer.util.arrayFromVTKMatrix(logic.GetSliceNode().GetSliceToRAS())
        assert sliceToRAS[:3, 2] @ (world - sliceToRAS[:3, 3]) == pytest.approx(0, abs=1e-5)
