"""Run the service behind uvicorn until somebody ends it, or nobody needs it any more."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn

from imbalanceseg.errors import InputError
from imbalanceseg.server.app import create_app
from imbalanceseg.server.service import EngineService, ServiceSettings

_SECONDS_FOR_RUNNING_JOB = 2.0
_SECONDS_FOR_OPEN_STREAMS = 2
_SECONDS_OF_OPEN_LINE = 60
_SECONDS_OF_WATCH = 0.5
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where a server listens, and what ends it.

    Attributes:
        host: address.
        port: 0 takes a free one.
        tls_cert, tls_key: files in PEM, or None for plain HTTP.
        idle_exit: seconds without a request or a job after which it ends, or None.
        parent_pid: process with which it ends, or None.
    """

    host: str = "127.0.0.1"
    port: int = 0
    tls_cert: Path | None = None
    tls_key: Path | None = None
    idle_exit: float | None = None
    parent_pid: int | None = None


def run_server(
    settings: ServiceSettings, token: str, place: Place, listening: Callable[[str], None]
) -> None:
    """Serve until SIGINT, SIGTERM, idleness or the end of the parent.

    Then no job begins any more, the running one gets a moment to finish and is interrupted, and
    those that wait stay in the data folder.

    Args:
        settings: of the service.
        token: that clients show.
        place: where to listen.
        listening: is told the URL once connections are taken.

    Raises:
        InputError: ``address-not-usable``.
        OutputError: ``data-folder`` or ``data-folder-in-use``.
        ModelError: a bundle cannot be read.
    """
    with _bound(place) as listener:
        service = EngineService(settings)
        app = create_app(service, token)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=_SECONDS_OF_OPEN_LINE,
            timeout_graceful_shutdown=_SECONDS_FOR_OPEN_STREAMS,
            ssl_certfile=place.tls_cert,
            ssl_keyfile=place.tls_key,
        )
        server = _Server(config)
        end = threading.Event()
        scheme = "https" if place.tls_cert else "http"
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host

        def idle_since() -> float:
            busy = app.open_requests > 0 or not service.is_idle
            return time.monotonic() if busy else app.last_request

        def watch() -> None:
            while not end.wait(_SECONDS_OF_WATCH):
                if place.parent_pid is not None and not _is_alive(place.parent_pid):
                    _log.info("The parent has ended.")
                    break
                idle = time.monotonic() - idle_since()
                if place.idle_exit is not None and idle > place.idle_exit:
                    _log.info("Nobody has asked for anything for %.0f s.", idle)
                    break
            service.stop(_SECONDS_FOR_RUNNING_JOB)
            server.should_exit = True

        watcher = threading.Thread(target=watch, name="watch", daemon=True)
        with _signals(end):
            service.start()
            watcher.start()
            server.when_started = lambda: listening(f"{scheme}://{shown}:{port}")
            try:
                asyncio.run(server.serve(sockets=[listener]))
            finally:
                end.set()
                watcher.join()
                service.close()


class _Server(uvicorn.Server):
    """Says when it listens, and leaves signals to whoever runs it."""

    when_started: Callable[[], None] = staticmethod(lambda: None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.when_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.contextmanager
def _bound(place: Place) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    # Only of a socket that says so does asyncio know that it need not wait for more to send.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((place.host, place.port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = str(getattr(error, "strerror", None) or error).lower()
        raise InputError(
            "address-not-usable",
            f"Nothing can listen on {place.host}, port {place.port} ({reason}).",
            "Choose another port, or 0 for any that is free.",
        ) from error
    with listener:
        yield listener


@contextlib.contextmanager
def _signals(end: threading.Event) -> Iterator[None]:
    """SIGINT and SIGTERM end the server; a second one kills it."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        end.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_alive(pid: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(pid))
