"""Maps of the engine as heat-map volumes."""

from __future__ import annotations

import numpy as np
import slicer
from slicer.i18n import tr as _

from ImbalanceSegLib.Scene.VolumeGeometry import ijkToRASMatrix

_COLOR_NODE_IDS = ("vtkMRMLColorTableNodeFileInferno.txt", "vtkMRMLColorTableNodeIron")
_REFERENCE_ROLE_PREFIX = "ImbalanceSeg.map."
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

    def write(self, name: str, values: np.ndarray) -> slicer.vtkMRMLScalarVolumeNode:
        """Put a map into its volume node, a new one if there is none yet.

        Args:
            name: name of the map, for example ``"hardness"``.
            values: float32 ``[k, j, i]`` in [0, 1] on the volume's grid.

        Returns:
            The volume node that shows the map.
        """
        role = _REFERENCE_ROLE_PREFIX + name
        node = self._segmentationNode.GetNodeReference(role)
        if node is None:
            node = slicer.mrmlScene.AddNewNodeByClass(
                "vtkMRMLScalarVolumeNode",
                _("{volume} {map} map").format(volume=self._volumeNode.GetName(), map=name),
            )
            self._segmentationNode.SetNodeReferenceID(role, node.GetID())
        node.SetIJKToRASMatrix(ijkToRASMatrix(self._volumeNode))
        slicer.util.updateVolumeFromArray(node, values)
        node.SetAndObserveTransformNodeID(self._volumeNode.GetTransformNodeID())
        if node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()
            _showAsHeat(node.GetDisplayNode())
        return node


def _showAsHeat(displayNode: slicer.vtkMRMLScalarVolumeDisplayNode) -> None:
    displayNode.SetAndObserveColorNodeID(_heatColorNodeID())
    displayNode.AutoWindowLevelOff()
    displayNode.SetWindowLevelMinMax(0.0, 1.0)
    displayNode.SetInterpolate(1)
    displayNode.AutoThresholdOff()
    displayNode.SetThreshold(_VISIBLE_FROM, 1.0)
    displayNode.SetApplyThreshold(1)


def _heatColorNodeID() -> str:
    present = [node for node in _COLOR_NODE_IDS if slicer.mrmlScene.GetNodeByID(node)]
    return present[0] if present else ""
