"""Attention and hardness as heat maps over the volume."""

from __future__ import annotations

from collections.abc import Mapping

import slicer
from slicer.i18n import tr as _

from ImbalanceSegLib.Scene.MapLegends import MapLegends
from ImbalanceSegLib.Scene.MapWriter import MapWriter
from ImbalanceSegLib.Scene.ViewNodes import sliceViewsOf

_FOREGROUND_BEFORE = "ImbalanceSeg.foregroundBefore"
_OPACITY_BEFORE = "ImbalanceSeg.foregroundOpacityBefore"
_ORDER = ("hardness", "attention")

_Layer = tuple[slicer.vtkMRMLScalarVolumeNode, float]


class MapDisplay:
    """Lays the maps of a segmentation over its volume, with a legend of their colors.

    The first map takes the foreground of each view, the second a layer of its own above it, which
    Slicer has from 5.10 on; without it, only the more opaque map is shown. Whatever the user had in
    the foreground comes back when the maps go.
    """

    def showMaps(
        self,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        opacities: Mapping[str, float],
        legend: bool = True,
    ) -> tuple[str, ...]:
        """Show maps in the views of their volume, and no other maps anywhere.

        A reopened scene has lost the opacity of the second map; call this again then.

        Args:
            segmentationNode: whose maps are shown.
            opacities: by name of the map (``"hardness"``, ``"attention"``), from 0 to 1; 0 hides
                the map, as does leaving it out.
            legend: also say what the colors mean.

        Returns:
            Names of the maps that are shown, the one in the foreground first.

        Raises:
            ValueError: the volume that was segmented is no longer in the scene.
        """
        volumeNode = segmentationNode.GetNodeReference(
            segmentationNode.GetReferenceImageGeometryReferenceRole()
        )
        if volumeNode is None:
            raise ValueError(_("The volume that was segmented is no longer in the scene."))
        wanted = _wanted(segmentationNode, opacities)
        if not wanted:
            self.hide()
            return ()
        views = sliceViewsOf(volumeNode)
        if not all(canShowTwo(view.compositeNode) for view in views):
            wanted = sorted(wanted, key=lambda name: -opacities[name])[:1]
        layers = [(MapWriter.mapOf(segmentationNode, name), opacities[name]) for name in wanted]
        shown = {view.compositeNode.GetID() for view in views}
        for compositeNode in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            _setMaps(compositeNode, layers if compositeNode.GetID() in shown else [])
        explained = [mapNode for mapNode, _opacity in layers[:2]] if legend else []
        MapLegends.show(explained, [view.sliceNode for view in views])
        return tuple(wanted)

    def hide(self) -> None:
        """Take the maps and their legends out of all views."""
        for compositeNode in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            _setMaps(compositeNode, [])
        MapLegends.hide()


def canShowTwo(compositeNode: slicer.vtkMRMLSliceCompositeNode) -> bool:
    """Whether this version of Slicer lays more than two volumes over each other."""
    return hasattr(compositeNode, "SetNthLayerVolumeID")


def _wanted(
    segmentationNode: slicer.vtkMRMLSegmentationNode, opacities: Mapping[str, float]
) -> list[str]:
    return [
        name
        for name in (*_ORDER, *sorted(set(opacities) - set(_ORDER)))
        if opacities.get(name, 0) > 0 and MapWriter.mapOf(segmentationNode, name) is not None
    ]


def _setMaps(compositeNode: slicer.vtkMRMLSliceCompositeNode, layers: list[_Layer]) -> None:
    with slicer.util.NodeModify(compositeNode):
        if layers:
            _rememberForeground(compositeNode)
            compositeNode.SetForegroundVolumeID(layers[0][0].GetID())
            compositeNode.SetForegroundOpacity(layers[0][1])
        else:
            _restoreForeground(compositeNode)
        _setLayersAbove(compositeNode, layers[1:])


def _rememberForeground(compositeNode: slicer.vtkMRMLSliceCompositeNode) -> None:
    volumeID = compositeNode.GetForegroundVolumeID()
    if _isMap(volumeID):
        return
    compositeNode.SetNodeReferenceID(_FOREGROUND_BEFORE, volumeID)
    compositeNode.SetAttribute(_OPACITY_BEFORE, str(compositeNode.GetForegroundOpacity()))


def _restoreForeground(compositeNode: slicer.vtkMRMLSliceCompositeNode) -> None:
    if _isMap(compositeNode.GetForegroundVolumeID()):
        before = compositeNode.GetNodeReference(_FOREGROUND_BEFORE)
        compositeNode.SetForegroundVolumeID(before.GetID() if before else None)
        compositeNode.SetForegroundOpacity(float(compositeNode.GetAttribute(_OPACITY_BEFORE) or 0))
    compositeNode.SetNodeReferenceID(_FOREGROUND_BEFORE, None)
    compositeNode.RemoveAttribute(_OPACITY_BEFORE)


def _setLayersAbove(compositeNode: slicer.vtkMRMLSliceCompositeNode, layers: list[_Layer]) -> None:
    """Replace the maps among the layers above the foreground; layers of others stay."""
    if not canShowTwo(compositeNode):
        return
    first = compositeNode.Layer_Last
    count = compositeNode.GetNumberOfAdditionalLayers()
    present = [
        (compositeNode.GetNthLayerVolumeID(n), compositeNode.GetNthLayerOpacity(n))
        for n in range(first, first + count)
    ]
    wanted = [layer for layer in present if not _isMap(layer[0])]
    wanted += [(mapNode.GetID(), opacity) for mapNode, opacity in layers]
    for n in reversed(range(first + len(wanted), first + count)):
        compositeNode.SetNthLayerVolumeID(n, None)
    for n, (volumeID, opacity) in enumerate(wanted, first):
        compositeNode.SetNthLayerVolumeID(n, volumeID)
        compositeNode.SetNthLayerOpacity(n, opacity)


def _isMap(volumeID: str | None) -> bool:
    return bool(volumeID and MapWriter.nameOf(slicer.mrmlScene.GetNodeByID(volumeID)))
