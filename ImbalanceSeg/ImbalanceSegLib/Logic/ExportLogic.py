"""Segmentations as files and as DICOM objects."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
import vtk.util.numpy_support
from slicer.i18n import tr as _

from imbalanceseg.client import EngineError, EngineTask
from imbalanceseg.geometry import image_from_array
from imbalanceseg.progress import ProgressCallback, ignore_progress
from ImbalanceSegLib.Engine.EngineLink import EngineLink
from ImbalanceSegLib.Logic.Activity import Activity, FinishedCallback
from ImbalanceSegLib.Logic.DicomTargets.DicomTarget import DicomTarget
from ImbalanceSegLib.Logic.ExportFiles import saveNrrd, saveReport
from ImbalanceSegLib.Scene.DicomSeries import DicomSeries
from ImbalanceSegLib.Scene.SegmentReader import SegmentReader
from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter
from ImbalanceSegLib.Scene.VolumeGeometry import gridOfVolume, imageOfVolume
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord

_FILE = "segmentation.dcm"
_SECONDS_BETWEEN_LOOKS = 0.05


@dataclass(frozen=True)
class _Order:
    """What is exported, taken from the scene before anything goes on in the background."""

    scan: sitk.Image
    labels: sitk.Image
    series: list[Path]
    base: str
    corrected: bool
    name: str


class ExportLogic:
    """Writes segmentations with names, colours and codes, for archives, readers and records.

    Example::

        logic.dicomSeg(segmentationNode, Folder("/data/exports"))

    Args:
        link: to the engine, which makes the DICOM objects.
    """

    def __init__(self, link: EngineLink) -> None:
        self._link = link

    def whyNoDicomSeg(self, segmentationNode: slicer.vtkMRMLSegmentationNode | None) -> str:
        """One sentence that says why there cannot be a DICOM Segmentation; empty when there can.

        Quick, so that it can be asked whenever something changes. That every file of the series is
        there, and that the engine still has the result, shows when the export starts.

        Args:
            segmentationNode: to be exported.
        """
        if segmentationNode is None:
            return _("Select the segmentation to export.")
        name = segmentationNode.GetName()
        if not SegmentWriter.ownSegments(segmentationNode):
            return _("'{segmentation}' holds no segments of this module; segment a volume.").format(
                segmentation=name
            )
        record = WorkRecord(segmentationNode)
        volumeNode = record.volumeNode
        if volumeNode is None or volumeNode.GetImageData() is None:
            return _(
                "The volume that '{segmentation}' was made from is not in the scene; load it and "
                "segment it again."
            ).format(segmentation=name)
        if not record.baseJob:
            return _("It is not known how '{segmentation}' was made; segment again.").format(
                segmentation=name
            )
        labels = record.labels
        if labels is not None and not _sameGrid(labels, volumeNode):
            return _(
                "'{segmentation}' was made from another volume than '{volume}'; segment again."
            ).format(segmentation=name, volume=volumeNode.GetName())
        if _isEmpty(segmentationNode):
            return _(
                "All segments of '{segmentation}' are empty; there is nothing to export."
            ).format(segmentation=name)
        return DicomSeries(volumeNode).whyNot()

    def startDicomSeg(
        self,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        target: DicomTarget,
        onFinished: FinishedCallback | None = None,
        onProgress: ProgressCallback = ignore_progress,
    ) -> Activity:
        """Begin to export the own segments as they are now, and return at once.

        Args:
            segmentationNode: to be exported.
            target: where the object goes.
            onFinished: receives the outcome once; the value of a success is a phrase that says
                where the object is, for a folder its path.
            onProgress: receives every step.

        Raises:
            ValueError: there cannot be a DICOM Segmentation, or the target lacks something.
        """
        if problem := target.whyNot():
            raise ValueError(problem)
        order = self._orderFor(segmentationNode)
        activity = Activity(self._link, "export", onFinished, onProgress)

        def ask(callbacks: Mapping[str, Any]) -> EngineTask:
            return self._link.client.background(
                lambda task: self._made(task, order, target, callbacks["on_event"]),
                callbacks["on_done"],
            )

        def take(result: bytes | str) -> str:
            return result if isinstance(result, str) else target.deliver(result, order.name)

        return activity.begin(ask, take)

    def dicomSeg(
        self,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        target: DicomTarget,
        onProgress: ProgressCallback = ignore_progress,
    ) -> str:
        """Export and wait for it; for scripts. Arguments as in :meth:`startDicomSeg`.

        Returns:
            A phrase that says where the object is, for a folder its path.

        Raises:
            ValueError: there cannot be a DICOM Segmentation, or the target lacks something.
            RuntimeError: the engine or the target failed; the text says why.
        """
        activity = self.startDicomSeg(segmentationNode, target, onProgress=onProgress)
        return str(activity.wait())

    def saveNrrd(
        self, segmentationNode: slicer.vtkMRMLSegmentationNode, path: str | os.PathLike[str]
    ) -> Path:
        """See :func:`ExportFiles.saveNrrd`."""
        return saveNrrd(segmentationNode, path)

    def saveReport(
        self, segmentationNode: slicer.vtkMRMLSegmentationNode, path: str | os.PathLike[str]
    ) -> Path:
        """See :func:`ExportFiles.saveReport`."""
        return saveReport(segmentationNode, path)

    def _orderFor(self, segmentationNode: slicer.vtkMRMLSegmentationNode) -> _Order:
        if problem := self.whyNoDicomSeg(segmentationNode):
            raise ValueError(problem)
        record = WorkRecord(segmentationNode)
        volumeNode = record.volumeNode
        assert volumeNode is not None
        labels = SegmentReader.labelsOf(segmentationNode, volumeNode)
        said = record.engineLabels()
        untouched = said is not None and np.array_equal(said, labels)
        return _Order(
            scan=imageOfVolume(volumeNode),
            labels=image_from_array(labels, gridOfVolume(volumeNode)),
            series=DicomSeries(volumeNode).files(),
            base=record.baseJob,
            corrected=not untouched or any(step["kind"] != "segment" for step in record.steps),
            name=segmentationNode.GetName(),
        )

    def _made(
        self,
        task: EngineTask,
        order: _Order,
        target: DicomTarget,
        onEvent: Callable[[Any], None],
    ) -> bytes | str:
        """Have the object made, and send it where that waits for a network; in a thread."""
        client = self._link.client
        made = client.dicom_seg(
            order.scan,
            order.base,
            order.series,
            order.labels,
            corrected=order.corrected,
            on_event=onEvent,
        )
        while not made.is_over:
            if task.is_cancelled:
                client.cancel(made)
            if made.quiet_seconds < 1:
                task.heard()
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        task.require_wanted()
        if made.error is not None:
            raise made.error
        content: bytes = made.result.files[_FILE]
        if not target.isRemote:
            return content
        try:
            return target.deliver(content, order.name)
        except RuntimeError as error:
            raise EngineError("not-delivered", str(error)) from error


def _sameGrid(
    labelsNode: slicer.vtkMRMLLabelMapVolumeNode, volumeNode: slicer.vtkMRMLScalarVolumeNode
) -> bool:
    if labelsNode.GetImageData() is None:
        return True
    try:
        return gridOfVolume(labelsNode).same_as(gridOfVolume(volumeNode))
    except ValueError:
        return False


def _isEmpty(segmentationNode: slicer.vtkMRMLSegmentationNode) -> bool:
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    segmentation = segmentationNode.GetSegmentation()
    for segmentID in SegmentWriter.ownSegments(segmentationNode).values():
        segment = segmentation.GetSegment(segmentID)
        image = segment.GetRepresentation(name)
        scalars = None if image is None else image.GetPointData().GetScalars()
        if scalars is None or scalars.GetNumberOfTuples() == 0:
            continue
        # Several segments may share one image, in which each has a value of its own.
        voxels = vtk.util.numpy_support.vtk_to_numpy(scalars)
        if (voxels == segment.GetLabelValue()).any():
            return False
    return True
