"""Legends of the colors of maps, in the slice views."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import slicer
from slicer.i18n import tr as _

from ImbalanceSegLib.Scene.MapWriter import MapWriter

_CARRIER_ATTRIBUTE = "ImbalanceSeg.legendOfMap"
_LABELS = 6
_RIGHT, _LEFT = 0.95, 0.05


class MapLegends:
    """Shows what the colors of the visible maps mean.

    Slicer shows the legend of a volume where the volume is in the background or foreground. A map
    in a layer above has its legend from a hidden, empty model with the same colors.
    """

    @staticmethod
    def show(
        mapNodes: Sequence[slicer.vtkMRMLScalarVolumeNode],
        sliceNodes: Iterable[slicer.vtkMRMLSliceNode],
    ) -> None:
        """Show the legends of these maps and hide those of all others.

        Call it after the layers were changed: the views look at them when a legend changes.

        Args:
            mapNodes: at most two, the one in the foreground first.
            sliceNodes: views that show the maps.
        """
        MapLegends.hide()
        for n, mapNode in enumerate(mapNodes):
            carrier = _carrierOf(mapNode, sliceNodes) if n else mapNode
            legend = slicer.modules.colors.logic().AddDefaultColorLegendDisplayNode(carrier)
            legend.SetTitleText(_title(MapWriter.nameOf(mapNode)))
            legend.SetLabelFormat("%.1f")
            legend.SetNumberOfLabels(_LABELS)
            legend.SetPosition(_LEFT if n else _RIGHT, 0.5)
            legend.SetSaveWithScene(int(carrier is mapNode))
            legend.SetVisibility(True)

    @staticmethod
    def hide() -> None:
        """Hide the legends of all maps."""
        for legend in slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode"):
            node = legend.GetDisplayableNode()
            if MapWriter.nameOf(node) or (node and node.GetAttribute(_CARRIER_ATTRIBUTE)):
                legend.SetVisibility(False)


def _carrierOf(
    mapNode: slicer.vtkMRMLScalarVolumeNode, sliceNodes: Iterable[slicer.vtkMRMLSliceNode]
) -> slicer.vtkMRMLModelNode:
    name = MapWriter.nameOf(mapNode)
    carriers = slicer.util.getNodesByClass("vtkMRMLModelNode")
    carrier = next((node for node in carriers if node.GetAttribute(_CARRIER_ATTRIBUTE)), None)
    if carrier is None:
        carrier = slicer.vtkMRMLModelNode()
        carrier.SetName(f"ImbalanceSeg {name} legend")
        carrier.SetHideFromEditors(1)
        carrier.SetSaveWithScene(0)
        carrier = slicer.mrmlScene.AddNode(carrier)
        carrier.CreateDefaultDisplayNodes()
        carrier.GetDisplayNode().SetSaveWithScene(0)
        carrier.GetDisplayNode().SetVisibility2D(True)
    carrier.SetAttribute(_CARRIER_ATTRIBUTE, name)
    display, mapDisplay = carrier.GetDisplayNode(), mapNode.GetDisplayNode()
    display.SetAndObserveColorNodeID(mapDisplay.GetColorNodeID())
    display.SetScalarRangeFlag(display.UseManualScalarRange)
    display.SetScalarRange(mapDisplay.GetWindowLevelMin(), mapDisplay.GetWindowLevelMax())
    display.RemoveAllViewNodeIDs()
    for sliceNode in sliceNodes:
        display.AddViewNodeID(sliceNode.GetID())
    return carrier


def _title(name: str) -> str:
    return {"attention": _("Attention"), "hardness": _("Hardness")}.get(name, name)
