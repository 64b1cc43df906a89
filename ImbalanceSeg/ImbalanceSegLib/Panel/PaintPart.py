"""Painting in section "Correct": the editor, and the slices that are finished."""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _

from imbalanceseg.annotation.annotation import ConfirmedSlice
from ImbalanceSegLib.Panel.PanelSection import PanelSection
from ImbalanceSegLib.Panel.SegmentEditorPart import SegmentEditorPart
from ImbalanceSegLib.Panel.SliceList import SliceList
from ImbalanceSegLib.Scene.SliceTitle import sliceTitle


class PaintPart(PanelSection):
    """The editor, "Slice done", and the list of finished slices."""

    def setup(self) -> None:
        """Connect the widgets."""
        ui = self.ui
        self.editor = SegmentEditorPart(ui.segmentEditorWidget)
        self.editor.setup()
        self._list = SliceList(
            ui.confirmedSlicesList, self._onChosen, self.panel.refresh, self._onTakeBack
        )
        ui.sliceDoneButton.connect("clicked(bool)", self._onSliceDone)
        ui.unconfirmSliceButton.connect("clicked(bool)", self._onTakeBack)

    def enter(self) -> None:
        """The module is shown."""
        self.editor.enter()

    def exit(self) -> None:
        """Another module is shown."""
        self.editor.exit()

    def sceneCloses(self) -> None:
        """Let go of what is in the scene."""
        self.editor.sceneCloses()
        self._list.show([], [])

    def update(self) -> None:
        """Show the selected segmentation, and the finished slices of its volume."""
        node, volumeNode = self.panel.segmentationNode, self.panel.volumeNode
        self.editor.show(node, volumeNode)
        slices = self.panel.facts.slices
        self._list.show(slices, [sliceTitle(volumeNode, one.axis, one.index) for one in slices])

    @property
    def selected(self) -> ConfirmedSlice | None:
        """The finished slice that is selected in the list; None for none."""
        found: ConfirmedSlice | None = self._list.selected
        return found

    def _onSliceDone(self) -> None:
        self.panel.attempt(self._confirm)
        self.panel.refresh()

    def _confirm(self) -> None:
        volumeNode, node = self.panel.volumeNode, self.panel.segmentationNode
        view = self.panel.parameters.view.value
        sliceNode = slicer.mrmlScene.GetSingletonNode(view, "vtkMRMLSliceNode")
        if sliceNode is None:
            raise ValueError(_("There is no view of this name. Choose another view."))
        axis, index = self.logic.annotation.sliceOfView(sliceNode, volumeNode)
        conflict = self.logic.annotation.confirmSlice(volumeNode, node, axis, index)
        title = sliceTitle(volumeNode, axis, index)
        sentence = _("{slice} is finished.").format(slice=title)
        if conflict is not None:
            sentence += " " + _(
                "{count} voxels were marked otherwise before; what stands here now counts."
            ).format(count=conflict.voxels)
        self.panel.monitor.say("adapt", sentence)

    def _onChosen(self, chosen: ConfirmedSlice) -> None:
        self.panel.jumpTo(chosen.axis, chosen.index)

    def _onTakeBack(self) -> None:
        chosen = self.selected
        if chosen is None or not self.ui.unconfirmSliceButton.enabled:
            return
        volumeNode, node = self.panel.volumeNode, self.panel.segmentationNode
        self.panel.attempt(
            lambda: self.logic.annotation.unconfirmSlice(
                volumeNode, chosen.axis, chosen.index, node
            )
        )
        self.panel.refresh()

    def saveStateForUndo(self, segmentationNode: Any) -> None:
        """Let the editor's Undo lead back to the segments as they are now."""
        self.editor.saveStateForUndo(segmentationNode)
