"""The plot of an adaptation: what it shows, how often, and what it leaves behind."""

from __future__ import annotations

import math

import pytest
import slicer

from imbalanceseg.progress import ProgressEvent
from ImbalanceSegLib.Logic.LossPlot import LossPlot

CONVENTIONAL = slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView
CONVENTIONAL_PLOT = slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalPlotView


class Clock:
    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock(scene):
    return Clock()


@pytest.fixture
def plot(clock):
    return LossPlot(clock)


@pytest.fixture
def layout(scene):
    node = scene.AddNewNodeByClass("vtkMRMLLayoutNode")
    node.SetViewArrangement(CONVENTIONAL)
    yield node
    scene.RemoveNode(node)


def event(**metrics):
    return ProgressEvent("finetune", 1, 8, "", metrics)


def curves(chart):
    """Points by name of the curve."""
    found = {}
    for n in range(chart.GetNumberOfPlotSeriesNodes()):
        series = chart.GetNthPlotSeriesNode(n)
        columns = [
            slicer.util.arrayFromTableColumn(series.GetTableNode(), name)
            for name in (series.GetXColumnName(), series.GetYColumnName())
        ]
        found[series.GetName()] = [(float(x), float(y)) for x, y in zip(*columns, strict=True)]
    return found


def test_curvesShowWhatTheEngineSays(plot, clock):
    plot.begin("CT")
    clock.seconds += 1
    plot.add(event(loss=0.9))
    clock.seconds += 2
    plot.add(event(loss=0.5, held_out_dice=0.7))
    plot.end()
    assert curves(plot.chartNode) == {
        "Loss": [(1.0, 0.9), (3.0, 0.5)],
        "Held-out Dice": [(3.0, 0.7)],
    }


def test_axesAndTitleHaveNames(plot):
    plot.begin("CT of the chest")
    chart = plot.chartNode
    assert chart.GetTitle() == "Adaptation to CT of the chest"
    assert chart.GetXAxisTitle() == "Time in s"
    assert chart.GetYAxisTitle() == "Loss, Dice"


def test_pointsAreJoinedByALineOverTime(plot, clock):
    plot.begin("CT")
    plot.add(event(loss=0.9, held_out_dice=0.1))
    for n in range(2):
        series = plot.chartNode.GetNthPlotSeriesNode(n)
        assert series.GetPlotType() == series.PlotTypeScatter
        assert series.GetLineStyle() == series.LineStyleSolid
        assert series.GetMarkerStyle() == series.MarkerStyleNone
    colors = {plot.chartNode.GetNthPlotSeriesNode(n).GetColor() for n in range(2)}
    assert len(colors) == 2


def test_withoutHeldOutSliceThereIsOneCurve(plot, clock):
    plot.begin("CT")
    plot.add(event(loss=0.9))
    assert list(curves(plot.chartNode)) == ["Loss"]


def test_stepsWithoutFiguresAndDamagedFiguresAreLeftOut(plot, clock):
    plot.begin("CT")
    plot.add(event())
    plot.add(event(loss=math.nan, held_out_dice=math.inf))
    assert curves(plot.chartNode) == {}
    plot.add(event(loss=0.9))
    assert curves(plot.chartNode) == {"Loss": [(0.0, 0.9)]}


def test_chartIsDrawnAtMostTwiceASecond(plot, clock):
    plot.begin("CT")
    drawn = []
    chart = plot.chartNode
    chart.AddObserver(chart.PlotModifiedEvent, lambda *_: drawn.append(len(curves(chart)["Loss"])))
    for n in range(101):
        clock.seconds = 100 + n / 10
        plot.add(event(loss=1 / (n + 1)))
    assert len(set(drawn)) <= 21
    assert drawn[-1] == 101
    plot.add(event(loss=0.5))
    assert len(curves(chart)["Loss"]) == 101
    plot.end()
    assert len(curves(chart)["Loss"]) == 102


def test_nextAdaptationReusesTheNodes(plot, clock, scene):
    plot.begin("CT")
    plot.add(event(loss=0.9, held_out_dice=0.1))
    plot.end()
    count, chart = scene.GetNumberOfNodes(), plot.chartNode
    plot.begin("MR")
    assert curves(chart) == {}
    clock.seconds += 5
    plot.add(event(loss=0.4))
    assert plot.chartNode is chart
    assert chart.GetTitle() == "Adaptation to MR"
    assert scene.GetNumberOfNodes() == count
    assert curves(chart) == {"Loss": [(5.0, 0.4)]}


def test_nextPlotReusesTheNodesOfTheFirst(plot, clock, scene):
    plot.begin("CT")
    plot.add(event(loss=0.9, held_out_dice=0.1))
    plot.end()
    count = scene.GetNumberOfNodes()
    other = LossPlot(clock)
    other.begin("MR")
    other.add(event(loss=0.4))
    assert scene.GetNumberOfNodes() == count
    assert curves(other.chartNode) == {"Loss": [(0.0, 0.4)]}


def test_nodesAreNeitherSavedNorListed(plot, scene):
    before = {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")}
    plot.begin("CT")
    constants = slicer.vtkMRMLSubjectHierarchyConstants
    attribute = constants.GetSubjectHierarchyExcludeFromTreeAttributeName()
    nodes = [n for n in slicer.util.getNodesByClass("vtkMRMLNode") if n.GetID() not in before]
    assert len(nodes) == 5
    for node in nodes:
        assert not node.GetSaveWithScene()
        assert node.GetAttribute(attribute)
        # Selectors that cannot find them would empty the plot view.
        assert not node.GetHideFromEditors()


def test_layoutWithPlotIsShownAndTheUsersRestored(plot, layout):
    plot.begin("CT")
    assert layout.GetViewArrangement() == CONVENTIONAL
    plot.add(event(loss=0.9))
    assert layout.GetViewArrangement() == CONVENTIONAL_PLOT
    assert selection().GetActivePlotChartID() == plot.chartNode.GetID()
    plot.end()
    assert layout.GetViewArrangement() == CONVENTIONAL


def selection():
    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSelectionNode")


def test_layoutStaysWhereThePlotIsNotWanted(plot, layout):
    plot.begin("CT", showInLayout=False)
    plot.add(event(loss=0.9))
    assert layout.GetViewArrangement() == CONVENTIONAL
    assert curves(plot.chartNode)


def test_layoutThatTheUserChoseMeanwhileStays(plot, layout):
    plot.begin("CT")
    plot.add(event(loss=0.9))
    layout.SetViewArrangement(layout.SlicerLayoutOneUpRedSliceView)
    plot.end()
    assert layout.GetViewArrangement() == layout.SlicerLayoutOneUpRedSliceView


def test_layoutThatHasAPlotStays(plot, layout):
    layout.SetViewArrangement(CONVENTIONAL_PLOT)
    plot.begin("CT")
    plot.add(event(loss=0.9))
    plot.end()
    assert layout.GetViewArrangement() == CONVENTIONAL_PLOT


def test_chartOfTheUserComesBack(plot, layout, scene):
    own = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", "Mine")
    view = scene.AddNewNodeByClass("vtkMRMLPlotViewNode")
    selection().SetActivePlotChartID(own.GetID())
    plot.begin("CT")
    plot.add(event(loss=0.9))
    assert view.GetPlotChartNodeID() == plot.chartNode.GetID()
    plot.end()
    assert selection().GetActivePlotChartID() == own.GetID()
    assert view.GetPlotChartNodeID() == own.GetID()


def test_withoutLayoutTheFiguresAreKept(plot, clock):
    plot.begin("CT")
    plot.add(event(loss=0.9))
    plot.end()
    assert curves(plot.chartNode) == {"Loss": [(0.0, 0.9)]}


def test_closedSceneDoesNotMatter(plot, clock, scene):
    plot.begin("CT")
    plot.add(event(loss=0.9))
    scene.Clear(False)
    clock.seconds += 1
    plot.add(event(loss=0.8))
    plot.end()
    plot.begin("MR")
    plot.add(event(loss=0.7))
    assert curves(plot.chartNode) == {"Loss": [(0.0, 0.7)]}
    assert plot.chartNode.GetScene() is scene


def test_endWithoutBeginDoesNothing(plot, scene):
    plot.end()
    plot.add(event(loss=0.9))
    assert scene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode") == 0
