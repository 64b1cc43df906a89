"""Segments of the engine as labels."""

from __future__ import annotations

import numpy as np
import slicer

from ImbalanceSegLib.Scene.SegmentVoxels import SegmentVoxels
from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter


class SegmentReader:
    """Reads back what :class:`SegmentWriter` has written and people have changed since."""

    @staticmethod
    def labelsOf(
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
    ) -> np.ndarray:
        """The own segments as they are now; those of others count as background.

        Args:
            segmentationNode: holds the segments.
            volumeNode: the volume that was segmented.

        Returns:
            uint8 ``[k, j, i]`` on the volume's grid. Where segments overlap, the higher label wins.
        """
        own = SegmentWriter.ownSegments(segmentationNode)
        voxels = SegmentVoxels(segmentationNode, volumeNode)
        labels = np.zeros(voxels.shape, np.uint8)
        for label in sorted(own):
            extent = voxels.extent(own[label])
            if extent is None:
                labels[voxels.read(own[label])] = label
                continue
            start, size = extent
            window = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))[::-1]
            labels[window][voxels.read(own[label], start, size)] = label
        return labels
