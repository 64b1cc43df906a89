"""Going from one hard region to the next."""

from __future__ import annotations

import math

import numpy as np
import slicer
from slicer.i18n import tr as _

from ImbalanceSegLib.Logic.HardRegions import HardRegion, hardRegions
from ImbalanceSegLib.Logic.SliceNavigation import SliceNavigation
from ImbalanceSegLib.Scene.MapWriter import MapWriter
from ImbalanceSegLib.Scene.SegmentReader import SegmentReader

_MM3_PER_ML = 1000.0
_BESIDE_MM = 5.0


class HardRegionStepper:
    """Goes through the hard regions of a segmentation, the one that matters most first.

    After the segmentation was made anew it begins again with the hardest region of the new map.

    Args:
        segmentationNode: whose hardness map is gone through.
        navigation: moves the slice views.
    """

    def __init__(
        self,
        segmentationNode: slicer.vtkMRMLSegmentationNode,
        navigation: SliceNavigation | None = None,
    ) -> None:
        self._segmentationNode = segmentationNode
        self._navigation = navigation or SliceNavigation()
        self._regions: list[HardRegion] = []
        self._current = -1
        self._seen: tuple[str, int] | None = None

    @property
    def position(self) -> str:
        """Such as ``"3 of 17"``; empty before the first step and where nothing is hard."""
        if self._current < 0:
            return ""
        return _("{number} of {count}").format(number=self._current + 1, count=len(self._regions))

    @property
    def sentence(self) -> str:
        """What the views show, for people; after a step."""
        if self._current < 0:
            return _("Nothing in this scan is hard enough to need a look.")
        region = self._regions[self._current]
        return _("Hard region {position}: {volume} ml, {place}.").format(
            position=self.position, volume=_millilitres(region), place=_place(region)
        )

    def next(self) -> HardRegion | None:
        """Show the next region; after the last one the first.

        Returns:
            The region; None where nothing is hard.

        Raises:
            ValueError: there is no hardness map, or its volume is gone or cannot be shown.
        """
        return self._step(1)

    def previous(self) -> HardRegion | None:
        """Show the region before; before the first one the last. Otherwise as :meth:`next`."""
        return self._step(-1)

    def _step(self, by: int) -> HardRegion | None:
        volumeNode = self._update()
        if not self._regions:
            return None
        first = 0 if by > 0 else len(self._regions) - 1
        self._current = first if self._current < 0 else (self._current + by) % len(self._regions)
        region = self._regions[self._current]
        # The plane that the scan was taken in, k where all spacings are the same.
        axis = 2 - int(np.argmax(volumeNode.GetSpacing()[::-1]))
        self._navigation.jumpTo(volumeNode, axis, region.centreIJK[axis], region.centreIJK)
        return region

    def _update(self) -> slicer.vtkMRMLScalarVolumeNode:
        """Find the regions anew if the map has changed; the volume that was segmented."""
        node = self._segmentationNode
        mapNode = MapWriter.mapOf(node, "hardness")
        if mapNode is None or mapNode.GetImageData() is None:
            raise ValueError(
                _("There is no hardness map. Switch it on and segment the volume again.")
            )
        volumeNode = node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())
        if volumeNode is None:
            raise ValueError(_("The volume that was segmented is no longer in the scene."))
        seen = (mapNode.GetID(), mapNode.GetImageData().GetMTime())
        if seen != self._seen:
            labels = SegmentReader.labelsOf(node, volumeNode)
            hardness = slicer.util.arrayFromVolume(mapNode)
            if hardness.shape != labels.shape:
                raise ValueError(
                    _("The hardness map belongs to another volume. Segment the volume again.")
                )
            self._regions = hardRegions(hardness, labels, volumeNode.GetSpacing())
            self._current, self._seen = -1, seen
        return volumeNode


def _millilitres(region: HardRegion) -> str:
    volume = region.volumeMm3 / _MM3_PER_ML
    return f"{volume:.1f}" if volume >= 0.1 else f"{volume:.2g}"


def _place(region: HardRegion) -> str:
    if math.isinf(region.distanceMm):
        return _("in a scan where nothing was found")
    if region.distanceMm < _BESIDE_MM:
        return _("at the border of what was found")
    return _("{distance} mm from what was found").format(distance=round(region.distanceMm))
