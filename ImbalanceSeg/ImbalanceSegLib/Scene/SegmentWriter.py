"""Labels of the engine as segments of a segmentation node."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import slicer
from slicer.i18n import tr as _

from imbalanceseg.labels import SegmentInfo
from ImbalanceSegLib.Engine.EngineResult import EngineResult
from ImbalanceSegLib.Scene.SegmentVoxels import Index, SegmentVoxels
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord

_ALGORITHM_TYPE_TAG = "DICOM.SegmentAlgorithmType"
_ALGORITHM_NAME_TAG = "DICOM.SegmentAlgorithmName"
_AUTOMATIC, _SEMIAUTOMATIC = "AUTOMATIC", "SEMIAUTOMATIC"


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
        self._voxels = SegmentVoxels(segmentationNode, volumeNode)
        self._volumeNode = volumeNode

    @classmethod
    def segmentID(cls, modelName: str, label: int) -> str:
        """ID of the segment that holds one label of a model."""
        return f"{cls._ID_PREFIX}{modelName}_{label}"

    @classmethod
    def labelOf(cls, segmentID: str) -> int | None:
        """The label that a segment holds; None for one that this module did not make."""
        if not segmentID.startswith(cls._ID_PREFIX):
            return None
        digits = segmentID.rpartition("_")[2]
        return int(digits) if digits.isdecimal() else None

    @classmethod
    def hasForeignSegments(cls, segmentationNode: slicer.vtkMRMLSegmentationNode) -> bool:
        """Whether the node holds segments that this module neither made nor learns."""
        known = WorkRecord(segmentationNode).segmentIDs.values()
        return any(
            cls.labelOf(segmentID) is None and segmentID not in known
            for segmentID in _idsOf(segmentationNode)
        )

    @classmethod
    def ownSegments(cls, segmentationNode: slicer.vtkMRMLSegmentationNode) -> dict[int, str]:
        """IDs of the segments of the last result, by label.

        Segments that another model has left in the node are not among them.
        """
        present = _idsOf(segmentationNode)
        kept = WorkRecord(segmentationNode).segmentIDs
        if kept:
            return {label: name for label, name in kept.items() if name in present}
        labels = {name: cls.labelOf(name) for name in present}
        return {label: name for name, label in labels.items() if label is not None}

    def write(self, result: EngineResult, isCorrection: bool = False) -> tuple[str, ...]:
        """Put the labels into the node, and remember which segments hold them.

        Args:
            result: labels on the volume's grid.
            isCorrection: whether this is what a person's corrections have made of the last result.
                It goes into the segments of that one, whatever its model is called.

        Returns:
            IDs of the segments that hold voxels.

        Raises:
            RuntimeError: the application refuses the voxels.
        """
        self.placeNode()
        present = self.ownSegments(self._node) if isCorrection else {}
        algorithm = _SEMIAUTOMATIC if isCorrection else _AUTOMATIC
        written, segmentIDs = [], {}
        for info in result.segments:
            voxels = result.labels == info.label
            segmentID = present.get(info.label, self.segmentID(result.modelName, info.label))
            segmentIDs[info.label] = segmentID
            isNew = segmentID not in _idsOf(self._node)
            if isNew and not voxels.any():
                continue
            if isNew:
                self._addSegment(segmentID, info)
            self._describe(segmentID, info, f"{result.modelName} {result.modelVersion}", algorithm)
            self._setVoxels(segmentID, voxels)
            if voxels.any():
                written.append(segmentID)
        WorkRecord(self._node).segmentIDs = segmentIDs
        return tuple(written)

    def writeBox(
        self, labels: np.ndarray, start: Index = (0, 0, 0), mask: np.ndarray | None = None
    ) -> tuple[str, ...]:
        """Change the own segments in a box; everything else stays as it is.

        Segments that change count as made by person and engine together from then on.

        Args:
            labels: ``[k, j, i]``, of the box.
            start: first voxel of the box (i, j, k).
            mask: bool ``[k, j, i]``, where the labels count; None for everywhere.

        Returns:
            IDs of the segments that have changed.

        Raises:
            ValueError: the box does not lie inside the volume.
            RuntimeError: the application refuses the voxels.
        """
        size = labels.shape[::-1]
        if any(a < 0 or a + n > m for a, n, m in zip(start, size, self._size(), strict=True)):
            raise ValueError(_("The change reaches beyond the volume."))
        self.requireSegments(np.unique(labels if mask is None else labels[mask]).tolist())
        changed = []
        for label, segmentID in self.ownSegments(self._node).items():
            before = self._voxels.read(segmentID, start, size)
            after = labels == label
            if mask is not None:
                after = np.where(mask, after, before)
            if np.array_equal(before, after):
                continue
            self._change(segmentID, after, start)
            self.markCorrected(segmentID)
            changed.append(segmentID)
        return tuple(changed)

    def markCorrected(self, segmentID: str) -> None:
        """Say of a segment that person and engine have made it together."""
        segment = self._node.GetSegmentation().GetSegment(segmentID)
        segment.SetTag(_ALGORITHM_TYPE_TAG, _SEMIAUTOMATIC)

    def requireSegments(self, labels: Collection[int]) -> None:
        """Add empty segments for labels that a model has found nothing of.

        Args:
            labels: those of the last result that need a segment.
        """
        record = WorkRecord(self._node)
        own = self.ownSegments(self._node)
        for info in record.segments:
            if info.label in labels and info.label not in own:
                segmentID = record.segmentIDs.get(
                    info.label, self.segmentID(record.modelName, info.label)
                )
                self._addSegment(segmentID, info)
                made = f"{record.modelName} {record.modelVersion}"
                self._describe(segmentID, info, made, _SEMIAUTOMATIC)
                record.segmentIDs = {**record.segmentIDs, info.label: segmentID}

    def _size(self) -> tuple[int, int, int]:
        k, j, i = self._voxels.shape
        return i, j, k

    def placeNode(self) -> None:
        """Let the node lie and move with the volume, on its grid."""
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

    def _describe(self, segmentID: str, info: SegmentInfo, made: str, algorithm: str) -> None:
        segment = self._node.GetSegmentation().GetSegment(segmentID)
        segment.SetTag(segment.GetTerminologyEntryTagName(), info.terminology_entry())
        segment.SetTag(_ALGORITHM_TYPE_TAG, algorithm)
        segment.SetTag(_ALGORITHM_NAME_TAG, f"ImbalanceSeg {made}")

    def _change(self, segmentID: str, voxels: np.ndarray, start: Index) -> None:
        """Replace a segment by itself with a box changed, over no more voxels than that needs."""
        first, size = self._aroundBoth(segmentID, start, voxels.shape[::-1])
        whole = self._voxels.read(segmentID, first, size)
        at = [a - b for a, b in zip(start, first, strict=True)]
        window = [slice(a, a + n) for a, n in zip(at, voxels.shape[::-1], strict=True)]
        whole[tuple(window[::-1])] = voxels
        self._setVoxels(segmentID, whole, first)

    def _aroundBoth(self, segmentID: str, start: Index, size: Index) -> tuple[Index, Index]:
        """A box (first voxel and size) that holds a segment and a box."""
        extent = self._voxels.extent(segmentID)
        if extent is None:
            return (0, 0, 0), self._size()
        if 0 in extent[1]:
            return start, size
        low = [min(a, b) for a, b in zip(start, extent[0], strict=True)]
        high = [max(a + n, b + m) for a, n, b, m in zip(start, size, *extent, strict=True)]
        i, j, k = (b - a for a, b in zip(low, high, strict=True))
        return (low[0], low[1], low[2]), (i, j, k)

    def _setVoxels(self, segmentID: str, voxels: np.ndarray, start: Index = (0, 0, 0)) -> None:
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        if not logic.SetBinaryLabelmapToSegment(
            self._voxels.image(voxels, start), self._node, segmentID, logic.MODE_REPLACE
        ):
            raise RuntimeError(
                _("The segment '{segment}' cannot be written into '{segmentation}'.").format(
                    segment=segmentID, segmentation=self._node.GetName()
                )
            )


def _idsOf(segmentationNode: slicer.vtkMRMLSegmentationNode) -> list[str]:
    segmentation = segmentationNode.GetSegmentation()
    return [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
