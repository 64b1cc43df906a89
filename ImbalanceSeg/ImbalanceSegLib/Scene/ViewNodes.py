"""Which slice views show a volume."""

from __future__ import annotations

from dataclasses import dataclass

import slicer


@dataclass(frozen=True)
class ViewNodes:
    """The two nodes of a slice view.

    Attributes:
        sliceNode: where the view cuts.
        compositeNode: what it shows there.
    """

    sliceNode: slicer.vtkMRMLSliceNode
    compositeNode: slicer.vtkMRMLSliceCompositeNode


def sliceViews() -> list[ViewNodes]:
    """The views of the present layout; all that the scene knows where there is no layout."""
    views = []
    for sliceNode in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        compositeNode = slicer.mrmlScene.GetSingletonNode(
            sliceNode.GetLayoutName(), "vtkMRMLSliceCompositeNode"
        )
        if compositeNode is not None:
            views.append(ViewNodes(sliceNode, compositeNode))
    return [view for view in views if view.sliceNode.IsMappedInLayout()] or views


def sliceViewsOf(volumeNode: slicer.vtkMRMLVolumeNode) -> list[ViewNodes]:
    """The views that show a volume; when none does, every view shows it afterwards.

    Views that other volumes are looked at in stay as they are, as long as there is another one.
    """
    views = sliceViews()
    volumeID = volumeNode.GetID()
    showing = [view for view in views if volumeID in _shownIDs(view.compositeNode)]
    if not showing:
        for view in views:
            view.compositeNode.SetBackgroundVolumeID(volumeID)
    return showing or views


def _shownIDs(compositeNode: slicer.vtkMRMLSliceCompositeNode) -> tuple[str | None, str | None]:
    return compositeNode.GetBackgroundVolumeID(), compositeNode.GetForegroundVolumeID()
