"""Maps of the engine as heat-map volumes."""

from __future__ import annotations

import numpy as np
import slicer
from slicer.i18n import tr as _

from ImbalanceSegLib.Scene.VolumeGeometry import ijkToRASMatrix

_COLOR_NODE_IDS = {
    "attention": ("vtkMRMLColorTableNodeFileViridis.txt", "vtkMRMLColorTableNodeOcean"),
    "hardness": ("vtkMRMLColorTableNodeFileInferno.txt", "vtkMRMLColorTableNodeIron"),
}
_REFERENCE_ROLE_PREFIX = "ImbalanceSeg.map."
_NAME_ATTRIBUTE = "ImbalanceSeg.map"
_VISIBLE_FROM = 0.1


class MapWriter:
    """Turns maps in [0, 1] into scalar volumes that lie and move with the segmented volume.

    The segmentation node refers to its maps, so a second run fills the volumes of the first.

    Args:
        segmentationNode: the segmentation that the maps belong to.
        volumeNode: the volume that was segmented.
    """

    def __init__(
        self,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
    ) -> None:
        self._segmentationNode = segmentationNode
        self._volumeNode = volumeNode

    @staticmethod
    def mapOf(
        segmentationNode: slicer.vtkMRMLSegmentationNode, name: str
    ) -> slicer.vtkMRMLScalarVolumeNode | None:
        """The volume that shows a map of a segmentation; None where there is none."""
        return segmentationNode.GetNodeReference(_REFERENCE_ROLE_PREFIX + name)

    @staticmethod
    def nameOf(volumeNode: slicer.vtkMRMLVolumeNode | None) -> str:
        """Name of the map that a volume shows; empty for volumes that are no map."""
        return (volumeNode.GetAttribute(_NAME_ATTRIBUTE) or "") if volumeNode else ""

    def write(self, name: str, values: np.ndarray) -> slicer.vtkMRMLScalarVolumeNode:
        """Put a map into its volume node, a new one if there is none yet.

        Args:
            name: name of the map, for example ``"hardness"``.
            values: float32 ``[k, j, i]`` in [0, 1] on the volume's grid.

        Returns:
            The volume node that shows the map.
        """
        node = self.mapOf(self._segmentationNode, name)
        if node is None:
            node = slicer.mrmlScene.AddNewNodeByClass(
                "vtkMRMLScalarVolumeNode",
                _("{volume} {map} map").format(volume=self._volumeNode.GetName(), map=name),
            )
            self._segmentationNode.SetNodeReferenceID(_REFERENCE_ROLE_PREFIX + name, node.GetID())
        node.SetAttribute(_NAME_ATTRIBUTE, name)
        node.SetIJKToRASMatrix(ijkToRASMatrix(self._volumeNode))
        slicer.util.updateVolumeFromArray(node, values)
        node.SetAndObserveTransformNodeID(self._volumeNode.GetTransformNodeID())
        if node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()
            _showAsHeat(node.GetDisplayNode(), name)
        return node


def _showAsHeat(displayNode: slicer.vtkMRMLScalarVolumeDisplayNode, name: str) -> None:
    displayNode.SetAndObserveColorNodeID(_heatColorNodeID(name))
    displayNode.AutoWindowLevelOff()
    displayNode.SetWindowLevelMinMax(0.0, 1.0)
    displayNode.SetInterpolate(1)
    displayNode.AutoThresholdOff()
    displayNode.SetThreshold(_VISIBLE_FROM, 1.0)
    displayNode.SetApplyThreshold(1)


def _heatColorNodeID(name: str) -> str:
    wanted = _COLOR_NODE_IDS.get(name, _COLOR_NODE_IDS["hardness"])
    present = [nodeID for nodeID in wanted if slicer.mrmlScene.GetNodeByID(nodeID)]
    return present[0] if present else ""
