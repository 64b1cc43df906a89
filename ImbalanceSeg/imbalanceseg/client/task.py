"""What a client is waiting for, as seen from the thread that waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import SimpleITK as sitk

from imbalanceseg.errors import Cancelled, ImbalanceSegError
from imbalanceseg.progress import ProgressEvent

EventCallback = Callable[[ProgressEvent], None]


@dataclass(frozen=True)
class JobResult:
    """What a job has brought.

    Attributes:
        job: its number, from which clicks and suggestions go on.
        outcome: figures, by name.
        images: ``"labels"``, ``"hardness"``, ``"attention"``, ... on the scan's grid; of a click
            ``"changed"``, the labels of the box in which something has changed.
        files: everything else, by file name.
    """

    job: str
    outcome: Mapping[str, Any]
    images: Mapping[str, sitk.Image] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


class Poller(Protocol):
    """Whoever delivers callbacks."""

    def poll(self) -> int:
        """Call what is due on this thread, and say how many that were."""


class EngineTask:
    """Something that goes on in the background.

    Attributes:
        job: number of the job, once the engine is asked for it.
        result: what came of it, or None; of an upload the address of the case.
        error: why nothing came of it, or None.
    """

    def __init__(
        self,
        poller: Poller,
        on_event: EventCallback | None = None,
        on_done: Callable[[EngineTask], None] | None = None,
    ) -> None:
        self.job: str | None = None
        self.result: Any = None
        self.error: ImbalanceSegError | None = None
        self.on_event, self.on_done = on_event, on_done
        self._poller = poller
        self._over = threading.Event()
        self._cancelled = threading.Event()
        self._finishing = threading.Event()
        self._heard = time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen any more."""
        return self._over.is_set()

    @property
    def is_cancelled(self) -> bool:
        """Whether :meth:`EngineClient.cancel` was called."""
        return self._cancelled.is_set()

    @property
    def is_finishing(self) -> bool:
        """Whether :meth:`EngineClient.finish` was called."""
        return self._finishing.is_set()

    @property
    def quiet_seconds(self) -> float:
        """For how long nothing was heard of it: "no news for n s"."""
        return 0.0 if self.is_over else time.monotonic() - self._heard

    def wait(self, seconds: float | None = None) -> Any:
        """Block until it is over, delivering callbacks meanwhile; for scripts, not for a GUI.

        Returns:
            :attr:`result`.

        Raises:
            ImbalanceSegError: :attr:`error`.
            TimeoutError: it takes longer.
        """
        until = None if seconds is None else time.monotonic() + seconds
        while not self._over.wait(0.005):
            self._poller.poll()
            if until is not None and time.monotonic() > until:
                raise TimeoutError(f"It has taken more than {seconds:g} s.")
        self._poller.poll()
        if self.error is not None:
            raise self.error
        return self.result

    def tell_end(self) -> None:
        """Call ``on_done``, on the thread that polls."""
        self._over.wait()
        if self.on_done is not None:
            self.on_done(self)

    # for the thread that works

    def heard(self) -> None:
        """Something has come."""
        self._heard = time.monotonic()

    def want_cancelled(self) -> None:
        """Ask for the end."""
        self._cancelled.set()

    def want_finished(self) -> None:
        """Ask for an early end with what there is."""
        self._finishing.set()

    def require_wanted(self) -> None:
        """Raise :class:`~imbalanceseg.errors.Cancelled` where the end was asked for."""
        if self.is_cancelled:
            raise Cancelled

    def end(self, result: Any, error: ImbalanceSegError | None) -> None:
        """Nothing happens any more."""
        self.result, self.error = result, error
        self._over.set()
