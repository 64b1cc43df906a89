"""The panel is wired to the logic: names, states, and what each control asks for.

On stand-ins for the application's widgets, so this says nothing of how those behave.
"""

from __future__ import annotations

import pytest
import slicer


@pytest.fixture
def ui(widget):
    return widget.ui


@pytest.fixture
def logic(widget):
    return widget.logic


@pytest.fixture
def parameters(widget):
    return widget.panel.parameters


@pytest.fixture
def result(widget, scan, makeResult):
    """A segmentation that is there and selected."""
    output = makeResult(scan)
    widget.panel.parameters.outputSegmentation = output.segmentationNode
    widget.panel.refresh()
    return output


def pressed(button):
    """Press a button as a person does: nothing happens while it is disabled."""
    assert button.enabled, button.toolTip
    button.click()


def putOff(world):
    """Make the calls that were put off."""
    calls, world.qt.QTimer.putOff[:] = list(world.qt.QTimer.putOff), []
    for call in calls:
        call()


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
        ui.confirmedSlicesList.setCurrentRow(0)
        ui.confirmedSlicesList.itemDoubleClicked.emit(ui.confirmedSlicesList.item(0))
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


class TestLearn:
    @pytest.fixture(autouse=True)
    def plots(self, widget, monkeypatch):
        """What is drawn of an adaptation."""
        from ImbalanceSegLib.Panel import LearnPart

        made = []

        class Plot:
            def begin(self, name):
                made.append(("begin", name))

            def add(self, event):
                made.append(("add", event.metrics["loss"]))

            def end(self):
                made.append(("end",))

        monkeypatch.setattr(LearnPart, "LossPlot", Plot)
        return made

    def test_suggestionsAreListedWithTheirReason(self, ui, logic, parameters, result):
        from ImbalanceSegLib.Logic.SuggestedSlice import SuggestedSlice
        from ImbalanceSegLib.Scene.SliceView import SliceView

        pressed(ui.suggestButton)
        assert logic.called("suggest")[0][0] == (result.segmentationNode, 5)
        logic.activity.succeed([SuggestedSlice(1, 3, 1.0, "many hard voxels")])
        item = ui.suggestionsList.item(0)
        assert item.text() == "Coronal slice 4 of 9: many hard voxels"
        ui.suggestionsList.setCurrentRow(0)
        ui.suggestionsList.itemDoubleClicked.emit(item)
        assert logic.called("jumpTo")[-1][0][1:] == (1, 3)
        assert parameters.view is SliceView.GREEN

    def test_nothingMoreIsWorthPainting(self, ui, logic, result):
        pressed(ui.suggestButton)
        logic.activity.succeed([])
        assert not ui.suggestionsLabel.isHidden()
        assert ui.suggestionsList.isHidden()

    def test_adaptLearnsWithACurve(self, ui, logic, parameters, plots, result):
        parameters.adaptSeconds = 45.0
        pressed(ui.adaptButton)
        ((given, named),) = logic.called("adapt")
        assert given == (result.segmentationNode, 45.0)
        assert named == {"device": "auto"}
        logic.activity.tell("finetune", 1, 4, loss=0.31, held_out_dice=0.82)
        assert "loss 0.310" in ui.correctStatusLabel.text
        assert ui.correctProgressBar.maximum == 45
        logic.activity.succeed()
        assert plots == [("begin", "Chest CT"), ("add", 0.31), ("end",)]
        assert "Adapted." in ui.correctStatusLabel.text

    def test_stopAndFinishNow(self, ui, logic, result):
        pressed(ui.adaptButton)
        pressed(ui.finishNowButton)
        assert logic.called("finishNow")
        assert ui.adaptButton.text == "Stop"
        pressed(ui.adaptButton)
        assert logic.activity.isOver
        assert not ui.finishNowButton.enabled

    def test_curveCanBeSwitchedOff(self, ui, plots, result):
        ui.lossCurveCheckBox.checked = False
        pressed(ui.adaptButton)
        assert not plots

    def test_undoSaysWhatItHasDone(self, ui, widget, logic, result):
        assert not ui.undoButton.enabled
        logic.correction.undoable = True
        widget.panel.refresh()
        pressed(ui.undoButton)
        assert ui.correctStatusLabel.text == "The last click was taken back."
        assert not ui.undoButton.enabled

    def test_modelIsKeptUnderAFittingName(self, ui, widget, logic, result, world):
        logic.correction.models = ["adapted-1"]
        widget.panel.refresh()
        world.qt.QFileDialog.answer = "/data/models/My Model"
        pressed(ui.keepModelButton)
        ((given, _named),) = logic.called("export")
        assert given[0] is result.segmentationNode
        assert (str(given[1]), given[2]) == ("/data/models", "my-model")
        logic.activity.succeed("/data/models/my-model")
        assert "/data/models/my-model" in ui.correctStatusLabel.text


class TestExport:
    def test_folder(self, ui, logic, result, tmp_path, world):
        from ImbalanceSegLib.Logic.DicomTargets.Folder import Folder

        ui.exportTargetSelector.currentIndex = 1
        assert not ui.exportButton.enabled
        assert "folder" in ui.exportButton.toolTip
        ui.exportFolderEdit.currentPath = str(tmp_path)
        pressed(ui.exportButton)
        ((given, _named),) = logic.called("export")
        assert given == (result.segmentationNode, Folder(str(tmp_path)))
        logic.activity.succeed("/x/seg.dcm")
        assert ui.exportStatusLabel.text == "Exported to /x/seg.dcm."
        assert world.app.userSettings().kept["ImbalanceSeg/Export/folder"] == str(tmp_path)

    def test_dicomweb(self, ui, logic, result):
        from ImbalanceSegLib.Logic.DicomTargets.Dicomweb import Dicomweb

        ui.exportTargetSelector.currentIndex = 2
        assert not ui.exportDicomwebFields.isHidden()
        ui.exportUrlEdit.text = "http://pacs.example.org/dicom-web"
        assert not ui.exportButton.enabled
        ui.exportHttpCheckBox.checked = True
        ui.exportTokenEdit.text = "secret"
        pressed(ui.exportButton)
        assert logic.called("export")[0][0][1] == Dicomweb(
            "http://pacs.example.org/dicom-web", "secret", "", True
        )

    def test_node(self, ui, logic, result):
        from ImbalanceSegLib.Logic.DicomTargets.DicomNode import DicomNode

        ui.exportTargetSelector.currentIndex = 3
        ui.exportHostEdit.text, ui.exportAETitleEdit.text = "pacs", "ARCHIVE"
        ui.exportPortSpinBox.value = 11112
        pressed(ui.exportButton)
        assert logic.called("export")[0][0][1] == DicomNode("pacs", 11112, "ARCHIVE")

    def test_whyNot(self, ui, widget, logic, result):
        logic.export.problem = "The volume was not loaded from DICOM."
        widget.panel.refresh()
        assert ui.exportButton.toolTip == "The volume was not loaded from DICOM."

    def test_files(self, ui, logic, result, world):
        world.qt.QFileDialog.answer = "/tmp/labels"
        pressed(ui.saveNrrdButton)
        assert logic.called("saveNrrd")[0][0] == (result.segmentationNode, "/tmp/labels")
        assert ui.exportStatusLabel.text == "Saved as /tmp/labels.seg.nrrd."
        pressed(ui.saveReportButton)
        assert logic.called("saveReport")
        world.qt.QFileDialog.answer = ""
        pressed(ui.saveNrrdButton)
        assert len(logic.called("saveNrrd")) == 1
