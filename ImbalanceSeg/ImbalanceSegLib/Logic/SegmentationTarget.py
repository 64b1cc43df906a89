"""Where a segmentation goes in the scene, watched while the engine works."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from imbalanceseg.client import JobResult
from imbalanceseg.geometry import Grid
from ImbalanceSegLib.Engine.EngineResult import EngineResult
from ImbalanceSegLib.Logic.SegmentationOutput import SegmentationOutput
from ImbalanceSegLib.Scene.MapWriter import MapWriter
from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter
from ImbalanceSegLib.Scene.SubjectHierarchy import placeInStudyOf
from ImbalanceSegLib.Scene.VolumeGeometry import gridOfVolume
from ImbalanceSegLib.Scene.WorkRecord import WorkRecord


class SegmentationTarget:
    """Remembers the nodes of a run, and fills them when its result is there.

    Args:
        volumeNode: the volume to segment, as :mod:`InputCheck` lets it pass.
        segmentationNode: where the segments go; None for a new node.
        maps: names of the maps that were asked for.

    Attributes:
        volumeNode: the volume to segment.
    """

    def __init__(
        self,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        segmentationNode: slicer.vtkMRMLSegmentationNode | None,
        maps: tuple[str, ...],
    ) -> None:
        self.volumeNode = volumeNode
        self._segmentationNode = segmentationNode
        self._grid: Grid = gridOfVolume(volumeNode)
        self._maps = maps

    def fill(self, job: JobResult) -> SegmentationOutput:
        """Put what the engine has made into the scene.

        Raises:
            RuntimeError: a node vanished or the volume moved while the engine worked, or the
                result is unusable.
        """
        self.requireNodes()
        result = EngineResult.of(job, self._grid, self._maps)
        node, volumeNode = self._segmentationNode, self.volumeNode
        if node is None:
            node = slicer.mrmlScene.AddNewNodeByClass(
                "vtkMRMLSegmentationNode",
                _("{volume} segmentation").format(volume=volumeNode.GetName()),
            )
        segmentIDs = SegmentWriter(node, volumeNode).write(result)
        record = WorkRecord(node)
        record.describe(result)
        record.push("segment", result.jobID)
        record.setEngineLabels(result.labels)
        mapWriter = MapWriter(node, volumeNode)
        maps = {name: mapWriter.write(name, values) for name, values in result.maps.items()}
        for made in (node, *maps.values()):
            placeInStudyOf(volumeNode, made)
        return SegmentationOutput(node, segmentIDs, maps, result.notes)

    def requireNodes(self) -> None:
        """Refuse to go on where a node has gone, or the volume has changed.

        Raises:
            RuntimeError: so it is; the text says what to do.
        """
        if not slicer.mrmlScene.IsNodePresent(self.volumeNode):
            raise RuntimeError(_("The volume was removed from the scene during the run."))
        node = self._segmentationNode
        if node is not None and not slicer.mrmlScene.IsNodePresent(node):
            raise RuntimeError(_("The segmentation was removed from the scene during the run."))
        image = self.volumeNode.GetImageData()
        if image is None or not gridOfVolume(self.volumeNode).same_as(self._grid):
            raise RuntimeError(
                _("The volume '{name}' was changed during the run; segment it again.").format(
                    name=self.volumeNode.GetName()
                )
            )
