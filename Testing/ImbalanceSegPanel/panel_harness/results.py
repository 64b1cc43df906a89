"""What the engine's work brings into the scene."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from imbalanceseg.labels import CodedConcept, SegmentInfo
from ImbalanceSegLib.Engine.EngineResult import EngineResult
from ImbalanceSegLib.Logic.SegmentationOutput import SegmentationOutput
from ImbalanceSegLib.Scene.MapWriter import MapWriter
from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord

_CATEGORY = CodedConcept("123037004", "Anatomical Structure", "SCT")
_TYPE = CodedConcept("110726009", "Trachea and bronchus", "SCT")
_NAMES = {1: ("Airway tree", (128, 196, 226)), 2: ("Nodule", (230, 150, 60))}


def fill(
    volumeNode: Any, notes: tuple[str, ...] = (), withMap: bool = True, name: str = "Airway"
) -> SegmentationOutput:
    """Fill a new segmentation of a volume.

    Args:
        volumeNode: whose bright voxels are found.
        notes: that the engine has made.
        withMap: whether there is a hardness map.
        name: of the segmentation.
    """
    voxels = slicer.util.arrayFromVolume(volumeNode)
    labels = (voxels > 100).astype(np.uint8)
    labels[..., labels.shape[2] // 2 :] *= 2
    segments = tuple(
        SegmentInfo(label, text, _CATEGORY, _TYPE, color) for label, (text, color) in _NAMES.items()
    )
    result = EngineResult(labels, segments, "airway", "0.1.0", notes=notes, jobID="a1b2")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    written = SegmentWriter(node, volumeNode).write(result)
    record = WorkRecord(node)
    record.describe(result)
    record.push("segment", result.jobID)
    record.setEngineLabels(labels)
    if withMap:
        MapWriter(node, volumeNode).write("hardness", labels.astype(np.float32))
    return SegmentationOutput(node, written, {}, notes)
