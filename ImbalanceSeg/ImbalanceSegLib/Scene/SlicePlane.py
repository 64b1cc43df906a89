"""Views and points of the world, as seen from a volume with its parent transform."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer
from slicer.i18n import tr as _

from ImbalanceSegLib.Scene.VolumeGeometry import ijkToRASMatrix

_MOST_OFF_PLANE = 0.5
"""In slices: how far a view may leave a slice within the volume and still show that slice."""


def pointInVolume(
    volumeNode: slicer.vtkMRMLScalarVolumeNode, pointRAS: Sequence[float]
) -> tuple[float, float, float]:
    """A point of the world in the volume's own space.

    Args:
        volumeNode: a volume, under a parent transform or not.
        pointRAS: of the world, in mm.

    Returns:
        LPS in mm, without the parent transform, as the engine counts.
    """
    local = [0.0, 0.0, 0.0]
    volumeNode.TransformPointFromWorld([float(value) for value in pointRAS], local)
    return -local[0], -local[1], local[2]


def sliceShownBy(
    sliceNode: slicer.vtkMRMLSliceNode, volumeNode: slicer.vtkMRMLScalarVolumeNode
) -> tuple[int, int]:
    """The slice of a volume that a view shows, the nearest where the view lies between two.

    Args:
        sliceNode: of the view.
        volumeNode: the volume.

    Returns:
        Index axis that the slice is normal to (0 i, 1 j, 2 k), and index along it.

    Raises:
        ValueError: the view is turned against the volume, or shows nothing of it.
    """
    ijkToWorld = ijkToWorldMatrix(volumeNode)
    view = slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())
    normal = view[:3, 2] / np.linalg.norm(view[:3, 2])
    size = np.asarray(volumeNode.GetImageData().GetDimensions())
    # By how much one step along each index axis moves away from the plane of the view, in mm.
    steps = normal @ ijkToWorld[:3, :3]
    axis = int(np.argmax(np.abs(steps) / np.linalg.norm(ijkToWorld[:3, :3], axis=0)))
    others = [other for other in range(3) if other != axis]
    slope = sum(abs(steps[other]) * (size[other] - 1) / 2 for other in others)
    if slope > _MOST_OFF_PLANE * abs(steps[axis]):
        raise ValueError(
            _(
                "The view is turned against the volume '{name}', so it shows no single slice of "
                "it. Rotate the view to the volume plane first, with the button in the bar of "
                "the view."
            ).format(name=volumeNode.GetName())
        )
    centre = (size - 1) / 2
    centre[axis] = 0
    start = ijkToWorld[:3, :3] @ centre + ijkToWorld[:3, 3]
    index = int(np.floor(normal @ (view[:3, 3] - start) / steps[axis] + 0.5))
    if not 0 <= index < size[axis]:
        raise ValueError(
            _(
                "The view shows no slice of the volume '{name}'. Move it to a slice of the volume."
            ).format(name=volumeNode.GetName())
        )
    return axis, index


def ijkToWorldMatrix(volumeNode: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """From voxel index to world (RAS, mm), parent transform included.

    Raises:
        ValueError: the volume is warped by its transform.
    """
    matrix = slicer.util.arrayFromVTKMatrix(ijkToRASMatrix(volumeNode))
    parent = volumeNode.GetParentTransformNode()
    if parent is None:
        return matrix
    if not parent.IsTransformToWorldLinear():
        raise ValueError(
            _(
                "The volume '{name}' is warped by a transform, so a view shows no single slice of "
                "it. Take the volume out of the transform."
            ).format(name=volumeNode.GetName())
        )
    return slicer.util.arrayFromTransformMatrix(parent, toWorld=True) @ matrix
