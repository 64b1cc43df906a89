"""Labels on the way: fetched while the job is listened to, and only the latest is shown."""

from __future__ import annotations

import threading
from collections.abc import Callable

import SimpleITK as sitk

from imbalanceseg.client.task import EngineTask
from imbalanceseg.errors import ImbalanceSegError


class Previews:
    """Fetches what is announced and hands it over; what comes late for a newer one is left out.

    Args:
        task: whose job it is; nothing is handed over once that is over or cancelled.
        fetch: the latest, from the engine.
        show: receives it on the thread of the user.
        deliver: has something called on that thread.
    """

    def __init__(
        self,
        task: EngineTask,
        fetch: Callable[[], sitk.Image],
        show: Callable[[sitk.Image], None],
        deliver: Callable[[Callable[[], None]], None],
    ) -> None:
        self._task, self._fetch, self._show, self._deliver = task, fetch, show, deliver
        self._lock = threading.Lock()
        self._announced = self._fetching = False
        self._latest: sitk.Image | None = None

    def announce(self) -> None:
        """There is a newer one."""
        with self._lock:
            self._announced = True
            if self._fetching:
                return
            self._fetching = True
        threading.Thread(target=self._fetch_all, daemon=True).start()

    def _fetch_all(self) -> None:
        while self._is_next():
            try:
                image = self._fetch()
            except (ImbalanceSegError, RuntimeError):
                # It has gone with the end of the job, or the engine has; the result will tell.
                continue
            with self._lock:
                waits, self._latest = self._latest is not None, image
            if not waits:
                self._deliver(self._hand_over)

    def _is_next(self) -> bool:
        with self._lock:
            self._fetching = self._announced and self._is_wanted
            self._announced = False
            return self._fetching

    def _hand_over(self) -> None:
        with self._lock:
            image, self._latest = self._latest, None
        if image is not None and self._is_wanted:
            self._show(image)

    @property
    def _is_wanted(self) -> bool:
        return not (self._task.is_over or self._task.is_cancelled)
