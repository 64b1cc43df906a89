"""What was painted, as a label map in the scene."""

from __future__ import annotations

import slicer

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.annotation.files import (
    CLASSES_KEY,
    CONFIRMED_KEY,
    VERSION_KEY,
    annotation_from,
    header_fields,
)
from ImbalanceSegLib.Scene.VolumeGeometry import ijkToRASMatrix, imageOfVolume

_REFERENCE_ROLE = "ImbalanceSeg.annotatedVolume"
_KEYS = (VERSION_KEY, CONFIRMED_KEY, CLASSES_KEY)


class AnnotationVolume:
    """Keeps an annotation in a label-map node, so that it is saved and opened with the scene.

    The finished slices stand in attributes of the node. Slicer writes those into the header of the
    NRRD file that it keeps the voxels in, which makes that file one that the engine reads, and a
    file of the engine, loaded as a label map, one that this class reads.

    Args:
        labelmapNode: that holds the annotation, or shall hold it.
    """

    def __init__(self, labelmapNode: slicer.vtkMRMLLabelMapVolumeNode) -> None:
        self.node = labelmapNode

    @classmethod
    def ofVolume(cls, volumeNode: slicer.vtkMRMLScalarVolumeNode) -> AnnotationVolume:
        """That of a volume in the scene; a new one, in which nothing is said, where it has none."""
        node = volumeNode.GetNodeReference(_REFERENCE_ROLE)
        if node is None:
            node = slicer.mrmlScene.AddNewNodeByClass(
                "vtkMRMLLabelMapVolumeNode", f"{volumeNode.GetName()} annotation"
            )
            volumeNode.SetNodeReferenceID(_REFERENCE_ROLE, node.GetID())
            node.SetIJKToRASMatrix(ijkToRASMatrix(volumeNode))
            found = cls(node)
            found.write(Annotation.of(imageOfVolume(volumeNode)))
        node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        return cls(node)

    def read(self) -> Annotation:
        """The annotation, on the grid of the node.

        Raises:
            InputError: the attributes are damaged, or the voxels are no labels.
            ValueError: the axes of the node are not perpendicular.
        """
        image = imageOfVolume(self.node)
        for key in _KEYS:
            value = self.node.GetAttribute(key)
            if value is not None:
                image.SetMetaData(key, value)
        return annotation_from(image, self.node.GetName())

    def write(self, annotation: Annotation) -> None:
        """Put an annotation of the same grid into the node."""
        slicer.util.updateVolumeFromArray(self.node, annotation.labels)
        fields = header_fields(annotation)
        for key in _KEYS:
            if key in fields:
                self.node.SetAttribute(key, fields[key])
            else:
                self.node.RemoveAttribute(key)
