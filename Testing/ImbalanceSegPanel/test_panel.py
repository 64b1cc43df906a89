"""The panel is wired to the logic: segmenting, looking, painting and clicking.

On stand-ins for the application's widgets, so this says nothing of how those behave.
"""

from __future__ import annotations

import slicer
from panel_harness.person import doubleClicked, pressed, putOff


class TestSegment:
    def test_asksForWhatIsSelected(self, widget, ui, logic, scan):
        widget.panel.parameters.attentionMap = True
        pressed(ui.segmentButton)
        ((given, named),) = logic.called("segment")
        assert given == (scan,)
        assert named == {
            "model": "airway",
            "device": "auto",
            "maps": ["hardness", "attention"],
            "segmentationNode": None,
        }

    def test_modelIsChosenFromThoseOfTheEngine(self, ui, parameters):
        assert "CT chest · Apache-2.0 · about 41 s and 3.0 GB here" in ui.modelInfoLabel.text
        ui.modelSelector.currentIndex = 1
        assert parameters.model == "tumor"
        parameters.model = "airway"
        assert ui.modelSelector.currentText == "Airway tree in chest CT"

    def test_withoutAModelPaintingComesFirst(self, ui, logic, parameters, scan):
        ui.modelSelector.currentIndex = ui.modelSelector.count - 1
        assert (parameters.model, ui.segmentButton.text) == ("", "Begin painting")
        pressed(ui.segmentButton)
        node = parameters.outputSegmentation
        assert node.GetSegmentation().GetNumberOfSegments() == 1
        assert not logic.called("segment")
        assert not ui.correctCollapsibleButton.collapsed
        assert ui.sliceDoneButton.enabled
        assert ui.adaptButton.enabled
        assert not ui.missedButton.enabled
        assert "press Adapt first" in ui.missedButton.toolTip

    def test_unknownModelIsExplained(self, ui, parameters):
        parameters.model = "liver"
        assert not ui.segmentButton.enabled
        assert "'liver'" in ui.segmentButton.toolTip

    def test_showsProgressInWords(self, ui, logic):
        pressed(ui.segmentButton)
        logic.activity.tell("tiles", 3, 12)
        assert ui.segmentStatusLabel.text == "Looking through the volume: part 3 of 12."
        assert (ui.segmentProgressBar.value, ui.segmentProgressBar.maximum) == (3, 12)
        assert not ui.segmentProgressBar.isHidden()

    def test_saysSoWhenTheEngineIsSilent(self, widget, ui, logic):
        pressed(ui.segmentButton)
        logic.activity.quietSeconds = 14.2
        widget.panel.monitor._onTick()
        assert ui.segmentStatusLabel.text.endswith("No news for 14 s.")

    def test_resultIsSelectedAndNotesAreShown(self, ui, logic, parameters, scan, makeResult):
        pressed(ui.segmentButton)
        output = makeResult(scan, notes=("The spacing is coarse.",))
        logic.activity.succeed(output)
        assert parameters.outputSegmentation is output.segmentationNode
        assert "The spacing is coarse." in ui.segmentStatusLabel.text
        assert ui.segmentProgressBar.isHidden()
        assert not ui.correctCollapsibleButton.collapsed
        assert ui.segmentsTable.segmentationNode() is output.segmentationNode
        assert ui.show3DButton.segmentationNode() is output.segmentationNode
        ((given, _named),) = logic.called("showMaps")
        assert given == (output.segmentationNode, {"hardness": 0.5}, True)

    def test_cancelEndsTheRun(self, ui, logic, world):
        pressed(ui.segmentButton)
        assert ui.segmentButton.text == "Cancel"
        pressed(ui.segmentButton)
        assert logic.activity.isOver
        assert (ui.segmentButton.text, ui.segmentStatusLabel.text) == ("Segment", "Cancelled.")
        assert not world.dialogs.errors

    def test_failureIsTold(self, ui, logic, world):
        pressed(ui.segmentButton)
        logic.activity.fail("The memory is full. Crop the volume.")
        assert world.dialogs.errors == ["The memory is full. Crop the volume."]
        assert ui.segmentButton.enabled

    def test_refusalIsTold(self, ui, logic, world):
        logic.refusal = "The volume has no voxels."
        pressed(ui.segmentButton)
        assert world.dialogs.errors == ["The volume has no voxels."]
        assert ui.segmentButton.text == "Segment"

    def test_logIsShownOnDemand(self, ui, logic):
        logic.link.lastLines = ["loading", "ready"]
        ui.logCollapsibleButton.collapsed = False
        assert ui.logText.plainText == "loading\nready"

    def test_resultOfAVolumeThatWasLeftIsNotSelected(self, ui, logic, parameters, scan, makeResult):
        pressed(ui.segmentButton)
        parameters.inputVolume = None
        logic.activity.succeed(makeResult(scan))
        assert parameters.outputSegmentation is None

    def test_resultIsSelectedThoughAnotherModuleIsShown(self, widget, ui, logic, scan, makeResult):
        pressed(ui.segmentButton)
        widget.exit()
        output = makeResult(scan)
        logic.activity.succeed(output)
        widget.enter()
        assert widget.panel.parameters.outputSegmentation is output.segmentationNode

    def test_segmentingAgainShowsTheNewMaps(self, ui, logic, result):
        shown = len(logic.called("showMaps"))
        pressed(ui.segmentButton)
        logic.activity.succeed(result)
        assert len(logic.called("showMaps")) == shown + 1


class TestLook:
    def test_mapsFollowTheControls(self, ui, logic, result):
        ui.hardnessOpacitySlider.value = 0.8
        assert logic.called("showMaps")[-1][0][1] == {"hardness": 0.8}
        ui.attentionCheckBox.checked = True
        assert logic.called("showMaps")[-1][0][1] == {"hardness": 0.8, "attention": 0.5}
        ui.legendCheckBox.checked = False
        assert logic.called("showMaps")[-1][0][2] is False
        ui.attentionCheckBox.checked = ui.hardnessCheckBox.checked = False
        assert logic.calls[-1][0] == "hide"

    def test_regionsAreSteppedThrough(self, ui, logic, result):
        pressed(ui.nextRegionButton)
        assert ui.regionPositionLabel.text.startswith("1 of ")
        assert ui.regionSentenceLabel.text.startswith("Hard region 1 of ")
        assert logic.called("jumpTo")
        pressed(ui.previousRegionButton)

    def test_twoSegmentationsSideBySide(self, ui, parameters, result, scan, makeResult):
        other = makeResult(scan, name="Second", withMap=False).segmentationNode
        parameters.outputSegmentation = other
        assert ui.segmentsTable.segmentationNode() is other
        assert ui.segmentEditorWidget._node is other
        assert not ui.nextRegionButton.enabled
        parameters.outputSegmentation = result.segmentationNode
        assert ui.nextRegionButton.enabled


class TestPaint:
    def test_sliceDoneTakesTheSliceOfTheView(self, ui, widget, result, redView):
        pressed(ui.sliceDoneButton)
        assert ui.confirmedSlicesList.count == 1
        text = ui.confirmedSlicesList.item(0).text()
        assert text.startswith("Axial slice ")
        assert "is finished" in ui.correctStatusLabel.text

    def test_obliqueViewIsExplained(self, ui, result, redView, world):
        matrix = redView.GetSliceToRAS()
        for row, column, value in ((0, 0, 0.8), (0, 2, 0.6), (2, 0, -0.6), (2, 2, 0.8)):
            matrix.SetElement(row, column, value)
        redView.UpdateMatrices()
        pressed(ui.sliceDoneButton)
        assert world.dialogs.errors
        assert ui.confirmedSlicesList.count == 0

    def test_doubleClickGoesThere(self, ui, logic, result, redView):
        pressed(ui.sliceDoneButton)
        doubleClicked(ui.confirmedSlicesList, 0)
        given, _named = logic.called("jumpTo")[-1]
        assert given[1] == 2

    def test_takenBack(self, ui, result, redView):
        assert not ui.unconfirmSliceButton.enabled
        pressed(ui.sliceDoneButton)
        ui.confirmedSlicesList.setCurrentRow(0)
        pressed(ui.unconfirmSliceButton)
        assert ui.confirmedSlicesList.count == 0

    def test_listsFollowTheSegmentation(self, ui, parameters, result, redView, scan, makeResult):
        pressed(ui.sliceDoneButton)
        parameters.outputSegmentation = makeResult(scan, name="Second").segmentationNode
        assert ui.confirmedSlicesList.count == 0
        parameters.outputSegmentation = result.segmentationNode
        assert ui.confirmedSlicesList.count == 1

    def test_editorIsSetUpInOrder(self, ui, result):
        calls = [call[0] for call in ui.segmentEditorWidget._calls]
        assert calls.index("setMRMLSegmentEditorNode") < calls.index("setSegmentationNode")
        assert calls.index("setSegmentationNode") < calls.index("setSourceVolumeNode")
        assert ui.segmentEditorWidget._volume is not None

    def test_segmentsOfOthersAreNotPaintedOver(self, ui, widget, result):
        node = ui.segmentEditorWidget._editorNode
        assert node.GetOverwriteMode() == node.OverwriteAllSegments
        result.segmentationNode.GetSegmentation().AddEmptySegment("mine", "mine")
        widget.panel.parameters.outputSegmentation = None
        widget.panel.parameters.outputSegmentation = result.segmentationNode
        assert node.GetOverwriteMode() == node.OverwriteNone

    def test_editorKeepsAStateBeforeTheEngineChangesSegments(self, ui, logic, result):
        logic.correction.beforeChange(result.segmentationNode)
        assert ui.segmentEditorWidget._calls[-1] == ("saveStateForUndo",)


class TestClicks:
    def place(self, world, *point):
        node = next(
            n
            for n in slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
            if n.GetHideFromEditors()
        )
        node.AddControlPointWorld(*point)
        putOff(world)
        return node

    def test_missedSendsTheChosenSegment(self, ui, logic, parameters, result, world):
        ui.clickSegmentSelector.currentIndex = 1
        parameters.clickRadiusMm = 2.5
        pressed(ui.missedButton)
        node = self.place(world, -4.0, -5.0, 7.5)
        ((given, _named),) = logic.called("click")
        assert given == (result.segmentationNode, (-4.0, -5.0, 7.5), 2, 2.5)
        assert node.GetNumberOfControlPoints() == 0
        logic.activity.succeed(12)
        assert ui.missedButton.checked

    def test_wrongSendsBackground(self, ui, logic, result, world):
        pressed(ui.missedButton)
        pressed(ui.wrongButton)
        assert not ui.missedButton.checked
        self.place(world, 1.0, 2.0, 3.0)
        assert logic.called("click")[0][0][2] == 0

    def test_clicksWaitForEachOther(self, ui, logic, result, world):
        pressed(ui.missedButton)
        self.place(world, 1.0, 2.0, 3.0)
        self.place(world, 4.0, 5.0, 6.0)
        assert len(logic.called("click")) == 1
        logic.activity.succeed(3)
        assert [given[1] for given, _named in logic.called("click")] == [
            (1.0, 2.0, 3.0),
            (4.0, 5.0, 6.0),
        ]

    def test_endsWhenTheViewsAreUsedForSomethingElse(self, ui, result, world):
        pressed(ui.missedButton)
        interaction = world.app.applicationLogic().GetInteractionNode()
        assert interaction.GetCurrentInteractionMode() == interaction.Place
        interaction.SwitchToViewTransformMode()
        assert not ui.missedButton.checked
        assert not slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")

    def test_endsWithTheModule(self, ui, widget, result, world):
        pressed(ui.wrongButton)
        widget.exit()
        interaction = world.app.applicationLogic().GetInteractionNode()
        assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform
        assert not slicer.util.getNodesByClass("vtkMRMLMarkupsFiducialNode")
