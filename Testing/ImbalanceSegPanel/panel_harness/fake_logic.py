"""A logic of the module that does nothing and remembers what it was asked for."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from imbalanceseg.progress import ProgressEvent
from ImbalanceSegLib.Engine.EngineSettings import EngineSettings
from ImbalanceSegLib.Logic.Activity import ActivityOutcome
from ImbalanceSegLib.Logic.AnnotationLogic import AnnotationLogic
from ImbalanceSegLib.Scene.ImbalanceSegParameterNode import ImbalanceSegParameterNode

MODEL = {
    "id": "airway",
    "title": "Airway tree in chest CT",
    "modality": "CT",
    "body_part": "CHEST",
    "license": "Apache-2.0",
    "measured": {"seconds": 41.2, "memory_mib": 3100},
}
OTHER = {**MODEL, "id": "tumor", "title": "Tumour in thick-slice MR", "modality": "MR"}


class FakeActivity:
    """Work that goes on until the test ends it."""

    def __init__(self, kind: str, onFinished: Any, onProgress: Any = None) -> None:
        self.kind, self.isOver, self.quietSeconds = kind, False, 0.0
        self._onFinished, self._onProgress = onFinished, onProgress

    def cancel(self) -> None:
        if not self.isOver:
            self.end(ActivityOutcome(cancelled=True, sentence="The work was cancelled."))

    def end(self, outcome: ActivityOutcome) -> None:
        self.isOver = True
        self._onFinished(outcome)

    def succeed(self, value: Any = None) -> None:
        self.end(ActivityOutcome(succeeded=True, value=value))

    def fail(self, sentence: str, missingPackage: str = "") -> None:
        self.end(ActivityOutcome(sentence=sentence, missingPackage=missingPackage))

    def tell(self, stage: str, done: int, total: int, **metrics: float) -> None:
        self._onProgress(ProgressEvent(stage, done, total, metrics=metrics))


class FakeLogic:
    """A logic of the module that does nothing and remembers what it was asked for."""

    def __init__(self, getNode: Callable[[], Any]) -> None:
        self._getNode = getNode
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.activity: FakeActivity | None = None
        self.refusal = ""
        self.hasViews = True
        self.closed = 0
        self.link = SimpleNamespace(
            settings=EngineSettings(),
            info=None,
            models=[MODEL, OTHER],
            lastLines=[],
            changeSettings=self._changeSettings,
            client=SimpleNamespace(hello=None),
        )
        self.segmentation = SimpleNamespace(start=self._starter("segment"))
        self.annotation = AnnotationLogic()
        self.correction = SimpleNamespace(
            beforeChange=None,
            undoable=False,
            models=[],
            canUndo=lambda node: self.correction.undoable,
            adaptedModels=lambda node: self.correction.models,
            undo=self._undo,
            finishNow=self._recorder("finishNow"),
            startAdapt=self._starter("adapt"),
            startClick=self._starter("click"),
            startSuggest=self._starter("suggest"),
            startKeepModel=self._starter("export"),
        )
        self.maps = SimpleNamespace(
            showMaps=self._recorder("showMaps"), hide=self._recorder("hide")
        )
        self.navigation = SimpleNamespace(jumpTo=self._recorder("jumpTo", "Green"))
        self.archive = SimpleNamespace(
            problem="",
            whyNotFind=lambda archive, patientID: self.archive.problem,
            startFind=self._starter("find"),
            startGet=self._starter("get"),
        )
        self.export = SimpleNamespace(
            problem="",
            whyNoDicomSeg=lambda node: self.export.problem,
            startDicomSeg=self._starter("export"),
            saveNrrd=self._recorder("saveNrrd", "/tmp/labels.seg.nrrd"),
            saveReport=self._recorder("saveReport", "/tmp/report.json"),
        )

    def getParameterNode(self) -> Any:
        return ImbalanceSegParameterNode(self._getNode())

    def close(self) -> None:
        self.closed += 1

    def called(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(given, named) for found, given, named in self.calls if found == name]

    def _changeSettings(self, settings: EngineSettings) -> None:
        self.link.settings = settings

    def _undo(self, node: Any) -> str:
        self.calls.append(("undo", (node,), {}))
        self.correction.undoable = False
        return "click"

    def _recorder(self, name: str, answer: Any = None) -> Callable[..., Any]:
        def record(*given: Any, **named: Any) -> Any:
            self.calls.append((name, given, named))
            return answer

        return record

    def _starter(self, kind: str) -> Callable[..., FakeActivity]:
        def start(*given: Any, **named: Any) -> FakeActivity:
            callbacks = {
                name: named.pop(name) for name in ("onFinished", "onProgress") if name in named
            }
            if "onFinished" not in callbacks:
                *given, callbacks["onFinished"] = given  # type: ignore[assignment]
            self.calls.append((kind, tuple(given), named))
            if self.refusal:
                raise ValueError(self.refusal)
            self.activity = FakeActivity(kind, **callbacks)
            return self.activity

        return start
