"""The Segment Editor in the panel."""

from __future__ import annotations

from typing import Any

import slicer

from ImbalanceSegLib.Scene.SegmentWriter import SegmentWriter

_SINGLETON_TAG = "ImbalanceSeg"
_EFFECTS = ("Paint", "Draw", "Erase")


class SegmentEditorPart:
    """The Segment Editor in the panel, with an editor node of its own.

    Args:
        editor: the ``qMRMLSegmentEditorWidget``.
    """

    def __init__(self, editor: Any) -> None:
        self._editor = editor
        self._node: Any = None
        self._shown: tuple[Any, Any] = (None, None)
        self._isEntered = False

    def setup(self) -> None:
        """Offer the effects that correct single slices."""
        self._editor.setEffectNameOrder(list(_EFFECTS))
        self._editor.unorderedEffectsVisible = False
        self._editor.setUndoEnabled(True)

    def enter(self) -> None:
        """Listen to the keys of the editor, and show the scene."""
        self._isEntered = True
        self._editor.installKeyboardShortcuts()
        self._selectNode()
        self._editor.updateWidgetFromMRML()

    def exit(self) -> None:
        """Leave views and keys to others."""
        if not self._isEntered:
            return
        self._isEntered = False
        self._editor.setActiveEffect(None)
        self._editor.uninstallKeyboardShortcuts()
        self._editor.removeViewObservations()

    def show(self, segmentationNode: Any, volumeNode: Any) -> None:
        """Let a segmentation be edited on a volume; None for nothing."""
        if segmentationNode is None:
            volumeNode = None
        if self._shown == (segmentationNode, volumeNode):
            return
        self._selectNode()
        self._shown = (segmentationNode, volumeNode)
        # In this order: the editor warns of a volume that comes before its segmentation.
        self._editor.setSegmentationNode(segmentationNode)
        self._editor.setSourceVolumeNode(volumeNode)
        if segmentationNode is not None:
            self._node.SetOverwriteMode(_overwriteMode(segmentationNode))

    def select(self, segmentID: str) -> None:
        """Let a segment be the one that is painted."""
        self._editor.setCurrentSegmentID(segmentID)

    def endEffect(self) -> None:
        """Let the mouse move the views again."""
        self._editor.setActiveEffect(None)

    def saveStateForUndo(self, segmentationNode: Any) -> None:
        """Let the editor's Undo lead back to the segments as they are now."""
        if self._shown[0] is segmentationNode and segmentationNode is not None:
            self._editor.saveStateForUndo()

    def sceneCloses(self) -> None:
        """Let go of what is in the scene."""
        self._editor.setSegmentationNode(None)
        self._editor.removeViewObservations()
        self._shown, self._node = (None, None), None

    def _selectNode(self) -> None:
        scene = slicer.mrmlScene
        node = scene.GetSingletonNode(_SINGLETON_TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.vtkMRMLSegmentEditorNode()
            node.SetSingletonTag(_SINGLETON_TAG)
            node = scene.AddNode(node)
        if node is not self._node:
            self._node = node
            self._editor.setMRMLSegmentEditorNode(node)


def _overwriteMode(segmentationNode: Any) -> int:
    """Painting takes voxels from the other own segments, never from those of other people."""
    if SegmentWriter.hasForeignSegments(segmentationNode):
        return slicer.vtkMRMLSegmentEditorNode.OverwriteNone
    return slicer.vtkMRMLSegmentEditorNode.OverwriteAllSegments
