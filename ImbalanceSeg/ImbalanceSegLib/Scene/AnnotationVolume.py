"""What was painted, as a label map in the scene."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import slicer
from slicer.i18n import tr as _

from imbalanceseg.annotation.annotation import Annotation, ConfirmedSlice
from imbalanceseg.annotation.files import (
    CLASSES_KEY,
    CONFIRMED_KEY,
    VERSION_KEY,
    annotation_from,
    header_fields,
)
from ImbalanceSegLib.Scene.VolumeGeometry import gridOfVolume, ijkToRASMatrix, imageOfVolume

_REFERENCE_ROLE = "ImbalanceSeg.annotatedVolume"
_SEGMENTATION_ROLE = "ImbalanceSeg.annotation"
_KEYS = (VERSION_KEY, CONFIRMED_KEY, CLASSES_KEY)
_SEGMENT_IDS_KEY = "ImbalanceSeg_SegmentIDs"
_RUN_KEY = "ImbalanceSeg_Job"
_PLACE_KEY = "ImbalanceSeg_IJKToRAS"
_SAME_PLACE = 1e-3


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
        """That of a volume in the scene; a new one, in which nothing is said, where it has none.

        Where several segmentations of the volume have one each, the one that was used last.
        """
        node = volumeNode.GetNodeReference(_REFERENCE_ROLE) or _newNode(volumeNode)
        node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        return cls(node)

    @classmethod
    def ofSegmentation(
        cls,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        segmentIDs: Mapping[int, str],
    ) -> AnnotationVolume:
        """That of a segmentation, a new one where it has none.

        A label means one of its segments. So what was painted for the segments of one model says
        nothing of those of another, which get an annotation of their own.

        Args:
            segmentationNode: that is painted in.
            volumeNode: that was segmented.
            segmentIDs: the segment of each label.
        """
        node = segmentationNode.GetNodeReference(_SEGMENTATION_ROLE)
        if node is None:
            node = _unusedNode(volumeNode)
        if node is None or not (_means(node, segmentIDs) and _fits(node, volumeNode)):
            node = _newNode(volumeNode)
        known = {**_segmentIDsOf(node), **segmentIDs}
        text = json.dumps({str(label): name for label, name in sorted(known.items())})
        if node.GetAttribute(_SEGMENT_IDS_KEY) != text:
            node.SetAttribute(_SEGMENT_IDS_KEY, text)
        segmentationNode.SetNodeReferenceID(_SEGMENTATION_ROLE, node.GetID())
        volumeNode.SetNodeReferenceID(_REFERENCE_ROLE, node.GetID())
        node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        return cls(node)

    @classmethod
    def findOf(
        cls,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        segmentationNode: slicer.vtkMRMLSegmentationNode | None = None,
    ) -> AnnotationVolume | None:
        """That of a segmentation, or of a volume; None where nothing was painted yet."""
        if segmentationNode is not None:
            node = segmentationNode.GetNodeReference(_SEGMENTATION_ROLE)
        else:
            node = volumeNode.GetNodeReference(_REFERENCE_ROLE)
        return None if node is None else cls(node)

    @property
    def run(self) -> str:
        """Number of the job whose segments were painted in; empty for none."""
        return self.node.GetAttribute(_RUN_KEY) or ""

    @run.setter
    def run(self, job: str) -> None:
        self.node.SetAttribute(_RUN_KEY, job)

    @property
    def confirmed(self) -> list[ConfirmedSlice]:
        """The finished slices, in the order they were finished.

        Raises:
            InputError: as :meth:`read`.
        """
        self._turn()
        size = self.node.GetImageData().GetDimensions()
        try:
            confirmed = [
                ConfirmedSlice(int(axis), int(index))
                for axis, index in json.loads(self.node.GetAttribute(CONFIRMED_KEY) or "[]")
            ]
            usable = all(0 <= one.index < size[one.axis] for one in confirmed)
        except (IndexError, TypeError, ValueError):
            usable = False
        # Reading says what is damaged.
        return confirmed if usable else self.read().confirmed

    def means(self, segmentIDs: Mapping[int, str]) -> bool:
        """Whether its labels stand for these segments, as far as both know them."""
        return _means(self.node, segmentIDs)

    def read(self) -> Annotation:
        """The annotation, on the grid of the node.

        Raises:
            InputError: the attributes are damaged, or the voxels are no labels.
            ValueError: the axes of the node are not perpendicular.
        """
        self._turn()
        image = imageOfVolume(self.node)
        for key in _KEYS:
            value = self.node.GetAttribute(key)
            if value is not None:
                image.SetMetaData(key, value)
        return annotation_from(image, self.node.GetName())

    def write(self, annotation: Annotation) -> None:
        """Put an annotation of the same grid into the node."""
        slicer.util.updateVolumeFromArray(self.node, annotation.labels)
        self._describe(annotation)

    def opened(self) -> Annotation:
        """The annotation over the node's own voxels, so that no large volume is copied.

        What is changed in it is changed in the node; :meth:`close` it then.

        Raises:
            InputError: as :meth:`read`.
        """
        labels = slicer.util.arrayFromVolume(self.node)
        if labels.dtype != np.uint8:
            self.write(self.read())
            labels = slicer.util.arrayFromVolume(self.node)
        annotation = Annotation(gridOfVolume(self.node))
        annotation.labels = labels
        annotation.confirmed = self.confirmed
        return annotation

    def close(self, annotation: Annotation) -> None:
        """Take over what was changed in an annotation of :meth:`opened`."""
        slicer.util.arrayFromVolumeModified(self.node)
        self._describe(annotation)

    def _turn(self) -> None:
        """Count finished slices from the other end along axes that were turned.

        The application turns axes of volumes that it opens, so that they are right-handed.
        """
        text, listed = self.node.GetAttribute(_PLACE_KEY), self.node.GetAttribute(CONFIRMED_KEY)
        place = slicer.util.arrayFromVTKMatrix(ijkToRASMatrix(self.node))
        size = np.asarray(self.node.GetImageData().GetDimensions())
        try:
            then = np.asarray(json.loads(text or "[]"), np.float64).reshape(4, 4)
            turned = _turnedAxes(np.linalg.inv(place) @ then, size)
            if turned.any():
                slices = [
                    [axis, int(size[axis]) - 1 - index if turned[axis] else index]
                    for axis, index in json.loads(listed or "[]")
                ]
                self.node.SetAttribute(CONFIRMED_KEY, json.dumps(slices, separators=(",", ":")))
                self.node.SetAttribute(_PLACE_KEY, json.dumps(place.tolist()))
        except (IndexError, TypeError, ValueError, np.linalg.LinAlgError):
            # Nothing usable was kept of it.
            return

    def _describe(self, annotation: Annotation) -> None:
        place = slicer.util.arrayFromVTKMatrix(ijkToRASMatrix(self.node))
        self.node.SetAttribute(_PLACE_KEY, json.dumps(place.tolist()))
        fields = header_fields(annotation)
        for key in _KEYS:
            if key in fields:
                self.node.SetAttribute(key, fields[key])
            else:
                self.node.RemoveAttribute(key)


def _newNode(volumeNode: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLLabelMapVolumeNode:
    node = slicer.mrmlScene.AddNewNodeByClass(
        "vtkMRMLLabelMapVolumeNode", _("{volume} annotation").format(volume=volumeNode.GetName())
    )
    volumeNode.SetNodeReferenceID(_REFERENCE_ROLE, node.GetID())
    node.SetIJKToRASMatrix(ijkToRASMatrix(volumeNode))
    AnnotationVolume(node).write(Annotation(gridOfVolume(volumeNode)))
    return node


def _unusedNode(
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
) -> slicer.vtkMRMLLabelMapVolumeNode | None:
    """That of the volume, where it was not painted for a segmentation yet."""
    node = volumeNode.GetNodeReference(_REFERENCE_ROLE)
    return None if node is None or node.GetAttribute(_SEGMENT_IDS_KEY) else node


def _segmentIDsOf(node: slicer.vtkMRMLLabelMapVolumeNode) -> dict[int, str]:
    try:
        kept = json.loads(node.GetAttribute(_SEGMENT_IDS_KEY) or "{}")
        return {int(label): str(name) for label, name in kept.items()}
    except (AttributeError, ValueError):
        return {}


def _turnedAxes(step: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Axes along which an index was counted from the other end; none where more has changed.

    Args:
        step: from indices of then to indices of now.
        size: of the volume, along i, j, k.
    """
    turned = np.diag(step)[:3] < 0
    expected = np.diag([*np.where(turned, -1.0, 1.0), 1.0])
    expected[:3, 3] = np.where(turned, size - 1, 0)
    return turned & bool(np.abs(step - expected).max() < _SAME_PLACE * size.max())


def _means(node: slicer.vtkMRMLLabelMapVolumeNode, segmentIDs: Mapping[int, str]) -> bool:
    """Whether the labels of an annotation stand for these segments, as far as both have them."""
    known = _segmentIDsOf(node)
    return all(known[label] == name for label, name in segmentIDs.items() if label in known)


def _fits(
    node: slicer.vtkMRMLLabelMapVolumeNode, volumeNode: slicer.vtkMRMLScalarVolumeNode
) -> bool:
    return node.GetImageData() is not None and gridOfVolume(node).same_as(gridOfVolume(volumeNode))
