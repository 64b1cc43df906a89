"""Labels of the engine as segments of a segmentation node."""

from __future__ import annotations

import numpy as np
import slicer
import vtk
import vtk.util.numpy_support
from slicer.i18n import tr as _

from imbalanceseg.labels import SegmentInfo
from ImbalanceSegLib.Engine.EngineResult import EngineResult
from ImbalanceSegLib.Scene.VolumeGeometry import ijkToRASMatrix

_ALGORITHM_TYPE_TAG = "DICOM.SegmentAlgorithmType"
_ALGORITHM_NAME_TAG = "DICOM.SegmentAlgorithmName"


class SegmentWriter:
    """Fills a segmentation node and leaves what is not its own as it is.

    A segment belongs to this module by its ID, so a second run of a model replaces the voxels of
    the first, whatever the user has renamed or recoloured in between.

    Args:
        segmentationNode: receives the segments.
        volumeNode: the volume that was segmented.
    """

    _ID_PREFIX = "ImbalanceSeg_"

    def __init__(
        self,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
    ) -> None:
        self._node = segmentationNode
        self._volumeNode = volumeNode

    @classmethod
    def segmentID(cls, modelName: str, label: int) -> str:
        """ID of the segment that holds one label of a model."""
        return f"{cls._ID_PREFIX}{modelName}_{label}"

    @classmethod
    def hasForeignSegments(cls, segmentationNode: slicer.vtkMRMLSegmentationNode) -> bool:
        """Whether the node holds segments that this module did not make."""
        segmentation = segmentationNode.GetSegmentation()
        return any(
            not segmentation.GetNthSegmentID(n).startswith(cls._ID_PREFIX)
            for n in range(segmentation.GetNumberOfSegments())
        )

    def write(self, result: EngineResult) -> tuple[str, ...]:
        """Put the labels into the node.

        Args:
            result: labels on the volume's grid.

        Returns:
            IDs of the segments that hold voxels.

        Raises:
            RuntimeError: the application refuses the voxels.
        """
        self._placeNode()
        written = []
        for info in result.segments:
            voxels = result.labels == info.label
            segmentID = self.segmentID(result.modelName, info.label)
            isNew = self._node.GetSegmentation().GetSegment(segmentID) is None
            if isNew and not voxels.any():
                continue
            if isNew:
                self._addSegment(segmentID, info)
            self._describe(segmentID, info, result)
            self._setVoxels(segmentID, voxels)
            if voxels.any():
                written.append(segmentID)
        return tuple(written)

    def _placeNode(self) -> None:
        node, volumeNode = self._node, self._volumeNode
        node.CreateDefaultDisplayNodes()
        # First, because the reference geometry includes the transform between the two nodes.
        node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
        node.SetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole(), volumeNode.GetID())

    def _addSegment(self, segmentID: str, info: SegmentInfo) -> None:
        segment = slicer.vtkSegment()
        segment.SetName(info.name)
        segment.SetColor(*(value / 255 for value in info.color))
        self._node.GetSegmentation().AddSegment(segment, segmentID)

    def _describe(self, segmentID: str, info: SegmentInfo, result: EngineResult) -> None:
        segment = self._node.GetSegmentation().GetSegment(segmentID)
        segment.SetTag(segment.GetTerminologyEntryTagName(), info.terminology_entry())
        segment.SetTag(_ALGORITHM_TYPE_TAG, "AUTOMATIC")
        segment.SetTag(
            _ALGORITHM_NAME_TAG, f"ImbalanceSeg {result.modelName} {result.modelVersion}"
        )

    def _setVoxels(self, segmentID: str, voxels: np.ndarray) -> None:
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        if not logic.SetBinaryLabelmapToSegment(
            self._orientedImage(voxels), self._node, segmentID, logic.MODE_REPLACE
        ):
            raise RuntimeError(
                _("The segment '{segment}' cannot be written into '{segmentation}'.").format(
                    segment=segmentID, segmentation=self._node.GetName()
                )
            )

    def _orientedImage(self, voxels: np.ndarray) -> slicer.vtkOrientedImageData:
        image = slicer.vtkOrientedImageData()
        image.SetDimensions(voxels.shape[::-1])
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        scalars = image.GetPointData().GetScalars()
        vtk.util.numpy_support.vtk_to_numpy(scalars).reshape(voxels.shape)[:] = voxels
        image.SetImageToWorldMatrix(ijkToRASMatrix(self._volumeNode))
        return image
