"""The panel lives with the application: entered, left, reloaded, closed, and without a window."""

from __future__ import annotations

import sys

import pytest
import slicer


@pytest.fixture
def segmentation(widget, scan, makeResult):
    node = makeResult(scan).segmentationNode
    widget.panel.parameters.outputSegmentation = node
    widget.panel.refresh()
    return node


def keysOf(world):
    from PySide6 import QtGui

    return {
        shortcut.property("key").toString()
        for shortcut in world.window.mainWindow.findChildren(QtGui.QShortcut)
    }


def editorCalls(widget):
    return [call[0] for call in widget.ui.segmentEditorWidget._calls]


class TestEnterAndExit:
    def test_keysOnlyWhileTheModuleIsOpen(self, makeWidget, scan, world):
        widget = makeWidget(enter=False)
        assert not keysOf(world)
        widget.enter()
        keys = {"Shift+S", "Shift+N", "Shift+P", "Shift+M", "Shift+W", "Shift+A"}
        assert keysOf(world) == keys
        widget.enter()
        widget.exit()
        assert not keysOf(world)

    def test_toolTipsTellTheKeys(self, widget, segmentation, world):
        names = (
            "sliceDoneButton",
            "nextRegionButton",
            "previousRegionButton",
            "missedButton",
            "wrongButton",
            "adaptButton",
        )
        told = {getattr(widget.ui, name).toolTip.split("(")[1].split(")")[0] for name in names}
        assert told == keysOf(world)

    def test_keysPressButtons(self, widget, segmentation, world):
        from PySide6 import QtGui

        shortcuts = world.window.mainWindow.findChildren(QtGui.QShortcut)
        (key,) = [one for one in shortcuts if one.property("key").toString() == "Shift+A"]
        key.activated.emit()
        assert widget.logic.called("adapt")

    def test_editorIsEnteredAndLeft(self, widget):
        widget.exit()
        calls = editorCalls(widget)
        assert calls.index("installKeyboardShortcuts") < calls.index("updateWidgetFromMRML")
        assert calls[-3:] == ["setActiveEffect", "uninstallKeyboardShortcuts",
                              "removeViewObservations"]  # fmt: skip

    def test_widgetsDoNotWriteAfterExit(self, widget):
        parameters = widget.panel.parameters
        widget.exit()
        widget.ui.adaptSecondsSpinBox.value = 99.0
        assert parameters.adaptSeconds == 30.0
        widget.enter()
        assert widget.ui.adaptSecondsSpinBox.value == 30.0

    def test_workGoesOnWhileAnotherModuleIsShown(self, widget):
        widget.ui.segmentButton.click()
        widget.exit()
        assert not widget.logic.activity.isOver


class TestScene:
    def test_closingInMidRunIsSafe(self, widget, world, segmentation):
        widget.ui.segmentButton.click()
        world.scene.Clear(False)
        assert widget.logic.activity.isOver
        assert widget.panel.segmentationNode is None
        assert widget.ui.segmentEditorWidget._node is None
        assert widget.ui.segmentsTable.segmentationNode() is None
        assert not widget.ui.segmentButton.enabled
        assert not world.dialogs.errors

    def test_closingWhileClicking(self, widget, world, segmentation):
        widget.ui.missedButton.click()
        world.scene.Clear(False)
        assert not widget.ui.missedButton.checked

    def test_closingWhileAnotherModuleIsShown(self, widget, world, segmentation):
        widget.exit()
        world.scene.Clear(False)
        widget.enter()
        assert widget.panel.volumeNode is None

    def test_nextSceneStartsAnew(self, widget, world, segmentation):
        import numpy as np

        world.scene.Clear(False)
        volume = slicer.util.addVolumeFromArray(np.ones((4, 5, 6), np.int16), name="Next")
        widget.panel.parameters.inputVolume = volume
        assert widget.ui.segmentButton.enabled
        assert widget.ui.inputVolumeSelector.currentNode() is volume

    def test_removedSegmentationLeavesNothingBehind(self, widget, world, segmentation):
        world.scene.RemoveNode(segmentation)
        widget.panel.show()
        assert widget.ui.segmentsTable.segmentationNode() is None
        assert not widget.ui.adaptButton.enabled


class TestModule:
    def test_firstVolumeIsSelected(self, widget, scan):
        assert widget.ui.inputVolumeSelector.currentNode() is scan

    def test_withoutWindowAndViews(self, makeWidget, world, scan, makeResult):
        world.window.mainWindow = None
        widget = makeWidget(enter=False)
        widget.logic.hasViews = False
        widget.enter()
        widget.panel.parameters.outputSegmentation = makeResult(scan).segmentationNode
        widget.panel.refresh()
        assert widget.ui.adaptButton.enabled
        assert widget.ui.sliceDoneButton.toolTip == "This application shows no slice views."
        widget.ui.adaptButton.click()
        assert not widget.logic.called("showMaps")
        widget.exit()

    def test_reloadEndsTheOldPanel(self, widget, module):
        logic = widget.logic
        kept = {name: found for name, found in sys.modules.items() if "ImbalanceSegLib" in name}
        try:
            widget.onReload()
            assert logic.closed == 1
            assert module.ScriptedLoadableModuleWidget.reloads >= 1
            assert not [name for name in sys.modules if name.startswith("ImbalanceSegLib")]
        finally:
            sys.modules.update(kept)
        widget.cleanup()

    def test_moduleNamesItselfAndRegistersAtStartup(self, module, world):
        from types import SimpleNamespace

        parent = SimpleNamespace()
        module.ImbalanceSeg(parent)
        assert parent.title == "ImbalanceSeg"
        assert "Not for clinical use" in parent.helpText
        registered = {function.__name__ for _signal, function in world.app.connected}
        assert registered == {"loadTerminology", "registerSampleData", "registerClickEffect"}

    def test_logicHasAllItsParts(self, module):
        logic = module.ImbalanceSegLogic()
        for name in ("segmentation", "annotation", "correction", "maps", "navigation", "export"):
            assert getattr(logic, name) is not None
        assert logic.link.settings.isLocal
        assert logic.hasViews
        assert logic.link.info is None
        logic.close()

    def test_everyControlExplainsItself(self, widget):
        silentKinds = ("QLabel", "QWidget", "ctkCollapsibleButton", "qMRMLWidget")
        silent = [
            name
            for name, one in vars(widget.ui).items()
            if type(one).__name__ not in silentKinds and not one.toolTip
        ]
        assert not silent


class TestInstallation:
    @pytest.fixture
    def missing(self, monkeypatch):
        """Packages are missing until they were installed."""
        from ImbalanceSegLib.Install.Installer import Installer
        from ImbalanceSegLib.Install.InstallOutcome import InstallOutcome
        from ImbalanceSegLib.Install.Requirement import Requirement

        state = {"missing": True, "asked": [], "outcome": InstallOutcome(True, sentence="Done.")}

        def install(self, folder="", ask=True):
            state["asked"].append(ask)
            state["missing"] = not state["outcome"].succeeded
            return state["outcome"]

        lack = staticmethod(lambda: [Requirement("monai", "")] if state["missing"] else [])
        monkeypatch.setattr(Installer, "missing", lack)
        monkeypatch.setattr(Installer, "install", install)
        return state

    def test_segmentInstallsFirst(self, widget, missing):
        widget.ui.segmentButton.click()
        assert missing["asked"] == [True]
        assert widget.logic.called("segment")

    def test_refusedInstallationSegmentsNothing(self, widget, missing, world):
        from ImbalanceSegLib.Install.InstallOutcome import InstallOutcome

        missing["outcome"] = InstallOutcome(cancelled=True)
        widget.ui.segmentButton.click()
        assert not widget.logic.called("segment")
        assert not world.dialogs.errors
        assert widget.ui.segmentButton.enabled

    def test_failureIsTold(self, widget, missing, world):
        from ImbalanceSegLib.Install.InstallOutcome import InstallOutcome

        missing["outcome"] = InstallOutcome(sentence="The disk is full. Free some space.")
        widget.ui.segmentButton.click()
        assert world.dialogs.errors == ["The disk is full. Free some space."]

    def test_restartIsOfferedAndTheRestFollowsAfterIt(self, makeWidget, scan, missing, world):
        from ImbalanceSegLib.Install.InstallOutcome import InstallOutcome

        missing["outcome"] = InstallOutcome(restartNeeded=True, sentence="Restart Slicer.")
        widget = makeWidget()
        widget.ui.segmentButton.click()
        assert world.dialogs.restarts == 1
        missing["outcome"] = InstallOutcome(True, sentence="Done.")
        world.app.userSettings().setValue("ImbalanceSeg/resumeInstallation", "true")
        again = makeWidget()
        for call in list(world.qt.QTimer.putOff):
            call()
        assert missing["asked"] == [True, False]
        assert again.ui.engineStatusLabel.text == "Done."

    def test_serverNeedsNothing(self, widget, missing):
        widget.ui.enginePlaceSelector.currentIndex = 1
        widget.ui.serverUrlEdit.text = "https://gpu.example.org:8650"
        widget.ui.segmentButton.click()
        assert not missing["asked"]
        assert widget.logic.called("segment")

    def test_packageThatTheEngineMissesIsOffered(self, widget, missing, world):
        missing["missing"] = False
        widget.ui.segmentButton.click()
        widget.logic.activity.fail("The engine needs 'monai'.", missingPackage="monai")
        assert missing["asked"] == [True]


class TestEngine:
    def test_settingsAreUsedAndKept(self, widget, world):
        ui = widget.ui
        ui.enginePlaceSelector.currentIndex = 1
        assert not ui.testEngineButton.enabled
        ui.serverUrlEdit.text = " https://gpu.example.org:8650 "
        ui.serverTokenEdit.text = "secret"
        ui.memorySpinBox.value = 3.5
        ui.exactCheckBox.checked = True
        ui.modelFolderEdit.currentPath = "/data/models"
        ui.segmentButton.click()
        settings = widget.logic.link.settings
        assert settings.place == "https://gpu.example.org:8650"
        assert (settings.memoryGb, settings.exact) == (3.5, True)
        assert settings.modelFolders == ("/data/models",)
        from ImbalanceSegLib.Engine.EngineSettings import EngineSettings

        assert EngineSettings.load(world.app.userSettings()) == settings

    def test_nothingStartsWithoutAnAddress(self, widget, world):
        widget.ui.enginePlaceSelector.currentIndex = 1
        widget.ui.segmentButton.click()
        assert not widget.logic.called("segment")
        assert "address of the server" in world.dialogs.errors[0]

    def test_answerOfTheEngineIsShown(self, widget, monkeypatch):
        from panel_harness.fake_logic import FakeActivity

        from ImbalanceSegLib.Panel import AdvancedSection

        made = []

        def connect(link, onFinished):
            made.append(FakeActivity("connect", onFinished))
            return made[0]

        monkeypatch.setattr(AdvancedSection, "startConnect", connect)
        widget.ui.testEngineButton.click()
        made[0].succeed({"version": "0.1.0", "models": [1, 2, 3]})
        assert widget.ui.engineStatusLabel.text == "The engine answers: version 0.1.0, 3 models."

    def test_versionsAreShownWhenTheSectionIsOpened(self, widget):
        assert not widget.ui.packageInformationText.plainText
        widget.ui.advancedCollapsibleButton.collapsed = False
        assert "Slicer: 5.12.0" in widget.ui.packageInformationText.plainText
