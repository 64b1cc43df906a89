"""The panel is wired to the logic: suggestions, adaptation, export and scans of the PACS.

On stand-ins for the application's widgets, so this says nothing of how those behave.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from panel_harness.person import doubleClicked, pressed


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
        doubleClicked(ui.suggestionsList, 0)
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

    @pytest.mark.parametrize("name", ["exportButton", "suggestButton"])
    def test_longWorkCanBeCancelled(self, ui, logic, result, name):
        button = getattr(ui, name)
        text = button.text
        pressed(button)
        assert button.text == "Cancel"
        pressed(button)
        assert logic.activity.isOver
        assert button.text == text

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


class TestArchive:
    SCAN = SimpleNamespace(
        date="20260131", modality="CT", description="Thorax 1.25", instances=248, series_uid="1.2"
    )
    NEXT = SimpleNamespace(
        date="", modality="SEG", description="", instances=None, series_uid="1.3"
    )

    @pytest.fixture
    def pacs(self, ui):
        from ImbalanceSegLib.Logic.DicomTargets.Dicomweb import Dicomweb

        ui.exportTargetSelector.currentIndex = 2
        ui.exportUrlEdit.text = "https://pacs.example.org/dicom-web"
        return Dicomweb("https://pacs.example.org/dicom-web")

    def test_partShowsWhereAPacsIsChosen(self, ui):
        for index, hidden in ((0, True), (1, True), (2, False), (3, False)):
            ui.exportTargetSelector.currentIndex = index
            assert ui.archiveCollapsibleButton.isHidden() == hidden

    def test_findAndGet(self, ui, logic, pacs, world, widget):
        assert not ui.getScanButton.enabled
        ui.patientIDEdit.text = "12*"
        pressed(ui.findScansButton)
        assert logic.called("find") == [((pacs, "12*"), {})]
        assert ui.findScansButton.text == "Cancel"
        logic.activity.succeed([self.SCAN, self.NEXT])
        assert ui.exportStatusLabel.text == "2 series found."
        texts = [ui.scanList.item(row).text() for row in range(2)]
        assert texts == ["2026-01-31  CT  Thorax 1.25  (248 images)", "SEG  (no description)"]
        assert ui.getScanButton.toolTip == "Select a scan in the list first."
        ui.scanList.setCurrentRow(0)
        pressed(ui.getScanButton)
        assert logic.called("get") == [((pacs, self.SCAN), {})]
        logic.activity.tell("get", 3, 248)
        assert ui.exportStatusLabel.text == "Fetching the scan: image 3 of 248."
        node = world.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT of the PACS")
        logic.activity.succeed(node)
        assert widget.panel.volumeNode is node
        assert ui.exportStatusLabel.text == "'CT of the PACS' is loaded and selected."

    def test_nothingFoundAndWhyNot(self, ui, logic, pacs, widget):
        pressed(ui.findScansButton)
        logic.activity.succeed([])
        assert ui.exportStatusLabel.text == "The PACS has no such series."
        logic.archive.problem = "Enter the ID of the patient."
        widget.panel.refresh()
        assert not ui.findScansButton.enabled
        assert ui.findScansButton.toolTip == "Enter the ID of the patient."

    def test_longListIsCut(self, ui, logic, pacs):
        pressed(ui.findScansButton)
        logic.activity.succeed([self.SCAN] * 201)
        assert ui.scanList.count == 200
        assert "201 series found; the newest 200" in ui.exportStatusLabel.text

    def test_doubleClickGets(self, ui, logic, pacs):
        pressed(ui.findScansButton)
        logic.activity.succeed([self.SCAN])
        doubleClicked(ui.scanList, 0)
        assert logic.called("get")
        pressed(ui.getScanButton)
        assert logic.activity.isOver
