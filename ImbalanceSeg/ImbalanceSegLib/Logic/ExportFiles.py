"""Segmentations and what is known of them as files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from imbalanceseg.atomic import atomic_path, write_json
from imbalanceseg.errors import ImbalanceSegError
from ImbalanceSegLib.Logic.FileNames import unusedPath
from ImbalanceSegLib.Scene.AnnotationVolume import AnnotationVolume
from ImbalanceSegLib.Scene.SegmentReader import SegmentReader
from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter
from ImbalanceSegLib.Scene.VolumeGeometry import gridOfVolume
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord

_NRRD, _JSON = ".seg.nrrd", ".json"
_ALGORITHM_TYPE_TAG = "DICOM.SegmentAlgorithmType"
_MM3_PER_ML = 1000.0


def saveNrrd(
    segmentationNode: slicer.vtkMRMLSegmentationNode, path: str | os.PathLike[str]
) -> Path:
    """Write all segments of a node as one file that Slicer opens with names, colours and codes.

    Args:
        segmentationNode: to be written, without its parent transform.
        path: of the file; ``.seg.nrrd`` is added where it is missing, and a number where a file of
            this name is there.

    Returns:
        The file that was written.

    Raises:
        ValueError: there are no segments.
        RuntimeError: the file cannot be written.
    """
    if segmentationNode.GetSegmentation().GetNumberOfSegments() == 0:
        raise ValueError(
            _("'{segmentation}' holds no segments; there is nothing to save.").format(
                segmentation=segmentationNode.GetName()
            )
        )
    target = unusedPath(Path(path), _NRRD)
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetUseCompression(1)
    try:
        with atomic_path(target) as temporary:
            storage.SetFileName(str(temporary))
            if not storage.WriteData(segmentationNode):
                raise RuntimeError(
                    _(
                        "'{file}' cannot be written. Check that the folder can be written to and "
                        "the disk is not full."
                    ).format(file=target)
                )
    except ImbalanceSegError as error:
        raise RuntimeError(f"{error.message} {error.hint}".strip()) from error
    return target


def saveReport(
    segmentationNode: slicer.vtkMRMLSegmentationNode, path: str | os.PathLike[str]
) -> Path:
    """Write what made a segmentation, what was corrected since, and how large the segments are.

    Args:
        segmentationNode: that the report is of.
        path: of the file; ``.json`` is added where it is missing, and a number where a file of this
            name is there.

    Returns:
        The file that was written.

    Raises:
        ValueError: nothing is known of the segmentation, or its volume is gone.
        RuntimeError: the file cannot be written.
    """
    target = unusedPath(Path(path), _JSON)
    try:
        write_json(target, reportOf(segmentationNode))
    except ImbalanceSegError as error:
        raise RuntimeError(f"{error.message} {error.hint}".strip()) from error
    return target


def reportOf(segmentationNode: slicer.vtkMRMLSegmentationNode) -> dict[str, Any]:
    """The engine's report of its last whole result, with ``"review"``, the state of now.

    Args:
        segmentationNode: that the report is of.

    Raises:
        ValueError: nothing is known of the segmentation, or its volume is gone.
    """
    record = WorkRecord(segmentationNode)
    volumeNode = record.volumeNode
    if not record.modelName or volumeNode is None or volumeNode.GetImageData() is None:
        raise ValueError(
            _(
                "It is not known how '{segmentation}' was made, or its volume is not in the scene; "
                "segment a volume first."
            ).format(segmentation=segmentationNode.GetName())
        )
    labels = SegmentReader.labelsOf(segmentationNode, volumeNode)
    said = record.engineLabels()
    changed = None if said is None else int(np.count_nonzero(said != labels))
    return {
        **record.report,
        "review": {
            "model": {"name": record.modelName, "version": record.modelVersion},
            "steps": record.steps,
            "confirmed_slices": _confirmedSlices(segmentationNode, volumeNode),
            "voxels_changed_by_hand": changed,
            "segments": _segmentsNow(segmentationNode, volumeNode, labels),
        },
    }


def _segmentsNow(
    segmentationNode: slicer.vtkMRMLSegmentationNode,
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
    labels: np.ndarray,
) -> list[Mapping[str, Any]]:
    millilitres = float(np.prod(gridOfVolume(volumeNode).spacing_mm)) / _MM3_PER_ML
    segmentation = segmentationNode.GetSegmentation()
    found = []
    for label, segmentID in sorted(SegmentWriter.ownSegments(segmentationNode).items()):
        segment = segmentation.GetSegment(segmentID)
        kind = vtk.reference("")
        segment.GetTag(_ALGORITHM_TYPE_TAG, kind)
        voxels = int(np.count_nonzero(labels == label))
        found.append(
            {
                "label": label,
                "name": segment.GetName(),
                "algorithm_type": str(kind),
                "voxels": voxels,
                "volume_ml": round(voxels * millilitres, 3),
            }
        )
    return found


def _confirmedSlices(
    segmentationNode: slicer.vtkMRMLSegmentationNode,
    volumeNode: slicer.vtkMRMLScalarVolumeNode,
) -> int:
    holder = AnnotationVolume.findOf(volumeNode, segmentationNode)
    return 0 if holder is None else len(holder.confirmed)
