"""The slice that is asked for fills a view, and the other views go to the point."""

from __future__ import annotations

import numpy as np
import pytest
import slicer

from ImbalanceSegLib.Logic.SliceNavigation import SliceNavigation
from ImbalanceSegLib.Scene.SlicePlane import sliceShownBy

POINT = (9, 3, 5)


@pytest.fixture
def views(makeViews):
    return {name: logic.GetSliceNode() for name, logic in makeViews().items()}


def composite(name):
    return slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLSliceCompositeNode")


def ijkToWorld(geometry):
    parent = np.eye(4) if geometry.parentToWorld is None else geometry.parentToWorld
    return parent @ geometry.ijkToRAS


def ijkOfPlane(sliceNode, matrix):
    """Index coordinates of three points of the plane that a view shows."""
    sliceToRAS = slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())
    corners = np.array([[0, 0, 0, 1], [70, 0, 0, 1], [0, 40, 0, 1]]).T
    return (np.linalg.inv(matrix) @ sliceToRAS @ corners)[:3]


def axisOf(sliceNode, matrix):
    """The index axis that is constant in the plane of a view, and its index."""
    ijk = ijkOfPlane(sliceNode, matrix)
    (axis,) = np.flatnonzero(np.ptp(ijk, axis=1) < 1e-6)
    return int(axis), ijk[axis].mean()


@pytest.mark.parametrize("axis", range(3))
def test_viewShowsExactlyThatSlice(makeVolume, views, geometry, axis):
    volume = makeVolume(geometry.ijkToRAS, geometry.parentToWorld)
    matrix = ijkToWorld(geometry)
    for index in (0, 4, volume.GetImageData().GetDimensions()[axis] - 1):
        name = SliceNavigation().jumpTo(volume, axis, index)
        shownAxis, shownIndex = axisOf(views[name], matrix)
        assert shownAxis == axis
        assert shownIndex == pytest.approx(index, abs=1e-5)
        assert sliceShownBy(views[name], volume) == (axis, index)


@pytest.mark.parametrize("axis", range(3))
def test_allViewsGoThroughThePoint(makeVolume, views, geometry, axis):
    volume = makeVolume(geometry.ijkToRAS, geometry.parentToWorld)
    name = SliceNavigation().jumpTo(volume, axis, POINT[axis], POINT)
    found = {view: axisOf(node, ijkToWorld(geometry)) for view, node in views.items()}
    assert found[name][0] == axis
    assert sorted(shown for shown, _ in found.values()) == [0, 1, 2]
    for shown, index in found.values():
        assert index == pytest.approx(POINT[shown], abs=1e-5)


def test_viewsKeepTheirOrientationAsFarAsTheVolumeAllows(makeVolume, views):
    volume = makeVolume(np.diag([-0.7, -0.9, 2.5, 1.0]))
    assert SliceNavigation().jumpTo(volume, 2, 3) == "Red"
    assert SliceNavigation().jumpTo(volume, 1, 3) == "Green"
    assert SliceNavigation().jumpTo(volume, 0, 3) == "Yellow"


def test_otherViewsStayWithoutAPoint(makeVolume, views):
    volume = makeVolume(np.diag([-0.7, -0.9, 2.5, 1.0]))
    SliceNavigation().jumpTo(volume, 2, 3, POINT)
    before = views["Green"].GetSliceOffset(), views["Yellow"].GetSliceOffset()
    SliceNavigation().jumpTo(volume, 2, 6)
    assert (views["Green"].GetSliceOffset(), views["Yellow"].GetSliceOffset()) == before
    assert views["Red"].GetSliceOffset() == pytest.approx(15.0)


def isInView(sliceNode, world):
    rasToXY = np.linalg.inv(slicer.util.arrayFromVTKMatrix(sliceNode.GetXYToRAS()))
    xy = (rasToXY @ [*world, 1])[:2]
    return (xy > 0).all() and (xy < sliceNode.GetDimensions()[:2]).all()


def test_pointIsInSightEvenWhenZoomedIn(makeVolume, views, geometry):
    volume = makeVolume(geometry.ijkToRAS, geometry.parentToWorld)
    world = (ijkToWorld(geometry) @ [*POINT, 1])[:3]
    for node in views.values():
        node.SetFieldOfView(2.0, 2.0, 1.0)
    SliceNavigation().jumpTo(volume, 2, POINT[2], POINT)
    assert all(isInView(node, world) for node in views.values())


def test_viewDoesNotJumpAboutWhenThePointIsInSight(makeVolume, views):
    volume = makeVolume(np.diag([-0.7, -0.9, 2.5, 1.0]))
    SliceNavigation().jumpTo(volume, 2, 3, POINT)
    before = slicer.util.arrayFromVTKMatrix(views["Red"].GetSliceToRAS())[:2, 3].copy()
    SliceNavigation().jumpTo(volume, 2, 4, (3, 8, 4))
    after = slicer.util.arrayFromVTKMatrix(views["Red"].GetSliceToRAS())[:2, 3]
    np.testing.assert_allclose(after, before)


@pytest.mark.parametrize("axis", range(3))
def test_onlyViewIsTurnedToTheSlice(makeVolume, makeViews, geometry, axis):
    node = makeViews("Red")["Red"].GetSliceNode()
    volume = makeVolume(geometry.ijkToRAS, geometry.parentToWorld)
    assert SliceNavigation().jumpTo(volume, axis, 2) == "Red"
    assert axisOf(node, ijkToWorld(geometry)) == (axis, pytest.approx(2, abs=1e-5))


@pytest.mark.parametrize("degrees", range(0, 181, 15))
def test_everyAxisHasAViewHoweverTheVolumeLies(makeVolume, views, degrees):
    turn = np.radians(degrees)
    c, s = np.cos(turn), np.sin(turn)
    matrix = np.eye(4)
    matrix[:3, :3] = [[c, -s, 0], [s * c, c * c, -s], [s * s, s * c, c]]
    matrix[:3, :3] *= [0.7, 0.9, 2.5]
    volume = makeVolume(matrix)
    for axis in range(3):
        name = SliceNavigation().jumpTo(volume, axis, 1, POINT)
        assert axisOf(views[name], matrix) == (axis, pytest.approx(1, abs=1e-5))


def test_shearedVolumeShowsASliceAlone(makeVolume, views):
    shear = np.array([[1.0, 0.3, 0, 0], [0, 1, 0.2, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    matrix = np.diag([-0.7, -0.9, 2.5, 1.0])
    volume = makeVolume(matrix, shear)
    for axis in range(3):
        name = SliceNavigation().jumpTo(volume, axis, 2)
        assert axisOf(views[name], shear @ matrix) == (axis, pytest.approx(2, abs=1e-5))


def test_onlyViewsOfTheLayoutAreUsed(makeVolume, views):
    views["Yellow"].SetMappedInLayout(1)
    volume = makeVolume(np.diag([-0.7, -0.9, 2.5, 1.0]))
    assert SliceNavigation().jumpTo(volume, 2, 3) == "Yellow"


def test_viewsOfOtherVolumesStay(makeVolume, views):
    matrix = np.diag([-0.7, -0.9, 2.5, 1.0])
    volume, other = makeVolume(matrix), makeVolume()
    composite("Red").SetBackgroundVolumeID(volume.GetID())
    for name in ("Green", "Yellow"):
        composite(name).SetBackgroundVolumeID(other.GetID())
    before = [slicer.util.arrayFromVTKMatrix(views[n].GetSliceToRAS()) for n in ("Green", "Yellow")]
    assert SliceNavigation().jumpTo(volume, 0, 3, POINT) == "Red"
    after = [slicer.util.arrayFromVTKMatrix(views[n].GetSliceToRAS()) for n in ("Green", "Yellow")]
    np.testing.assert_array_equal(before, after)
    assert composite("Green").GetBackgroundVolumeID() == other.GetID()


def test_volumeThatIsNotShownIsShown(makeVolume, views):
    volume, other = makeVolume(), makeVolume()
    composite("Green").SetBackgroundVolumeID(other.GetID())
    name = SliceNavigation().jumpTo(volume, 2, 3)
    assert composite(name).GetBackgroundVolumeID() == volume.GetID()


def test_jumpToRASFindsTheVoxel(makeVolume, views, geometry):
    volume = makeVolume(geometry.ijkToRAS, geometry.parentToWorld)
    matrix = ijkToWorld(geometry)
    world = (matrix @ [*np.add(POINT, (0.2, -0.3, 0.4)), 1])[:3]
    name = SliceNavigation().jumpToRAS(volume, world)
    assert axisOf(views[name], matrix) == (2, pytest.approx(POINT[2], abs=1e-5))


def test_jumpToRASOutsideOfTheVolumeIsRefused(makeVolume, views):
    with pytest.raises(ValueError, match="no slice"):
        SliceNavigation().jumpToRAS(makeVolume(np.eye(4)), (0, 0, 99))


@pytest.mark.parametrize(("axis", "index"), [(2, 7), (0, -1), (3, 0)])
def test_sliceThatIsNotThereIsRefused(makeVolume, views, axis, index):
    with pytest.raises(ValueError, match="has no slice"):
        SliceNavigation().jumpTo(makeVolume(), axis, index)


def test_warpedVolumeIsRefused(makeVolume, views, scene):
    volume = makeVolume()
    transform = scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    volume.SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(ValueError, match="warped by a transform"):
        SliceNavigation().jumpTo(volume, 2, 3)


def test_sliceNameForNamesTheViewWithoutTurningIt(makeVolume, views):
    volume = makeVolume(np.diag([-0.7, -0.9, 2.5, 1.0]))
    names = [SliceNavigation().sliceNameFor(axis, volume) for axis in range(3)]
    assert names == ["Yellow", "Green", "Red"]


def test_withoutViewsNothingHappens(makeVolume, scene):
    volume = makeVolume()
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        scene.RemoveNode(node)
    assert SliceNavigation().jumpTo(volume, 2, 3, POINT) == ""
    assert SliceNavigation().sliceNameFor(2, volume) == ""
