"""The course of an adaptation as a plot."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import slicer
import vtk
from slicer.i18n import tr as _

from imbalanceseg.progress import ProgressEvent

_SECONDS_BETWEEN = 0.5
_LOSS, _DICE = "loss", "held_out_dice"
_COLORS = {_LOSS: (0.12, 0.47, 0.71), _DICE: (1.0, 0.5, 0.05)}
_ROLE_ATTRIBUTE = "ImbalanceSeg.lossPlot"
_TIME_COLUMN, _VALUE_COLUMN = "seconds", "value"


class LossPlot:
    """Draws loss and held-out Dice while a network adapts to a patient.

    The nodes are made on first use and filled anew by each adaptation, of whichever plot. They are
    neither saved with the scene nor shown in the Data module.

    Args:
        now: seconds of a clock that never goes back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._tables: dict[str, slicer.vtkMRMLTableNode] = {}
        self._series: dict[str, slicer.vtkMRMLPlotSeriesNode] = {}
        self._waiting: list[tuple[str, float, float]] = []
        self._began = self._drawn = 0.0
        self._wantsLayout = False
        self._layouts: tuple[int, int] | None = None
        self._chartBefore: str | None = None
        self.chartNode: slicer.vtkMRMLPlotChartNode | None = None

    def begin(self, volumeName: str, showInLayout: bool = True) -> None:
        """Start an empty plot.

        Args:
            volumeName: of the scan that is adapted to, for the title.
            showInLayout: switch to a layout with a plot as soon as there is something to draw.
        """
        self.end()
        self._prepareNodes()
        self.chartNode.RemoveAllPlotSeriesNodeIDs()
        self.chartNode.SetTitle(_("Adaptation to {volume}").format(volume=volumeName))
        for tableNode in self._tables.values():
            _clear(tableNode)
        self._waiting = []
        self._began = self._now()
        self._drawn = -math.inf
        self._wantsLayout = showInLayout

    def add(self, event: ProgressEvent) -> None:
        """Take the figures of a step, if it has some; drawn at most twice a second."""
        seconds = self._now() - self._began
        for name in (_LOSS, _DICE):
            value = event.metrics.get(name)
            if value is not None and math.isfinite(value):
                self._waiting.append((name, seconds, float(value)))
        if self._now() - self._drawn >= _SECONDS_BETWEEN:
            self._draw()

    def end(self) -> None:
        """Draw what is left, and give the user's layout back unless it was changed meanwhile."""
        self._draw()
        self._wantsLayout = False
        layoutNode = _layoutNode()
        if self._layouts is not None and layoutNode is not None:
            before, shown = self._layouts
            if layoutNode.GetViewArrangement() == shown:
                layoutNode.SetViewArrangement(before)
        if self._chartBefore and slicer.mrmlScene.GetNodeByID(self._chartBefore):
            _selectChart(self._chartBefore)
        self._layouts = self._chartBefore = None

    def _draw(self) -> None:
        if not self._waiting or self.chartNode is None or self.chartNode.GetScene() is None:
            self._waiting = []
            return
        touched = {name for name, _seconds, _value in self._waiting}
        for name, seconds, value in self._waiting:
            table = self._tables[name].GetTable()
            table.GetColumn(0).InsertNextValue(seconds)
            table.GetColumn(1).InsertNextValue(value)
        self._waiting = []
        self._drawn = self._now()
        for name in touched:
            table = self._tables[name].GetTable()
            for n in range(2):
                table.GetColumn(n).Modified()
            table.Modified()
            if not self.chartNode.HasPlotSeriesNodeID(self._series[name].GetID()):
                self.chartNode.AddAndObservePlotSeriesNodeID(self._series[name].GetID())
        if self._wantsLayout:
            self._wantsLayout = False
            self._show()

    def _show(self) -> None:
        layoutNode = _layoutNode()
        if layoutNode is None:
            return
        before = layoutNode.GetViewArrangement()
        chartBefore = _selectedChart()
        slicer.modules.plots.logic().ShowChartInLayout(self.chartNode)
        if layoutNode.GetViewArrangement() != before:
            self._layouts = before, layoutNode.GetViewArrangement()
        self._chartBefore = chartBefore if chartBefore != self.chartNode.GetID() else None

    def _prepareNodes(self) -> None:
        # Each curve has a table of its own, as there is no Dice before the first round is over.
        for key, name in {_LOSS: _("Loss"), _DICE: _("Held-out Dice")}.items():
            tableNode = _node("vtkMRMLTableNode", key, f"ImbalanceSeg {key}")
            for column in (_TIME_COLUMN, _VALUE_COLUMN)[tableNode.GetNumberOfColumns() :]:
                values = vtk.vtkDoubleArray()
                values.SetName(column)
                tableNode.AddColumn(values)
            seriesNode = _node("vtkMRMLPlotSeriesNode", key, name)
            seriesNode.SetAndObserveTableNodeID(tableNode.GetID())
            seriesNode.SetXColumnName(_TIME_COLUMN)
            seriesNode.SetYColumnName(_VALUE_COLUMN)
            seriesNode.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
            seriesNode.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
            seriesNode.SetLineStyle(slicer.vtkMRMLPlotSeriesNode.LineStyleSolid)
            seriesNode.SetColor(*_COLORS[key])
            self._tables[key], self._series[key] = tableNode, seriesNode
        self.chartNode = _node("vtkMRMLPlotChartNode", "chart", _("Adaptation"))
        self.chartNode.SetXAxisTitle(_("Time in s"))
        self.chartNode.SetYAxisTitle(_("Loss, Dice"))


def _node(className: str, role: str, name: str) -> slicer.vtkMRMLNode:
    """The node of a role, a new one if the scene has none yet."""
    for node in slicer.util.getNodesByClass("vtkMRMLNode"):
        if node.IsA(className) and node.GetAttribute(_ROLE_ATTRIBUTE) == role:
            return node
    node = slicer.mrmlScene.CreateNodeByClass(className)
    node.UnRegister(None)
    node.SetName(name)
    node.SetSaveWithScene(0)
    node.SetAttribute(_ROLE_ATTRIBUTE, role)
    # Hiding charts and series from selectors would take them out of the plot view as well.
    node.SetAttribute(
        slicer.vtkMRMLSubjectHierarchyConstants.GetSubjectHierarchyExcludeFromTreeAttributeName(),
        "1",
    )
    return slicer.mrmlScene.AddNode(node)


def _clear(tableNode: slicer.vtkMRMLTableNode) -> None:
    table = tableNode.GetTable()
    for n in range(table.GetNumberOfColumns()):
        table.GetColumn(n).SetNumberOfTuples(0)
        table.GetColumn(n).Modified()
    table.Modified()


def _layoutNode() -> slicer.vtkMRMLLayoutNode | None:
    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")


def _selectedChart() -> str | None:
    selectionNode = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSelectionNode")
    return selectionNode.GetActivePlotChartID() if selectionNode is not None else None


def _selectChart(chartID: str) -> None:
    slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSelectionNode").SetActivePlotChartID(chartID)
    applicationLogic = slicer.modules.plots.logic().GetMRMLApplicationLogic()
    if applicationLogic is not None:
        applicationLogic.PropagatePlotChartSelection()
