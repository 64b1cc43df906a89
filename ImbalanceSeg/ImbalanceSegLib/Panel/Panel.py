"""The panel as a whole: its sections, the scene they show, and the one work that may go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from imbalanceseg.errors import ImbalanceSegError
from imbalanceseg.progress import ProgressCallback, ProgressEvent
from ImbalanceSegLib.Logic.Activity import Activity, ActivityOutcome, FinishedCallback
from ImbalanceSegLib.Panel.ActivityMonitor import ActivityMonitor
from ImbalanceSegLib.Panel.AdvancedSection import AdvancedSection
from ImbalanceSegLib.Panel.CorrectSection import CorrectSection
from ImbalanceSegLib.Panel.ExportSection import ExportSection
from ImbalanceSegLib.Panel.LookSection import LookSection
from ImbalanceSegLib.Panel.PanelFacts import PanelFacts
from ImbalanceSegLib.Panel.PanelState import ControlState, controlStates
from ImbalanceSegLib.Panel.SceneFacts import SceneFacts, sceneFacts
from ImbalanceSegLib.Panel.SegmentSection import SegmentSection
from ImbalanceSegLib.Panel.Shortcuts import Shortcuts

Begin = Callable[[FinishedCallback, ProgressCallback], Activity]


class Panel(VTKObservationMixin):
    """Holds the sections together and lets one piece of work go on at a time.

    Args:
        ui: widgets of the panel, by name.
        logic: of the module.
    """

    def __init__(self, ui: Any, logic: Any) -> None:
        VTKObservationMixin.__init__(self)
        self.ui, self.logic = ui, logic
        self.parameters: Any = None
        self.activity: Activity | None = None
        self.facts = SceneFacts()
        self._factsOf: tuple[Any, ...] = ()
        self._guiTag: int | None = None
        self._isEntered = False
        self._isShowing = False
        self._onWorkFinished: FinishedCallback | None = None
        self.monitor = ActivityMonitor(ui, self._quietSeconds, self._lastLines)
        self.segment = SegmentSection(self)
        self.look = LookSection(self)
        self.correct = CorrectSection(self)
        self.export = ExportSection(self)
        self.advanced = AdvancedSection(self)
        self._sections = (self.segment, self.look, self.correct, self.export, self.advanced)
        self._shortcuts = Shortcuts({**self.look.shortcuts, **self.correct.shortcuts})

    def setup(self) -> None:
        """Connect the widgets and the scene."""
        for section in self._sections:
            section.setup()
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self._onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self._onSceneEndClose)
        self.enterScene()

    def enter(self) -> None:
        """The module is shown."""
        self._isEntered = True
        self.enterScene()
        for section in self._sections:
            section.enter()
        self._shortcuts.install()

    def exit(self) -> None:
        """Another module is shown; work goes on."""
        self._isEntered = False
        self._shortcuts.remove()
        for section in self._sections:
            section.exit()
        self._leaveScene()

    def close(self) -> None:
        """The panel is going: end everything."""
        self.cancel()
        self.monitor.stop()
        self._shortcuts.remove()
        for section in self._sections:
            section.exit()
        self._leaveScene()
        self.removeObservers()

    @property
    def volumeNode(self) -> Any:
        """The selected volume; None for none."""
        return None if self.parameters is None else self.parameters.inputVolume

    @property
    def segmentationNode(self) -> Any:
        """The selected segmentation; None for none."""
        return None if self.parameters is None else self.parameters.outputSegmentation

    @property
    def activityKind(self) -> str:
        """Kind of the work that goes on; empty while nothing does."""
        if self.activity is not None:
            return self.activity.kind
        return "install" if self.advanced.install.isRunning else ""

    def start(
        self,
        kind: str,
        begin: Begin,
        onFinished: FinishedCallback | None = None,
        seconds: float = 0.0,
    ) -> bool:
        """Begin a piece of work, unless one goes on.

        Args:
            kind: as of an activity.
            begin: starts it with the callbacks that it is given.
            onFinished: receives the outcome when the panel shows nothing of the work any more.
            seconds: that the work is given; 0 when it takes what it takes.

        Returns:
            Whether it has begun; if not, the user was told why.
        """
        if self.activityKind:
            return False
        self._onWorkFinished = onFinished
        self.monitor.begin(kind, seconds)
        try:
            self.advanced.applySettings()
            activity = begin(self._onFinished, self._onProgress)
        except (ImbalanceSegError, RuntimeError, ValueError) as error:
            self.monitor.end()
            self.fail(_sentenceOf(error))
            self.refresh()
            return False
        if not activity.isOver:
            self.activity = activity
        self.refresh()
        return True

    def cancel(self) -> None:
        """Stop the work that goes on, if any."""
        if self.activity is not None:
            self.activity.cancel()

    def cancelOf(self, kind: str) -> bool:
        """Stop the work that goes on if it is of this kind, and say whether it was."""
        if self.activityKind != kind:
            return False
        self.cancel()
        return True

    def fail(self, sentence: str, details: str = "") -> None:
        """Tell the user what went wrong.

        Args:
            sentence: says what to do, too.
            details: for a report of the problem; may be empty.
        """
        if details:
            slicer.util.errorDisplay(sentence, detailedText=details)
        else:
            slicer.util.errorDisplay(sentence)

    def attempt(self, action: Callable[[], Any]) -> Any:
        """Do something at once; tell the user what went wrong, and give None then."""
        try:
            return action()
        except (ImbalanceSegError, RuntimeError, ValueError) as error:
            self.fail(_sentenceOf(error))
            return None

    def jumpTo(self, axis: int, index: int) -> str:
        """Show a slice of the selected volume, and give the name of the view that shows it.

        Args:
            axis: index axis of the volume: 0 i, 1 j, 2 k.
            index: along it, from 0.
        """
        volumeNode = self.volumeNode
        if volumeNode is None:
            return ""
        return self.attempt(lambda: self.logic.navigation.jumpTo(volumeNode, axis, index)) or ""

    def refresh(self) -> None:
        """Look at the scene anew, and show how things stand."""
        self._factsOf = ()
        self.show()

    def show(self) -> None:
        """Show how things stand; looks at the scene anew only where other nodes are selected."""
        if self._isShowing:
            return
        self._isShowing = True
        try:
            self._look()
            for section in self._sections:
                section.update()
            for name, state in controlStates(self._panelFacts()).items():
                _show(getattr(self.ui, name), state)
            self.correct.click.endUnlessEnabled()
        finally:
            self._isShowing = False

    def _look(self) -> None:
        nodes = (self.volumeNode, self.segmentationNode)
        seen = (self.parameters, *nodes)
        if seen != self._factsOf:
            self._factsOf = seen
            self.facts = SceneFacts() if self.parameters is None else sceneFacts(self.logic, *nodes)

    def _panelFacts(self) -> PanelFacts:
        facts, advanced = self.facts, self.advanced
        return PanelFacts(
            activity=self.activityKind,
            sceneIsOpen=self.parameters is not None,
            segmentProblem=facts.segmentProblem or self.segment.whyNoModel,
            hasSegments=facts.hasSegments,
            hasViews=self.logic.hasViews,
            isFromScratch=self.parameters is not None and not self.parameters.model,
            resultProblem=facts.resultProblem,
            baseProblem=facts.baseProblem,
            hasHardness=facts.hasHardness,
            confirmed=len(facts.slices),
            confirmedSelected=self.correct.paint.selected is not None,
            undoes=facts.undoes,
            adapted=facts.adapted,
            exportProblem=facts.exportProblem,
            targetProblem=self.export.target.whyNot(),
            findProblem=self.export.archive.whyNotFind,
            scanSelected=self.export.archive.selected is not None,
            isServer=not advanced.settings.isLocal,
            serverProblem=advanced.serverProblem,
        )

    def enterScene(self) -> None:
        """Show the scene as it is now."""
        self._leaveScene()
        self.parameters = self.logic.getParameterNode()
        if self.parameters.inputVolume is None:
            first = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
            if first is not None:
                self.parameters.inputVolume = first
        self._guiTag = self.parameters.connectParametersToGui(self._boundWidgets())
        self.addObserver(self.parameters, vtk.vtkCommand.ModifiedEvent, self._onModified)
        self.refresh()

    def _leaveScene(self) -> None:
        if self.parameters is None:
            return
        self.parameters.disconnectGui(self._guiTag)
        self.removeObserver(self.parameters, vtk.vtkCommand.ModifiedEvent, self._onModified)
        self.parameters = None

    def _boundWidgets(self) -> dict[str, Any]:
        """Widgets by the parameter they stand for.

        Taken one by one because `connectGui` keeps to itself what `disconnectGui` asks for.
        """
        widgets = {}
        for widget in vars(self.ui).values():
            name = widget.property("SlicerParameterName")
            if name:
                widgets[name] = widget
        return widgets

    def _onModified(self, caller: Any, event: Any) -> None:
        self.show()

    def _onSceneStartClose(self, caller: Any, event: Any) -> None:
        self.cancel()
        for section in self._sections:
            section.sceneCloses()
        self._leaveScene()
        self.refresh()

    def _onSceneEndClose(self, caller: Any, event: Any) -> None:
        self.monitor.clear()
        if self._isEntered:
            self.enterScene()

    def _onProgress(self, event: ProgressEvent) -> None:
        self.monitor.progress(event)
        self.correct.onProgress(event)

    def _onFinished(self, outcome: ActivityOutcome) -> None:
        self.activity = None
        onFinished, self._onWorkFinished = self._onWorkFinished, None
        self.monitor.end(_("Cancelled.") if outcome.cancelled else "")
        if onFinished is not None:
            onFinished(outcome)
        if not (outcome.succeeded or outcome.cancelled):
            self._tellFailure(outcome)
        self.refresh()

    def _tellFailure(self, outcome: ActivityOutcome) -> None:
        self.fail(outcome.sentence, outcome.details)
        if outcome.missingPackage and self.advanced.settings.isLocal:
            self.advanced.install.install()

    def _quietSeconds(self) -> float:
        return 0.0 if self.activity is None else self.activity.quietSeconds

    def _lastLines(self) -> list[str]:
        lines: list[str] = self.logic.link.lastLines
        return lines


def _sentenceOf(error: Exception) -> str:
    if isinstance(error, ImbalanceSegError):
        return f"{error.message} {error.hint}".strip()
    return str(error)


def _show(button: Any, state: ControlState) -> None:
    button.enabled = state.enabled
    button.toolTip = state.toolTip
    if state.text:
        button.text = state.text
