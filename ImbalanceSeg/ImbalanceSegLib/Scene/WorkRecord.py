"""What the engine has done for a segmentation, kept with the segmentation itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from imbalanceseg.labels import SegmentInfo
from ImbalanceSegLib.Engine.EngineResult import EngineResult, segmentEntry, segmentFrom
from ImbalanceSegLib.Scene.VolumeGeometry import ijkToRASMatrix

_LABELS_ROLE = "ImbalanceSeg.engineLabels"
_MODEL_NAME = "ImbalanceSeg.modelName"
_MODEL_VERSION = "ImbalanceSeg.modelVersion"
_SEGMENTS = "ImbalanceSeg.segments"
_SEGMENT_IDS = "ImbalanceSeg.segmentIDs"
_STEPS = "ImbalanceSeg.steps"
_REPORT = "ImbalanceSeg.report"
_FROM_SCRATCH = "ImbalanceSeg.fromScratch"


class WorkRecord:
    """What the engine has done for a segmentation.

    It stands in attributes and references of the node, so it is saved and opened with the scene.

    Args:
        segmentationNode: that the engine has filled, or shall fill.
    """

    def __init__(self, segmentationNode: slicer.vtkMRMLSegmentationNode) -> None:
        self.node = segmentationNode

    @property
    def volumeNode(self) -> slicer.vtkMRMLScalarVolumeNode | None:
        """The volume that was segmented; None where it is gone."""
        return self.node.GetNodeReference(self.node.GetReferenceImageGeometryReferenceRole())

    @property
    def modelName(self) -> str:
        """Name of the model that made the labels; empty before any."""
        return self.node.GetAttribute(_MODEL_NAME) or ""

    @property
    def modelVersion(self) -> str:
        """Its version."""
        return self.node.GetAttribute(_MODEL_VERSION) or ""

    @property
    def segments(self) -> tuple[SegmentInfo, ...]:
        """What each label of the model stands for; empty where nothing usable is kept."""
        try:
            return tuple(segmentFrom(entry) for entry in self._kept(_SEGMENTS, []))
        except (KeyError, TypeError, ValueError):
            return ()

    @property
    def segmentIDs(self) -> dict[int, str]:
        """Which segment each label was written into; some may have been removed since."""
        kept = self._kept(_SEGMENT_IDS, {})
        if not isinstance(kept, dict):
            return {}
        return {int(label): str(name) for label, name in kept.items() if label.isdecimal()}

    @segmentIDs.setter
    def segmentIDs(self, segmentIDs: Mapping[int, str]) -> None:
        self._keep(_SEGMENT_IDS, {str(label): name for label, name in segmentIDs.items()})

    @property
    def isFromScratch(self) -> bool:
        """Whether a person began it, to teach the engine everything by painting."""
        return self.node.GetAttribute(_FROM_SCRATCH) == "1"

    def beginFromScratch(self) -> None:
        """Keep that a person has begun it."""
        self.node.SetAttribute(_FROM_SCRATCH, "1")

    @property
    def report(self) -> dict[str, Any]:
        """The engine's account of its last whole result, as JSON holds it; empty before any."""
        report = self._kept(_REPORT, {})
        return report if isinstance(report, dict) else {}

    @property
    def steps(self) -> list[dict[str, str]]:
        """What was done: ``"kind"``, ``"job"`` and ``"model"`` of every step, the newest last."""
        steps = self._kept(_STEPS, [])
        if not isinstance(steps, list):
            return []
        return [
            {name: str(step.get(name, "")) for name in ("kind", "job", "model")}
            for step in steps
            if isinstance(step, dict)
        ]

    @property
    def baseJob(self) -> str:
        """Number of the job to go on from; empty where there is none."""
        steps = self.steps
        return steps[-1]["job"] if steps else ""

    @property
    def labels(self) -> slicer.vtkMRMLLabelMapVolumeNode | None:
        """The hidden node that holds what the engine said last; None before anything."""
        return self.node.GetNodeReference(_LABELS_ROLE)

    def describe(self, result: EngineResult) -> None:
        """Keep which model made the labels, what they stand for, and the report."""
        self.node.SetAttribute(_MODEL_NAME, result.modelName)
        self.node.SetAttribute(_MODEL_VERSION, result.modelVersion)
        self._keep(_SEGMENTS, [segmentEntry(segment) for segment in result.segments])
        self._keep(_REPORT, result.report)

    def push(self, kind: str, job: str, model: str = "") -> None:
        """Add a step. A segmentation begins anew.

        Args:
            kind: ``"segment"``, ``"adapt"`` or ``"click"``.
            job: its number at the engine.
            model: that was used; empty for that of :attr:`modelName`.
        """
        steps = [] if kind == "segment" else self.steps
        step = {"kind": kind, "job": job, "model": model or self.modelName}
        self._keep(_STEPS, [*steps, step])

    def pop(self) -> dict[str, str] | None:
        """Take the newest step away and return it; None where there is none."""
        steps = self.steps
        if not steps:
            return None
        self._keep(_STEPS, steps[:-1])
        return steps[-1]

    def engineLabels(self) -> np.ndarray | None:
        """What the engine said last.

        Returns:
            uint8 ``[k, j, i]`` on the volume's grid, not to be written to; None where nothing is
            kept, or where it is of another size than the volume.
        """
        node, volumeNode = self.labels, self.volumeNode
        if node is None or volumeNode is None:
            return None
        image, scan = node.GetImageData(), volumeNode.GetImageData()
        if image is None or scan is None or image.GetDimensions() != scan.GetDimensions():
            return None
        labels = slicer.util.arrayFromVolume(node).view()
        labels.flags.writeable = False
        return labels

    def setEngineLabels(self, labels: np.ndarray) -> None:
        """Keep what the engine says now.

        Args:
            labels: ``[k, j, i]`` on the volume's grid.

        Raises:
            RuntimeError: the segmentation refers to no volume.
        """
        volumeNode = self.volumeNode
        if volumeNode is None:
            raise RuntimeError(_("The volume was removed from the scene."))
        node = self.labels or self._newLabels()
        node.SetIJKToRASMatrix(ijkToRASMatrix(volumeNode))
        node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(labels, np.uint8))

    def _newLabels(self) -> slicer.vtkMRMLLabelMapVolumeNode:
        node = slicer.vtkMRMLLabelMapVolumeNode()
        node.SetName(_("{segmentation} engine labels").format(segmentation=self.node.GetName()))
        # Before it is in the scene, so that no list shows it in between.
        node.SetHideFromEditors(1)
        slicer.mrmlScene.AddNode(node)
        self.node.SetNodeReferenceID(_LABELS_ROLE, node.GetID())
        return node

    def _kept(self, name: str, default: Any) -> Any:
        text = self.node.GetAttribute(name)
        if not text:
            return default
        try:
            return json.loads(text)
        except ValueError:
            return default

    def _keep(self, name: str, value: Mapping[str, Any] | Sequence[Any]) -> None:
        self.node.SetAttribute(name, json.dumps(value, separators=(",", ":")))
