"""Where results stand in the tree of patients and studies."""

from __future__ import annotations

import slicer


def placeInStudyOf(volumeNode: slicer.vtkMRMLNode, node: slicer.vtkMRMLNode) -> None:
    """Move a result under the study of the volume it was made from.

    DICOM export takes patient and study from there. Nothing happens where the volume belongs to no
    study, or where the result stands under that study already.

    Args:
        volumeNode: the volume that was segmented.
        node: segmentation or map made from it.
    """
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    if hierarchy is None:
        return
    volumeItem = hierarchy.GetItemByDataNode(volumeNode)
    item = hierarchy.GetItemByDataNode(node)
    if not volumeItem or not item:
        return
    studyLevel = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelStudy()
    studyItem = hierarchy.GetItemAncestorAtLevel(volumeItem, studyLevel)
    if studyItem and hierarchy.GetItemAncestorAtLevel(item, studyLevel) != studyItem:
        hierarchy.SetItemParent(item, studyItem)
