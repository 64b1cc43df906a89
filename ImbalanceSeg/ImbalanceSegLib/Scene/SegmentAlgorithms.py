"""Who has made a segment, as DICOM says it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import slicer
import vtk

_TAGS = ("DICOM.SegmentAlgorithmType", "DICOM.SegmentAlgorithmName")

Algorithm = tuple[str, str]
"""Type, ``"MANUAL"``, ``"SEMIAUTOMATIC"`` or ``"AUTOMATIC"``, and name; empty where not said."""


def algorithmsOf(
    segmentationNode: slicer.vtkMRMLSegmentationNode, segmentIDs: Iterable[str]
) -> dict[str, Algorithm]:
    """Who has made each of some segments."""
    return {segmentID: _read(segmentationNode, segmentID) for segmentID in segmentIDs}


def setAlgorithms(
    segmentationNode: slicer.vtkMRMLSegmentationNode, algorithms: Mapping[str, Algorithm]
) -> None:
    """Say who has made segments; those that are not there are left out."""
    for segmentID, algorithm in algorithms.items():
        segment = segmentationNode.GetSegmentation().GetSegment(segmentID)
        if segment is None:
            continue
        for tag, text in zip(_TAGS, algorithm, strict=True):
            if text:
                segment.SetTag(tag, text)
            else:
                segment.RemoveTag(tag)


def _read(segmentationNode: slicer.vtkMRMLSegmentationNode, segmentID: str) -> Algorithm:
    segment = segmentationNode.GetSegmentation().GetSegment(segmentID)
    texts = []
    for tag in _TAGS:
        text = vtk.reference("")
        texts.append(str(text) if segment.GetTag(tag, text) else "")
    return texts[0], texts[1]
