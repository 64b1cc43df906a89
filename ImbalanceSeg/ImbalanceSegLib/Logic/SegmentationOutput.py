"""The nodes that a segmentation has filled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import slicer


@dataclass(frozen=True)
class SegmentationOutput:
    """The nodes that a segmentation has filled.

    Attributes:
        segmentationNode: holds the segments.
        segmentIDs: segments of this run that hold voxels; empty when nothing was found.
        maps: heat-map volumes by name of the map.
        notes: sentences of the engine that the reader of the result must know.
    """

    segmentationNode: slicer.vtkMRMLSegmentationNode
    segmentIDs: tuple[str, ...] = ()
    maps: Mapping[str, slicer.vtkMRMLScalarVolumeNode] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
