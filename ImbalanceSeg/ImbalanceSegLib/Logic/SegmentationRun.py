"""One volume on its way through the engine and back into the scene."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import SimpleITK as sitk
import slicer
from slicer.i18n import tr as _

from imbalanceseg.geometry import Grid
from ImbalanceSegLib.Engine.EngineRequest import EngineRequest
from ImbalanceSegLib.Engine.EngineResult import EngineResult
from ImbalanceSegLib.Logic.SegmentationOutput import SegmentationOutput
from ImbalanceSegLib.Scene.MapWriter import MapWriter
from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter
from ImbalanceSegLib.Scene.SubjectHierarchy import placeInStudyOf
from ImbalanceSegLib.Scene.VolumeGeometry import gridOfVolume, imageOfVolume


class SegmentationRun:
    """Writes a volume for the engine and loads what the engine makes of it.

    Use as a context manager: the files between the two lie in a folder that is removed at the end.

    Args:
        volumeNode: the volume to segment, as :mod:`InputCheck` lets it pass.
        segmentationNode: where the segments go; None for a new node.
        model: name of a shipped model, or the folder of a model bundle.
        device: where the engine computes.
        maps: names of the maps wanted beside the labels.
        temporaryFolder: existing folder for the files in between; None for the system's.
    """

    def __init__(
        self,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        segmentationNode: slicer.vtkMRMLSegmentationNode | None,
        *,
        model: str,
        device: str,
        maps: tuple[str, ...],
        temporaryFolder: str | None = None,
    ) -> None:
        self._volumeNode = volumeNode
        self._segmentationNode = segmentationNode
        self._grid: Grid = gridOfVolume(volumeNode)
        self._folder = Path(tempfile.mkdtemp(prefix="ImbalanceSeg-", dir=temporaryFolder))
        self.request = EngineRequest(
            scanPath=self._folder / "scan.nrrd",
            outputFolder=self._folder / "result",
            model=model,
            device=device,
            maps=maps,
        )

    def close(self) -> None:
        """Remove the files in between."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def writeScan(self) -> None:
        """Write the volume for the engine, without its parent transform.

        Raises:
            RuntimeError: the file cannot be written.
        """
        try:
            sitk.WriteImage(imageOfVolume(self._volumeNode), str(self.request.scanPath))
        except RuntimeError as error:
            raise RuntimeError(
                _("The volume cannot be written to '{folder}'; is the disk full?").format(
                    folder=self._folder
                )
            ) from error

    def load(self) -> SegmentationOutput:
        """Put the engine's result into the scene.

        Raises:
            RuntimeError: a node vanished or the volume moved while the engine worked, or the
                result is unusable.
        """
        self._requireNodes()
        result = EngineResult.read(self.request.outputFolder, self._grid, self.request.maps)
        node, volumeNode = self._segmentationNode, self._volumeNode
        if node is None:
            node = slicer.mrmlScene.AddNewNodeByClass(
                "vtkMRMLSegmentationNode",
                _("{volume} segmentation").format(volume=volumeNode.GetName()),
            )
        segmentIDs = SegmentWriter(node, volumeNode).write(result)
        mapWriter = MapWriter(node, volumeNode)
        maps = {name: mapWriter.write(name, values) for name, values in result.maps.items()}
        for made in (node, *maps.values()):
            placeInStudyOf(volumeNode, made)
        return SegmentationOutput(node, segmentIDs, maps, result.notes)

    def _requireNodes(self) -> None:
        if not slicer.mrmlScene.IsNodePresent(self._volumeNode):
            raise RuntimeError(_("The volume was removed from the scene during the run."))
        node = self._segmentationNode
        if node is not None and not slicer.mrmlScene.IsNodePresent(node):
            raise RuntimeError(_("The segmentation was removed from the scene during the run."))
        image = self._volumeNode.GetImageData()
        if image is None or not gridOfVolume(self._volumeNode).same_as(self._grid):
            raise RuntimeError(
                _("The volume '{name}' was changed during the run; segment it again.").format(
                    name=self._volumeNode.GetName()
                )
            )
