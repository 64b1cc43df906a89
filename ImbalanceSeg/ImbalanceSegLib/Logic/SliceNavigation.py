"""Bringing a slice of a volume into view."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer
from slicer.i18n import tr as _

from ImbalanceSegLib.Scene.SlicePlane import ijkToWorldMatrix
from ImbalanceSegLib.Scene.ViewNodes import sliceViews, sliceViewsOf

_PARALLEL = 1 - 1e-9
_MARGIN = 0.05


class SliceNavigation:
    """Turns slice views to the axes of a volume and moves them to one of its slices.

    A slice of the volume then fills a view exactly, so that what is painted there is that slice
    alone. Works on nodes, with or without a window.
    """

    def jumpTo(
        self,
        volumeNode: slicer.vtkMRMLVolumeNode,
        axis: int,
        index: int,
        pointIJK: Sequence[float] | None = None,
    ) -> str:
        """Show a slice, in the view that shows its axis best.

        Views that show other volumes are left alone. Where the layout has no view of that axis, one
        that it has is turned.

        Args:
            volumeNode: to which the slice belongs.
            axis: index axis that the slice is normal to: 0 i, 1 j, 2 k.
            index: of the slice along the axis, from 0.
            pointIJK: voxel that all views are moved to; None leaves the other views where they are.

        Returns:
            Name of the view that shows the slice, such as ``"Red"``; empty where there is none.

        Raises:
            ValueError: the volume has no such slice, or is warped by its transform.
        """
        size = volumeNode.GetImageData().GetDimensions() if volumeNode.GetImageData() else (0, 0, 0)
        if axis not in (0, 1, 2) or not 0 <= index < size[axis]:
            raise ValueError(
                _("The volume '{name}' has no slice {index} along its axis {axis}.").format(
                    name=volumeNode.GetName(), index=index, axis=axis
                )
            )
        ijkToWorld = ijkToWorldMatrix(volumeNode)
        point = [(n - 1) / 2 for n in size] if pointIJK is None else list(pointIJK)
        point[axis] = index
        world = (ijkToWorld @ [*point, 1])[:3]
        nodes = [view.sliceNode for view in sliceViewsOf(volumeNode)]
        for node in nodes:
            _rotate(node, volumeNode)
        if not nodes:
            return ""
        target = _viewAlong(nodes, axis, volumeNode, ijkToWorld)
        for node in nodes if pointIJK is not None else [target]:
            _move(node, world)
        return str(target.GetLayoutName())

    def jumpToRAS(
        self, volumeNode: slicer.vtkMRMLVolumeNode, pointRAS: Sequence[float], axis: int = 2
    ) -> str:
        """Show the slice of a volume that is nearest to a point; all views move there.

        Args:
            volumeNode: whose slice is shown.
            pointRAS: in world coordinates, in mm.
            axis: index axis that the slice is normal to: 0 i, 1 j, 2 k.

        Returns:
            Name of the view that shows the slice; empty where there is none.

        Raises:
            ValueError: the point lies outside of the volume, or the volume is warped by its
                transform.
        """
        point = (np.linalg.inv(ijkToWorldMatrix(volumeNode)) @ [*pointRAS, 1])[:3]
        return self.jumpTo(volumeNode, axis, round(point[axis]), point)

    def sliceNameFor(self, axis: int, volumeNode: slicer.vtkMRMLVolumeNode) -> str:
        """Name of the view that shows slices of an axis best; empty where there is no view.

        Raises:
            ValueError: the volume is warped by its transform.
        """
        normal = _normals(ijkToWorldMatrix(volumeNode))[axis]
        nodes = [view.sliceNode for view in sliceViews()]
        if not nodes:
            return ""
        return str(max(nodes, key=lambda node: abs(_normalOf(node) @ normal)).GetLayoutName())


def _normals(ijkToWorld: np.ndarray) -> np.ndarray:
    """One row an axis: the unit normal of its slices, which a shear makes differ from the axis."""
    rows = np.linalg.inv(ijkToWorld[:3, :3])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _normalOf(sliceNode: slicer.vtkMRMLSliceNode) -> np.ndarray:
    return slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())[:3, 2]


def _viewAlong(
    nodes: Sequence[slicer.vtkMRMLSliceNode],
    axis: int,
    volumeNode: slicer.vtkMRMLVolumeNode,
    ijkToWorld: np.ndarray,
) -> slicer.vtkMRMLSliceNode:
    """A view of an axis among views that are turned to the volume; turned there if need be."""
    normals = _normals(ijkToWorld)
    axes = [int(np.abs(normals @ _normalOf(node)).argmax()) for node in nodes]
    if axis in axes:
        return nodes[axes.index(axis)]
    spare = next((n for n, found in enumerate(axes) if found in axes[:n]), 0)
    node = nodes[spare]
    for orientation in ("Axial", "Coronal", "Sagittal"):
        if node.SetOrientation(orientation):
            _rotate(node, volumeNode)
            if abs(_normalOf(node) @ normals[axis]) > _PARALLEL:
                return node
    _turn(node, normals[axis], ijkToWorld[:3, (axis + 1) % 3])
    return node


def _rotate(node: slicer.vtkMRMLSliceNode, volumeNode: slicer.vtkMRMLVolumeNode) -> None:
    node.RotateToVolumePlane(volumeNode)
    # Of a sheared volume it takes over the shear, and then finds no offset.
    matrix = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
    right, up = matrix[:3, 0], matrix[:3, 1]
    if abs(right @ up) > 1 - _PARALLEL:
        _setAxes(node, right, up - (right @ up) * right, matrix[:3, 2])


def _turn(node: slicer.vtkMRMLSliceNode, normal: np.ndarray, across: np.ndarray) -> None:
    """Turn a view to a normal when it lies far from axial, coronal and sagittal alike."""
    _setAxes(node, across, np.cross(normal, across), normal)


def _setAxes(node: slicer.vtkMRMLSliceNode, *axes: np.ndarray) -> None:
    matrix = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS())
    for n, direction in enumerate(axes):
        matrix[:3, n] = direction / np.linalg.norm(direction)
    slicer.util.updateVTKMatrixFromArray(node.GetSliceToRAS(), matrix)
    node.UpdateMatrices()


def _move(node: slicer.vtkMRMLSliceNode, world: np.ndarray) -> None:
    """Put the plane through a point, and the point into the view where it is outside of it."""
    node.JumpSliceByOffsetting(*world)
    rasToXY = np.linalg.inv(slicer.util.arrayFromVTKMatrix(node.GetXYToRAS()))
    x, y = (rasToXY @ [*world, 1])[:2] / node.GetDimensions()[:2]
    if not (_MARGIN < x < 1 - _MARGIN and _MARGIN < y < 1 - _MARGIN):
        node.JumpSliceByCentering(*world)
