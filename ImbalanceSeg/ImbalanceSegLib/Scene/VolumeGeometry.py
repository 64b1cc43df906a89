"""Volume nodes as images: the only place where RAS meets the engine's LPS."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from slicer.i18n import tr as _

from imbalanceseg.geometry import Grid, image_from_array

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SHEAR_TOLERANCE = 1e-3


def ijkToRASMatrix(volumeNode: slicer.vtkMRMLVolumeNode) -> vtk.vtkMatrix4x4:
    """The volume's own index-to-RAS matrix, without its parent transform."""
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return matrix


def gridOfVolume(volumeNode: slicer.vtkMRMLVolumeNode) -> Grid:
    """Where the voxels lie in LPS millimetres, without the parent transform.

    Raises:
        ValueError: the volume's axes are not perpendicular, which image files cannot express.
    """
    matrix = _RAS_TO_LPS @ slicer.util.arrayFromVTKMatrix(ijkToRASMatrix(volumeNode))
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    if not np.all(spacing > 0):
        raise ValueError(
            _("The volume '{name}' has an axis without length.").format(name=volumeNode.GetName())
        )
    direction = matrix[:3, :3] / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > _SHEAR_TOLERANCE:
        raise ValueError(
            _(
                "The axes of the volume '{name}' are not perpendicular; resample it first, for "
                "example with the Crop Volume module."
            ).format(name=volumeNode.GetName())
        )
    return Grid(
        size=tuple(volumeNode.GetImageData().GetDimensions()),
        spacing_mm=tuple(spacing.tolist()),
        origin_mm=tuple(matrix[:3, 3].tolist()),
        direction=tuple(direction.ravel().tolist()),
    )


def imageOfVolume(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> sitk.Image:
    """A copy of the volume as an image in LPS, without the parent transform.

    Raises:
        ValueError: the volume's axes are not perpendicular.
    """
    return image_from_array(slicer.util.arrayFromVolume(volumeNode), gridOfVolume(volumeNode))
