"""Whether a volume can be segmented into a segmentation node, and if not, why."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter
from ImbalanceSegLib.Scene.VolumeGeometry import gridOfVolume


def whyNotReady(
    volumeNode: slicer.vtkMRMLScalarVolumeNode | None,
    segmentationNode: slicer.vtkMRMLSegmentationNode | None = None,
) -> str:
    """One sentence that says what keeps a run from starting; empty when nothing does.

    Args:
        volumeNode: the volume to segment.
        segmentationNode: where the segments go; None for a new node.
    """
    return _problemOfVolume(volumeNode) or _problemOfSegmentation(volumeNode, segmentationNode)


def _problemOfVolume(volumeNode: slicer.vtkMRMLScalarVolumeNode | None) -> str:
    if volumeNode is None:
        return _("Select the volume to segment.")
    name = volumeNode.GetName()
    if not volumeNode.IsA("vtkMRMLScalarVolumeNode") or volumeNode.IsA("vtkMRMLLabelMapVolumeNode"):
        return _("'{name}' is not a scalar volume.").format(name=name)
    image = volumeNode.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        return _("The volume '{name}' holds no voxels.").format(name=name)
    if image.GetNumberOfScalarComponents() != 1:
        return _("The volume '{name}' has several values a voxel; one is needed.").format(name=name)
    if min(image.GetDimensions()) < 2:
        return _("The volume '{name}' is a single slice; a 3D volume is needed.").format(name=name)
    try:
        gridOfVolume(volumeNode)
    except ValueError as error:
        return str(error)
    return ""


def _problemOfSegmentation(
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
    segmentationNode: slicer.vtkMRMLSegmentationNode | None,
) -> str:
    if segmentationNode is None or not SegmentWriter.hasForeignSegments(segmentationNode):
        return ""
    name = segmentationNode.GetName()
    if segmentationNode.GetTransformNodeID() != volumeNode.GetTransformNodeID():
        return _(
            "The segmentation '{segmentation}' holds other segments and stands under another "
            "transform than '{volume}'; select a new segmentation."
        ).format(segmentation=name, volume=volumeNode.GetName())
    voxels = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    if segmentationNode.GetSegmentation().GetSourceRepresentationName() != voxels:
        return _(
            "The segments of '{segmentation}' are surfaces, not voxels; select a new segmentation."
        ).format(segmentation=name)
    return ""
