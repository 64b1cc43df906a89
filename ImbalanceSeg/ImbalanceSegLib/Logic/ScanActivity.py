"""Work of the engine on a scan that it may have already."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import slicer
from slicer.i18n import tr as _

from imbalanceseg.client import EngineTask
from imbalanceseg.progress import ProgressCallback, ignore_progress
from ImbalanceSegLib.Engine.EngineLink import EngineLink
from ImbalanceSegLib.Logic.Activity import Activity, ActivityOutcome, FinishedCallback
from ImbalanceSegLib.Logic.ScanAddresses import ScanAddresses
from ImbalanceSegLib.Scene.VolumeGeometry import imageOfVolume

Ask = Callable[[str, Mapping[str, Any]], EngineTask]

_CASE_GONE = "case-unknown"
_RESULT_GONE = ("base-unknown", "base-unfinished", "base-of-another-case", "result-gone")


class ScanActivity(Activity):
    """Asks about a scan by its address, and sends the scan where the engine does not know it.

    Args:
        link: to the engine.
        addresses: that are known.
        volumeNode: the scan.
        kind: as of :class:`Activity`.
        onFinished: receives the outcome once.
        onProgress: receives every step until then.
    """

    def __init__(
        self,
        link: EngineLink,
        addresses: ScanAddresses,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        kind: str,
        onFinished: FinishedCallback | None = None,
        onProgress: ProgressCallback = ignore_progress,
    ) -> None:
        super().__init__(link, kind, onFinished, onProgress)
        self._addresses = addresses
        self._volumeNode = volumeNode
        self._isSentAgain = False

    def beginOnScan(self, ask: Ask, take: Callable[[Any], Any]) -> ScanActivity:
        """Ask the engine and return at once.

        Args:
            ask: calls a method of the client with the address of the scan and the callbacks.
            take: as of :meth:`Activity.begin`.
        """
        self._ask, self._takeResult = ask, take
        address = self._addresses.of(self._volumeNode)
        if address:
            self._askOf(address)
        else:
            self._send()
        return self

    def failBefore(self, sentence: str) -> None:
        """End work that cannot begin."""
        if not self.isOver:
            self._finish(ActivityOutcome(sentence=sentence))

    def wait(self) -> Any:
        """As of :class:`Activity`; the scan may be sent first, and other work may go before."""
        seen: EngineTask | None = None
        try:
            while not self.isOver and (self.task is None or self.task is not seen):
                seen = self.task
                if seen is not None:
                    self._link.wait(seen)
                else:
                    self._link.poll()
                    time.sleep(0.01)
        except BaseException:
            self.cancel()
            raise
        if self.task is None:
            assert self.outcome is not None
            raise RuntimeError(self.outcome.sentence)
        return super().wait()

    def _send(self) -> None:
        image = imageOfVolume(self._volumeNode)
        self._stamp = self._addresses.stampOf(self._volumeNode)
        self.task = self._link.run(
            self._link.client.upload(image, on_event=self._onEvent, on_done=self._onSent)
        )

    def _onSent(self, task: EngineTask) -> None:
        if self.isOver:
            return
        if task.error is not None:
            self._finish(self._failed(task.error))
            return
        self._addresses.remember(self._volumeNode, task.result, self._stamp)
        try:
            self._askOf(task.result)
        except (RuntimeError, ValueError) as error:
            self.failBefore(str(error))

    def _askOf(self, address: str) -> None:
        self.begin(lambda callbacks: self._ask(address, callbacks), self._takeResult)

    def _onDone(self, task: EngineTask) -> None:
        code = "" if task.error is None else task.error.code
        if self.isOver:
            return
        if code == _CASE_GONE and not self._isSentAgain:
            self._isSentAgain = True
            self._addresses.forget(self._volumeNode)
            self._send()
        elif code in _RESULT_GONE:
            self._finish(
                ActivityOutcome(
                    sentence=_(
                        "The engine does not have this result any more, for example because the "
                        "scene was made on another computer. Press Adapt or Segment once; what "
                        "you have painted stays."
                    ),
                    details=f"error[{code}]",
                )
            )
        else:
            super()._onDone(task)
