"""The engine as the module sees it: one client, polled while there is something to wait for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from imbalanceseg.client import EngineClient, EngineTask
from ImbalanceSegLib.Engine.EngineSettings import EngineSettings
from ImbalanceSegLib.Engine.ThreadTime import ThreadTime

CallLater = Callable[[int, Callable[[], None]], None]

_POLL_MSEC = 50
_SECONDS_TO_END = 2.0
_MODEL_CARD = Path("configs") / "metadata.json"


class EngineLink:
    """Holds the client of the engine, here or on a server, and delivers its callbacks.

    Threads of the client wait for the engine. What they bring is delivered by a timer of the
    application, on the thread where MRML and Qt may be touched.

    Args:
        settings: where the engine runs.
        command: program and leading arguments of an engine on this computer.
        environment: the whole environment of that engine; None passes on the present one.
        callLater: calls a function on this thread after so many milliseconds. Without it somebody
            has to call :meth:`poll` or :meth:`wait`.
    """

    def __init__(
        self,
        settings: EngineSettings,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        callLater: CallLater | None = None,
    ) -> None:
        self._settings = settings
        self._command = list(command)
        self._environment = None if environment is None else dict(environment)
        self._callLater = callLater
        self._client: EngineClient | None = None
        self._isPollDue = False
        self._threadTime = ThreadTime()

    @property
    def settings(self) -> EngineSettings:
        """Where the engine runs and what it may use."""
        return self._settings

    @property
    def client(self) -> EngineClient:
        """The client, made on first use; the engine itself is started by the first task."""
        if self._client is None:
            self._client = self._newClient()
        return self._client

    @property
    def info(self) -> Mapping[str, Any] | None:
        """What the engine has said of itself; None before :meth:`hello` or a first task."""
        return None if self._client is None else self._client.info

    @property
    def models(self) -> list[dict[str, Any]]:
        """The models that the engine offers, as it tells them; none before it was asked."""
        info = self.info
        return [] if info is None else [dict(model) for model in info["models"]]

    @property
    def isBusy(self) -> bool:
        """Whether any task is not over, or any callback is still to be called."""
        return self._client is not None and self._client.is_busy

    @property
    def lastLines(self) -> list[str]:
        """What an engine on this computer has written last."""
        return [] if self._client is None else self._client.last_lines

    @property
    def program(self) -> str:
        """The program that is started for an engine on this computer."""
        return self._command[0]

    def hello(self, onDone: Callable[[EngineTask], None] | None = None) -> EngineTask:
        """Start or reach the engine and ask what it is and offers.

        Args:
            onDone: receives the task when it is over.
        """
        return self.run(self.client.hello(on_done=onDone))

    def run(self, task: EngineTask) -> EngineTask:
        """Deliver the callbacks of a task of :attr:`client` until it is over, and return it."""
        self._pollLater()
        return task

    def wait(self, task: EngineTask) -> None:
        """Block until a task is over and its callbacks were called; for scripts."""
        client = self.client
        try:
            while not task.is_over:
                client.poll()
                time.sleep(0.01)
            while client.poll():
                pass
        except BaseException:
            # Ctrl-C or a failing callback must not leave work that nobody listens to.
            client.cancel(task)
            raise

    def poll(self) -> None:
        """Deliver what the engine has told since the last call."""
        self._isPollDue = False
        if self._client is not None:
            self._threadTime.share()
            _deliver(self._client)
        self._pollLater()

    def changeSettings(self, settings: EngineSettings) -> None:
        """Use other settings from now on.

        Where they name another engine, what runs on the present one is cancelled, and callbacks
        hear of it. Takes a few seconds then.
        """
        changed = settings.connection != self._settings.connection
        self._settings = settings
        if changed and self._client is not None:
            client, self._client = self._client, None
            client.close()
            until = time.monotonic() + _SECONDS_TO_END
            while client.is_busy and time.monotonic() < until:
                _deliver(client)
                time.sleep(0.01)

    def close(self) -> None:
        """End an engine that was started here, with all that it runs; nobody hears of it."""
        client, self._client = self._client, None
        self._threadTime.end()
        if client is not None:
            client.close()

    def _newClient(self) -> EngineClient:
        settings = self._settings
        if not settings.isLocal:
            return EngineClient.connect(
                settings.place, settings.token, verify=settings.certificate or True
            )
        folder = Path(settings.dataFolder) if settings.dataFolder else None
        arguments: list[str] = []
        for name in settings.modelFolders:
            isModel = (Path(name) / _MODEL_CARD).is_file()
            arguments += ["--model" if isModel else "--models-folder", name]
        return EngineClient.start(self._command, folder, self._environment, arguments)

    def _pollLater(self) -> None:
        if self._callLater is None or self._isPollDue:
            return
        if not self.isBusy:
            self._threadTime.end()
            return
        self._isPollDue = True
        self._threadTime.begin()
        self._callLater(_POLL_MSEC, self.poll)


def _deliver(client: EngineClient) -> None:
    """Call what is due; a callback that fails must not keep the others from being called."""
    while True:
        try:
            client.poll()
            return
        except Exception:
            logging.exception("ImbalanceSeg: something failed while a result was shown")
