"""What a slice of a volume is called."""

from __future__ import annotations

import numpy as np
import slicer
from slicer.i18n import tr as _

from ImbalanceSegLib.Scene.VolumeGeometry import ijkToRASMatrix


def sliceTitle(volumeNode: slicer.vtkMRMLVolumeNode, axis: int, index: int) -> str:
    """Such as ``"Axial slice 58 of 120"``.

    Args:
        volumeNode: to which the slice belongs.
        axis: index axis that the slice is normal to: 0 i, 1 j, 2 k.
        index: along the axis, from 0; people count from 1.
    """
    return _("{plane} slice {number} of {count}").format(
        plane=_planes(volumeNode)[axis],
        number=index + 1,
        count=volumeNode.GetImageData().GetDimensions()[axis],
    )


def _planes(volumeNode: slicer.vtkMRMLVolumeNode) -> list[str]:
    """Name of the slices normal to each axis, by the direction of the body they are nearest to."""
    names = (_("Sagittal"), _("Coronal"), _("Axial"))
    matrix = slicer.util.arrayFromVTKMatrix(ijkToRASMatrix(volumeNode))
    normals = np.abs(np.linalg.inv(matrix[:3, :3]))
    return [names[int(direction)] for direction in normals.argmax(axis=1)]
