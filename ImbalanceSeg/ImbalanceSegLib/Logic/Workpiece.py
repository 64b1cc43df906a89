"""A segmentation that is being corrected, with its volume."""

from __future__ import annotations

from collections.abc import Container

import numpy as np
import slicer
from slicer.i18n import tr as _

from ImbalanceSegLib.Logic.InputCheck import whyNotReady
from ImbalanceSegLib.Logic.SegmentationTarget import SegmentationTarget
from ImbalanceSegLib.Scene.BoxChange import changedWindow
from ImbalanceSegLib.Scene.Boxes import Index, Window, sizeOf, startOf
from ImbalanceSegLib.Scene.SegmentVoxels import SegmentVoxels
from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord


class Workpiece:
    """The own segments of a segmentation, in boxes of its volume.

    Args:
        segmentationNode: that is corrected.

    Attributes:
        node: the segmentation.
        volumeNode: that was segmented.
        record: what the engine has done.

    Raises:
        ValueError: the segmentation has no volume, or one of both cannot be used.
    """

    def __init__(self, segmentationNode: slicer.vtkMRMLSegmentationNode | None) -> None:
        if segmentationNode is None:
            raise ValueError(_("Select the segmentation to correct."))
        record = WorkRecord(segmentationNode)
        volumeNode = record.volumeNode
        if volumeNode is None:
            raise ValueError(
                _(
                    "It is not known which volume '{segmentation}' belongs to. Select the volume "
                    "in the Segment Editor, or segment it."
                ).format(segmentation=segmentationNode.GetName())
            )
        if problem := whyNotReady(volumeNode, segmentationNode):
            raise ValueError(problem)
        if segmentationNode.GetTransformNodeID() != volumeNode.GetTransformNodeID():
            segmentationNode.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        self.node, self.volumeNode, self.record = segmentationNode, volumeNode, record
        self._target = SegmentationTarget(volumeNode, segmentationNode, ())
        self._voxels = SegmentVoxels(segmentationNode, volumeNode)

    @property
    def shape(self) -> Index:
        """Of the volume, ``[k, j, i]``."""
        return self._voxels.shape

    @property
    def segmentIDs(self) -> dict[int, str]:
        """The own segments that are there, by label."""
        return SegmentWriter.ownSegments(self.node)

    @property
    def shippedModel(self) -> str:
        """Name of the model that has segmented the volume; empty where none has."""
        steps = self.record.steps
        return steps[0]["model"] if steps and steps[0]["kind"] == "segment" else ""

    @property
    def isPresent(self) -> bool:
        """Whether both nodes are in the scene, and the volume is what it was."""
        try:
            self.requirePresent()
        except RuntimeError:
            return False
        return True

    def requirePresent(self) -> None:
        """Refuse to go on with nodes that are gone.

        Raises:
            RuntimeError: a node was removed, or the volume was changed.
        """
        self._target.requireNodes()

    def whole(self) -> Window:
        """All of the volume, as an index of ``[k, j, i]``."""
        k, j, i = self.shape
        return slice(0, k), slice(0, j), slice(0, i)

    def ownLabels(self, window: Window | None = None) -> np.ndarray:
        """The own segments as they are now, in a box of the volume.

        Args:
            window: as an index of ``[k, j, i]``; None for the whole volume.

        Returns:
            uint8 ``[k, j, i]``; 0 where no own segment is. Where segments overlap, the higher label
            wins.
        """
        window = window or self.whole()
        start, size = startOf(window), sizeOf(window)
        labels = np.zeros(size[::-1], np.uint8)
        for label, segmentID in sorted(self.segmentIDs.items()):
            labels[self._voxels.read(segmentID, start, size)] = label
        return labels

    def engineLabels(self, window: Window | None = None) -> np.ndarray:
        """What the engine said last, in a box; background where it has said nothing."""
        labels = self.record.engineLabels()
        window = window or self.whole()
        if labels is None:
            return np.zeros(sizeOf(window)[::-1], np.uint8)
        return labels[window]

    def setEngineLabels(self, labels: np.ndarray, window: Window) -> None:
        """Keep what the engine says now, in a box."""
        node = self.record.labels
        if self.record.engineLabels() is None or node is None:
            whole = np.zeros(self.shape, np.uint8)
            whole[window] = labels
            self.record.setEngineLabels(whole)
            return
        slicer.util.arrayFromVolume(node)[window] = labels
        slicer.util.arrayFromVolumeModified(node)

    def write(self, before: np.ndarray, after: np.ndarray, window: Window | None = None) -> None:
        """Change the own segments in a box where ``after`` differs from ``before``.

        Args:
            before: uint8 ``[k, j, i]``, the own segments of the box as they are.
            after: what they shall be.
            window: the box; None for the whole volume.

        Raises:
            RuntimeError: the application refuses the voxels.
        """
        inner = changedWindow(before, after)
        if inner is None:
            return
        start = startOf(window or self.whole())
        first = tuple(a + part.start for a, part in zip(start, inner[::-1], strict=True))
        SegmentWriter(self.node, self.volumeNode).writeBox(
            after[inner], first, after[inner] != before[inner]
        )

    def removeEmptyExcept(self, segmentIDs: Container[str]) -> None:
        """Remove own segments without voxels, except some."""
        for segmentID in self.segmentIDs.values():
            if segmentID not in segmentIDs and not self._voxels.read(segmentID).any():
                self.node.GetSegmentation().RemoveSegment(segmentID)
