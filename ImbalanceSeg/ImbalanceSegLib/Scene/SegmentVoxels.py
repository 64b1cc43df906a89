"""Voxels of segments on the grid of a volume, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer
import vtk
import vtk.util.numpy_support

from ImbalanceSegLib.Scene.VolumeGeometry import ijkToRASMatrix

_SAME_VOXEL = 0.02

Index = tuple[int, int, int]


class SegmentVoxels:
    """Reads and builds labelmaps of segments, index by index of a volume.

    Args:
        segmentationNode: holds the segments.
        volumeNode: whose grid counts.
    """

    def __init__(
        self,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
    ) -> None:
        self._node = segmentationNode
        self._volumeNode = volumeNode
        self._name = (
            slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
        )

    @property
    def shape(self) -> Index:
        """Of the volume, ``[k, j, i]``."""
        i, j, k = self._volumeNode.GetImageData().GetDimensions()
        return k, j, i

    def read(
        self, segmentID: str, start: Index = (0, 0, 0), size: Index | None = None
    ) -> np.ndarray:
        """Where a segment is, in a box of the volume.

        Args:
            segmentID: of a segment of the node.
            start: first voxel of the box (i, j, k).
            size: voxels along i, j, k; None for the whole volume.

        Returns:
            bool ``[k, j, i]``.
        """
        size = size or self.shape[::-1]
        box = np.zeros(size[::-1], bool)
        found = self._stored(segmentID)
        if found is None:
            whole = slicer.util.arrayFromSegmentBinaryLabelmap(
                self._node, segmentID, self._volumeNode
            )
            if whole is not None:
                box |= whole[_slices(start, size)] != 0
            return box
        voxels, first = found
        low = [max(a, b) for a, b in zip(start, first, strict=True)]
        high = [
            min(a + n, b + m)
            for a, n, b, m in zip(start, size, first, voxels.shape[::-1], strict=True)
        ]
        if all(a < b for a, b in zip(low, high, strict=True)):
            common = [b - a for a, b in zip(low, high, strict=True)]
            label = self._node.GetSegmentation().GetSegment(segmentID).GetLabelValue()
            stored = voxels[_slices(_minus(low, first), common)]
            box[_slices(_minus(low, start), common)] = stored == label
        return box

    def extent(self, segmentID: str) -> tuple[Index, Index] | None:
        """First voxel and size (i, j, k) of a box of the volume that holds a whole segment.

        None where the segment is not stored on the grid of the volume, or reaches beyond it.
        """
        found = self._stored(segmentID)
        if found is None:
            return None
        voxels, first = found
        size = voxels.shape[::-1]
        fits = all(
            a >= 0 and a + n <= m for a, n, m in zip(first, size, self.shape[::-1], strict=True)
        )
        return (first, size) if fits else None

    def image(self, voxels: np.ndarray, start: Index = (0, 0, 0)) -> slicer.vtkOrientedImageData:
        """A labelmap of a box of the volume.

        Args:
            voxels: ``[k, j, i]``, not 0 where the segment is.
            start: first voxel of the box (i, j, k).
        """
        image = slicer.vtkOrientedImageData()
        image.SetExtent(
            [n for a, m in zip(start, voxels.shape[::-1], strict=True) for n in (a, a + m - 1)]
        )
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        scalars = image.GetPointData().GetScalars()
        vtk.util.numpy_support.vtk_to_numpy(scalars).reshape(voxels.shape)[:] = voxels
        image.SetImageToWorldMatrix(ijkToRASMatrix(self._volumeNode))
        return image

    def _stored(self, segmentID: str) -> tuple[np.ndarray, Index] | None:
        """The labelmap as it is kept, and its first voxel in the volume (i, j, k).

        None where it is kept on another grid. Several segments may share it.
        """
        image = self._node.GetSegmentation().GetSegment(segmentID).GetRepresentation(self._name)
        moved = self._node.GetTransformNodeID() != self._volumeNode.GetTransformNodeID()
        if image is None or moved:
            return None
        scalars = image.GetPointData().GetScalars()
        extent = image.GetExtent()
        if scalars is None or any(a > b for a, b in zip(extent[::2], extent[1::2], strict=True)):
            return np.zeros((0, 0, 0), np.uint8), (0, 0, 0)
        own = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(own)
        volume = slicer.util.arrayFromVTKMatrix(ijkToRASMatrix(self._volumeNode))
        step = np.linalg.inv(volume) @ slicer.util.arrayFromVTKMatrix(own)
        shift = np.rint(step[:3, 3])
        expected = np.eye(4)
        expected[:3, 3] = shift
        # By so many voxels is the farthest one off.
        off = np.abs(step - expected)[:3] @ np.append(self.shape[::-1], 1.0)
        if off.max() > _SAME_VOXEL:
            return None
        voxels = vtk.util.numpy_support.vtk_to_numpy(scalars)
        i, j, k = (int(a + n) for a, n in zip(extent[::2], shift, strict=True))
        return voxels.reshape(image.GetDimensions()[::-1]), (i, j, k)


def _minus(first: Sequence[int], second: Sequence[int]) -> list[int]:
    return [a - b for a, b in zip(first, second, strict=True)]


def _slices(start: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))[::-1]
