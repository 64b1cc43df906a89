"""Maps lie over their volume in the right colors, and go without a trace."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from ImbalanceSegLib.Logic import MapDisplay as module
from ImbalanceSegLib.Logic.MapDisplay import MapDisplay
from ImbalanceSegLib.Logic.SliceNavigation import SliceNavigation
from ImbalanceSegLib.Scene.MapWriter import MapWriter

BOTH = {"hardness": 0.6, "attention": 0.4}
FIRST_ABOVE = 3


@pytest.fixture
def logics(makeViews):
    return makeViews()


@pytest.fixture
def views(logics):
    return {name: logic.GetSliceCompositeNode() for name, logic in logics.items()}


@pytest.fixture
def case(makeVolume, views):
    """A segmentation with both maps, and its volume, which the views show."""
    volume = makeVolume(np.diag([-0.7, -0.9, 2.5, 1.0]))
    for view in views.values():
        view.SetBackgroundVolumeID(volume.GetID())
    return segmentationOf(volume), volume


def segmentationOf(volume):
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Airways")
    segmentation.SetNodeReferenceID(
        segmentation.GetReferenceImageGeometryReferenceRole(), volume.GetID()
    )
    shape = slicer.util.arrayFromVolume(volume).shape
    writer = MapWriter(segmentation, volume)
    for name in BOTH:
        writer.write(name, np.linspace(0, 1, np.prod(shape), dtype=np.float32).reshape(shape))
    return segmentation


def idOf(segmentation, name):
    return MapWriter.mapOf(segmentation, name).GetID()


def legends():
    """What legends are seen: title by name of the node that they belong to."""
    return {
        legend.GetDisplayableNode().GetName(): legend.GetTitleText()
        for legend in slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
        if legend.GetVisibility()
    }


def test_oneMapIsTheForeground(case, views):
    assert MapDisplay().showMaps(case[0], {"attention": 0.4}) == ("attention",)
    for view in views.values():
        assert view.GetForegroundVolumeID() == idOf(case[0], "attention")
        assert view.GetForegroundOpacity() == pytest.approx(0.4)
        assert view.GetBackgroundVolumeID() == case[1].GetID()
        assert view.GetNumberOfAdditionalLayers() == 0


def test_twoMapsAreShownAtOnce(case, views):
    assert MapDisplay().showMaps(case[0], BOTH) == ("hardness", "attention")
    for view in views.values():
        assert view.GetForegroundVolumeID() == idOf(case[0], "hardness")
        assert view.GetForegroundOpacity() == pytest.approx(0.6)
        assert view.GetNthLayerVolumeID(FIRST_ABOVE) == idOf(case[0], "attention")
        assert view.GetNthLayerOpacity(FIRST_ABOVE) == pytest.approx(0.4)


def test_olderSlicerShowsTheMoreOpaqueMap(case, views, monkeypatch):
    monkeypatch.setattr(module, "canShowTwo", lambda compositeNode: False)
    assert MapDisplay().showMaps(case[0], {"hardness": 0.3, "attention": 0.4}) == ("attention",)
    assert views["Red"].GetForegroundVolumeID() == idOf(case[0], "attention")
    assert views["Red"].GetNumberOfAdditionalLayers() == 0
    MapDisplay().hide()
    assert views["Red"].GetForegroundVolumeID() is None


def test_layersAreAskedForByName():
    class Older:
        pass

    assert not module.canShowTwo(Older())
    assert module.canShowTwo(slicer.vtkMRMLSliceCompositeNode())


@pytest.mark.parametrize("opacities", [{}, {"hardness": 0, "attention": 0}, {"entropy": 1}])
def test_nothingWantedShowsNothing(case, views, opacities):
    MapDisplay().showMaps(case[0], BOTH)
    assert MapDisplay().showMaps(case[0], opacities) == ()
    assert views["Red"].GetForegroundVolumeID() is None
    assert views["Red"].GetNumberOfAdditionalLayers() == 0
    assert legends() == {}


def test_mapsFollowTheSliders(case, views):
    display = MapDisplay()
    display.showMaps(case[0], BOTH)
    display.showMaps(case[0], {"hardness": 0.2, "attention": 0.9})
    assert views["Red"].GetForegroundOpacity() == pytest.approx(0.2)
    assert views["Red"].GetNthLayerOpacity(FIRST_ABOVE) == pytest.approx(0.9)
    display.showMaps(case[0], {"hardness": 0, "attention": 0.9})
    assert views["Red"].GetForegroundVolumeID() == idOf(case[0], "attention")
    assert views["Red"].GetNumberOfAdditionalLayers() == 0


def test_foregroundOfTheUserComesBack(case, views, makeVolume):
    other = makeVolume()
    views["Red"].SetForegroundVolumeID(other.GetID())
    views["Red"].SetForegroundOpacity(0.25)
    display = MapDisplay()
    display.showMaps(case[0], BOTH)
    display.showMaps(case[0], {"attention": 1.0})
    display.hide()
    assert views["Red"].GetForegroundVolumeID() == other.GetID()
    assert views["Red"].GetForegroundOpacity() == pytest.approx(0.25)
    assert views["Green"].GetForegroundVolumeID() is None


def test_foregroundThatIsGoneDoesNotComeBack(case, views, makeVolume, scene):
    other = makeVolume()
    views["Red"].SetForegroundVolumeID(other.GetID())
    MapDisplay().showMaps(case[0], BOTH)
    scene.RemoveNode(other)
    MapDisplay().hide()
    assert views["Red"].GetForegroundVolumeID() is None


def test_hidingTwiceLeavesTheForegroundAlone(case, views, makeVolume):
    display = MapDisplay()
    display.showMaps(case[0], BOTH)
    display.hide()
    other = makeVolume()
    views["Red"].SetForegroundVolumeID(other.GetID())
    views["Red"].SetForegroundOpacity(0.7)
    display.hide()
    assert views["Red"].GetForegroundVolumeID() == other.GetID()
    assert views["Red"].GetForegroundOpacity() == pytest.approx(0.7)


def test_layersOfOthersStay(case, views, makeVolume):
    others = [makeVolume(seed=1), makeVolume(seed=2)]
    red = views["Red"]
    for n, other in enumerate(others):
        red.SetNthLayerVolumeID(FIRST_ABOVE + n, other.GetID())
        red.SetNthLayerOpacity(FIRST_ABOVE + n, 0.1 + n / 10)
    MapDisplay().showMaps(case[0], BOTH)
    assert red.GetNthLayerVolumeID(FIRST_ABOVE + 2) == idOf(case[0], "attention")
    MapDisplay().hide()
    assert red.GetNumberOfAdditionalLayers() == 2
    for n, other in enumerate(others):
        assert red.GetNthLayerVolumeID(FIRST_ABOVE + n) == other.GetID()
        assert red.GetNthLayerOpacity(FIRST_ABOVE + n) == pytest.approx(0.1 + n / 10)


def test_viewsOfAnotherVolumeGetNoMap(case, views, makeVolume):
    other = makeVolume()
    views["Green"].SetBackgroundVolumeID(other.GetID())
    MapDisplay().showMaps(case[0], BOTH)
    assert views["Green"].GetForegroundVolumeID() is None
    assert views["Green"].GetNumberOfAdditionalLayers() == 0


def test_mapsMoveFromOneVolumeToTheOther(case, views, makeVolume):
    other = makeVolume()
    views["Green"].SetBackgroundVolumeID(other.GetID())
    second = segmentationOf(other)
    MapDisplay().showMaps(case[0], BOTH)
    MapDisplay().showMaps(second, {"hardness": 0.5})
    assert views["Green"].GetForegroundVolumeID() == idOf(second, "hardness")
    assert views["Red"].GetForegroundVolumeID() is None
    assert legends() == {MapWriter.mapOf(second, "hardness").GetName(): "Hardness"}


def test_missingVolumeIsExplained(case, scene):
    scene.RemoveNode(case[1])
    with pytest.raises(ValueError, match="no longer"):
        MapDisplay().showMaps(case[0], BOTH)


def test_withoutViewsNothingFails(makeVolume, scene):
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        scene.RemoveNode(node)
    assert MapDisplay().showMaps(segmentationOf(makeVolume()), BOTH) == ("hardness", "attention")
    MapDisplay().hide()


def test_legendTellsTheWholeRange(case):
    MapDisplay().showMaps(case[0], {"hardness": 0.5})
    (legend,) = slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
    assert legend.GetVisibility()
    assert legend.GetTitleText() == "Hardness"
    assert legend.GetLabelFormat() % 0.2 == "0.2"
    display = legend.GetPrimaryDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0.0, 1.0)


def test_eachMapHasItsLegend(case):
    display = MapDisplay()
    display.showMaps(case[0], BOTH)
    assert sorted(legends().values()) == ["Attention", "Hardness"]
    nodes = slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
    assert len({legend.GetPosition() for legend in nodes}) == 2
    display.showMaps(case[0], {"attention": 1})
    assert legends() == {MapWriter.mapOf(case[0], "attention").GetName(): "Attention"}


def test_legendGoesWhereItIsNotWanted(case, views):
    MapDisplay().showMaps(case[0], BOTH)
    assert MapDisplay().showMaps(case[0], BOTH, legend=False) == ("hardness", "attention")
    assert legends() == {}
    assert views["Red"].GetForegroundVolumeID() == idOf(case[0], "hardness")


def test_legendOfTheSecondMapIsNotPartOfTheScene(case):
    display = MapDisplay()
    display.showMaps(case[0], BOTH)
    display.hide()
    display.showMaps(case[0], BOTH)
    carriers = [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLModelNode")
        if node.GetName() == "ImbalanceSeg attention legend"
    ]
    (carrier,) = carriers
    nodes = [carrier, *(carrier.GetNthDisplayNode(n) for n in range(2))]
    assert carrier.GetHideFromEditors()
    assert not any(node.GetSaveWithScene() for node in nodes)


def addColors(scene, name, *colors):
    node = slicer.vtkMRMLColorTableNode()
    node.SetTypeToUser()
    node.SetNumberOfColors(len(colors))
    for n, color in enumerate(colors):
        node.SetColor(n, str(n), *color, 1)
    node.SetSingletonTag(f"File{name}.txt")
    return scene.AddNode(node)


@pytest.fixture
def colorFiles(scene):
    """Tables where Slicer keeps those that it reads from files."""
    nodes = [
        addColors(scene, "Inferno", (0, 0, 0), (1, 0, 0)),
        addColors(scene, "Viridis", (0, 0, 0), (0, 1, 0)),
    ]
    yield
    for node in nodes:
        scene.RemoveNode(node)


def test_mapsDifferInColor(colorFiles, case):
    colors = {
        name: MapWriter.mapOf(case[0], name).GetDisplayNode().GetColorNodeID() for name in BOTH
    }
    assert colors == {
        "hardness": "vtkMRMLColorTableNodeFileInferno.txt",
        "attention": "vtkMRMLColorTableNodeFileViridis.txt",
    }


def test_mapsDifferInColorWithoutTheFiles(case):
    colors = {MapWriter.mapOf(case[0], name).GetDisplayNode().GetColorNodeID() for name in BOTH}
    assert len(colors) == 2
    assert "" not in colors


def picture(logic):
    """What a view shows, as RGB ``[y, x, 3]``."""
    logic.UpdatePipeline()
    blend = logic.GetBlend()
    blend.Update()
    image = blend.GetOutput()
    width, height, _depth = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[..., :3]


def test_lowValuesLetTheVolumeThrough(colorFiles, makeViews, makeVolume):
    logic = makeViews("Red")["Red"]
    volume = makeVolume(np.diag([-1.0, -1.0, 1.0, 1.0]))
    slicer.util.updateVolumeFromArray(volume, np.full((7, 11, 13), 100, np.int16))
    volume.CreateDefaultDisplayNodes()
    volume.GetDisplayNode().AutoWindowLevelOff()
    volume.GetDisplayNode().SetWindowLevelMinMax(0, 200)
    logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    segmentation = segmentationOf(volume)
    values = np.zeros((7, 11, 13), np.float32)
    values[:, :, 5:9] = 0.05
    values[:, :, 9:] = 1.0
    MapWriter(segmentation, volume).write("hardness", values)
    node = logic.GetSliceNode()
    node.SetDimensions(130, 110, 1)
    node.SetFieldOfView(13, 11, 1)
    SliceNavigation().jumpTo(volume, 2, 3)
    node.JumpSliceByCentering(-6, -5, 3)
    plain = picture(logic).copy()
    MapDisplay().showMaps(segmentation, {"hardness": 0.5})
    seen = picture(logic)
    grey = plain[50, 10]
    np.testing.assert_array_equal(seen[50, 10], grey)
    np.testing.assert_array_equal(seen[50, 70], grey)
    assert seen[50, 120, 0] > grey[0] > seen[50, 120, 1]


@pytest.fixture
def legendsInRed(logics):
    """Titles and ranges of the legends that Slicer puts into the red view."""
    application = slicer.applicationLogicOfTests
    known = vtk.vtkCollection()
    known.AddItem(logics["Red"])
    application.SetSliceLogics(known)
    factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
    factory.SetMRMLApplicationLogic(application)
    className = "vtkMRMLColorLegendDisplayableManager"
    factory.RegisterDisplayableManager(className)
    window, renderer = vtk.vtkRenderWindow(), vtk.vtkRenderer()
    window.AddRenderer(renderer)
    window.SetInteractor(vtk.vtkGenericRenderWindowInteractor())
    group = slicer.vtkMRMLDisplayableManagerGroup()
    group.Initialize(factory, renderer)
    group.SetMRMLDisplayableNode(logics["Red"].GetSliceNode())
    manager = group.GetDisplayableManagerByClassName(className)

    def shown():
        nodes = slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode")
        actors = [manager.GetColorLegendActor(node) for node in nodes]
        return {
            actor.GetTitle(): actor.GetLookupTable().GetRange()
            for actor in actors
            if actor is not None and actor.GetVisibility()
        }

    yield shown
    group.SetMRMLDisplayableNode(None)
    factory.UnRegisterDisplayableManager(className)
    application.SetSliceLogics(None)


def test_viewShowsLegendsOfWhatItShows(case, views, legendsInRed):
    display = MapDisplay()
    display.showMaps(case[0], BOTH)
    assert legendsInRed() == {"Hardness": (0.0, 1.0), "Attention": (0.0, 1.0)}
    display.showMaps(case[0], {"attention": 0.5})
    assert legendsInRed() == {"Attention": (0.0, 1.0)}
    display.showMaps(case[0], BOTH)
    display.hide()
    assert legendsInRed() == {}
