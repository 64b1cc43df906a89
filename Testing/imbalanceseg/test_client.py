"""The client: what it imports, that it never blocks, and what it survives."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
import SimpleITK as sitk

from imbalanceseg.client import EngineClient, EngineError, EngineUnreachable, line
from imbalanceseg.errors import Cancelled, DependencyError
from imbalanceseg.nrrd_stream import case_id
from imbalanceseg.progress import ProgressEvent
from imbalanceseg.server.store import Store

from .server.conftest import (  # noqa: F401
    COMMAND,
    GRID,
    Engine,
    bundle,
    engine,
    environment,
    make_scan,
    new_engine,
    slow_bundle,
)


def test_it_needs_numpy_simpleitk_and_requests_only() -> None:
    code = """
import sys
allowed = sys.stdlib_module_names | {"numpy", "SimpleITK", "requests", "imbalanceseg"}
class Bare:
    def find_spec(self, name, path=None, target=None):
        caller = sys._getframe(1)
        while "importlib" in caller.f_code.co_filename:
            caller = caller.f_back
        ours = caller.f_globals.get("__name__", "").startswith("imbalanceseg")
        if ours and name.partition(".")[0] not in allowed:
            raise ImportError(name)
sys.meta_path.insert(0, Bare())
import imbalanceseg.client
ours = sorted(name for name in sys.modules if name.startswith("imbalanceseg."))
heavy = [n for n in ("torch", "monai", "pydantic", "typer", "scipy") if n in sys.modules]
print(*ours)
print(heavy)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=60
    )
    assert done.returncode == 0, done.stderr
    ours, heavy = done.stdout.splitlines()
    assert set(ours.split()) == {
        f"imbalanceseg.{name}"
        for name in (
            "client",
            "client.engine_client",
            "client.http",
            "client.job_run",
            "client.kept_model",
            "client.line",
            "client.previews",
            "client.process",
            "client.sender",
            "client.task",
            "client.volumes",
            "errors",
            "geometry",
            "nrrd_stream",
            "progress",
        )
    }
    assert heavy == "[]"


@pytest.fixture
def local(tmp_path: Path, bundle: Path, slow_bundle: Path) -> Iterator[EngineClient]:  # noqa: F811
    arguments = ["--model", str(bundle), "--model", str(slow_bundle)]
    client = EngineClient.start(COMMAND, tmp_path / "data", environment(), arguments)
    yield client
    client.close()


def tiles(events: list[ProgressEvent]) -> list[int]:
    return [event.done for event in events if event.stage == "tiles"]


def until(what: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_nothing_blocks_and_callbacks_come_with_poll(local: EngineClient) -> None:
    threads: set[int] = set()
    begun = time.monotonic()
    task = local.segment(
        make_scan(1),
        "bright",
        device="cpu",
        on_event=lambda event: threads.add(threading.get_ident()),
        on_done=lambda task: threads.add(threading.get_ident()),
    )
    assert time.monotonic() - begun < 0.1
    until(lambda: task.is_over)
    assert not threads
    assert local.poll() > 3
    assert threads == {threading.get_ident()}
    assert task.wait(1).images["labels"].GetSize() == make_scan(1).GetSize()
    assert local.info is not None
    assert local.info["protocol"] == 1


def engine_process() -> psutil.Process:
    """The engine that was started here; engines that tests of others play are no module."""
    commands = {child: child.cmdline() for child in psutil.Process().children()}
    (started,) = [child for child, words in commands.items() if {"-m", "serve"} <= set(words)]
    return started


@pytest.mark.slow
def test_an_engine_that_dies_is_started_again(local: EngineClient) -> None:
    scan = make_scan(1)
    task = local.segment(scan, "slow", device="cpu")
    events: list[ProgressEvent] = []
    task.on_event = events.append
    until(lambda: local.poll() and tiles(events))
    child = engine_process()
    child.kill()
    with pytest.raises(EngineError) as failed:
        task.wait(60)
    assert failed.value.code == "interrupted"
    assert local.segment(scan, "bright", device="cpu").wait(60).images


@pytest.mark.slow
def test_closing_leaves_no_process(local: EngineClient) -> None:
    task = local.segment(make_scan(1), "slow", device="cpu")
    events: list[ProgressEvent] = []
    task.on_event = events.append
    until(lambda: local.poll() and tiles(events))
    child = engine_process()
    tree = [child.pid, *(p.pid for p in child.children(recursive=True))]
    begun = time.monotonic()
    local.close()
    assert time.monotonic() - begun < 8
    until(lambda: not any(psutil.pid_exists(pid) for pid in tree), 5)
    with pytest.raises(Cancelled):
        task.wait(10)


def test_what_cannot_be_started_is_said_so(tmp_path: Path) -> None:
    nothing = EngineClient.start([str(tmp_path / "nosuch")])
    with pytest.raises(DependencyError, match="cannot be started"):
        nothing.hello().wait(20)
    (tmp_path / "model").mkdir()
    broken = EngineClient.start(
        COMMAND, tmp_path / "data", environment(), ["--model", str(tmp_path / "model")]
    )
    with pytest.raises(DependencyError, match="is not a model bundle"):
        broken.hello().wait(60)


@pytest.fixture
def answer() -> Iterator[tuple[str, dict[str, object]]]:
    """The URL of a server that always says the same, and what it says."""
    says: dict[str, object] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(says).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", says
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("theirs", "who"), [(0, "engine"), (2, "program here")])
def test_other_versions_are_told_in_a_sentence(answer, theirs: int, who: str) -> None:
    url, says = answer
    says |= {"protocol": theirs, "version": "9.8.7"}
    with pytest.raises(EngineError) as refused:
        EngineClient.connect(url, "token").hello().wait(20)
    assert refused.value.code == "protocol-mismatch"
    assert f"version 9.8.7 and speaks protocol {theirs}" in refused.value.message
    assert refused.value.hint == f"Update the {who}."


def test_something_else_that_answers_is_recognised(answer) -> None:
    url, says = answer
    says |= {"hello": "world"}
    with pytest.raises(EngineError) as refused:
        EngineClient.connect(url, "token").hello().wait(20)
    assert refused.value.code == "not-an-engine"


def test_an_address_where_nothing_answers_is_told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "_PATIENCE_WITH_STRANGERS_SECONDS", 0.3)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(EngineUnreachable):
            EngineClient.connect(url, "token").hello().wait(20)


def test_a_wrong_token_is_told(engine: Engine) -> None:  # noqa: F811
    with pytest.raises(EngineError) as refused:
        EngineClient.connect(engine.url, "wrong").hello().wait(20)
    assert refused.value.code == "token-wrong"


def test_infinite_numbers_are_refused_here(engine: Engine) -> None:  # noqa: F811
    with pytest.raises(EngineError) as refused:
        engine.client().click("0" * 64, "0" * 32, (0, 0, float("nan")), 1).wait(20)
    assert refused.value.code == "request-invalid"


class Wire:
    """A line to an engine that can be cut."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = port
        self.port = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._port))
            self._ends += [near, far]
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(a, b), daemon=True).start()

    def _pass(self, a: socket.socket, b: socket.socket) -> None:
        try:
            while data := a.recv(4096):
                b.sendall(data)
        except OSError:
            pass
        finally:
            for end in (a, b):
                end.close()

    def cut(self) -> None:
        ends, self._ends = self._ends, []
        for end in ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        self._listener.close()
        self.cut()


@pytest.mark.slow
def test_a_cut_line_is_mended_without_loss(engine: Engine) -> None:  # noqa: F811
    wire = Wire(engine.port)
    client = EngineClient.connect(f"http://127.0.0.1:{wire.port}", engine.token)
    events: list[ProgressEvent] = []
    # So large that no processor is done with it before the line is cut for the third time.
    scan = make_scan(1, replace(GRID, size=(80, 36, 48)))
    task = client.segment(scan, "slow", device="cpu", on_event=events.append)
    cuts = 0
    while not task.is_over:
        client.poll()
        if len(tiles(events)) > 10 * cuts:
            wire.cut()
            cuts += 1
        time.sleep(0.02)
    result = task.wait(5)
    assert result.images["labels"].GetSize() == scan.GetSize()
    assert cuts > 2
    seen = tiles(events)
    assert seen == sorted(set(seen))
    wire.close()


@pytest.mark.slow
def test_previews_come_through_a_cut_line(engine: Engine) -> None:  # noqa: F811
    wire = Wire(engine.port)
    client = EngineClient.connect(f"http://127.0.0.1:{wire.port}", engine.token)
    scan = make_scan(1)
    labels = sitk.Cast(scan > 200, sitk.sitkUInt8)
    shown: list[sitk.Image] = []

    def show(image: sitk.Image) -> None:
        shown.append(image)
        client.finish(task)
        wire.cut()

    def cut(event: ProgressEvent) -> None:
        if event.stage == "finetune":
            wire.cut()

    options = {"seconds": 600.0, "iterations": 60, "depth": "head", "device": "cpu"}
    task = client.finetune(scan, labels, None, [(2, 12)], show, on_event=cut, **options)
    assert task.wait(60).images["labels"].GetSize() == scan.GetSize()
    assert shown
    wire.close()


def test_a_folder_that_is_in_use_is_left_to_the_other_engine(tmp_path: Path) -> None:
    stores = [Store(tmp_path / "data"), Store(tmp_path / "data-2")]
    client = EngineClient.start(COMMAND, tmp_path / "data", environment())
    try:
        client.hello().wait(60)
        assert (tmp_path / "data-3" / "engine.sqlite").exists()
    finally:
        client.close()
        for store in stores:
            store.close()


@pytest.mark.slow
def test_silence_is_told(new_engine: Callable[..., Engine]) -> None:  # noqa: F811
    mine = new_engine()
    client = mine.client()
    events: list[ProgressEvent] = []
    task = client.segment(make_scan(1), "slow", device="cpu", on_event=events.append)
    until(lambda: client.poll() and tiles(events))
    worker = mine.info()["workers"][0]
    os.kill(worker, signal.SIGSTOP)
    until(lambda: task.quiet_seconds > 3, 10)
    os.kill(worker, signal.SIGCONT)
    until(lambda: task.quiet_seconds < 1, 10)
    client.cancel(task)
    with pytest.raises(Cancelled):
        task.wait(10)
    assert task.quiet_seconds == 0


@pytest.mark.slow
def test_closing_cancels_what_another_engine_does(engine: Engine) -> None:  # noqa: F811
    client = engine.client()
    events: list[ProgressEvent] = []
    task = client.segment(make_scan(1), "slow", device="cpu", on_event=events.append)
    until(lambda: client.poll() and tiles(events))
    client.close()
    engine.wait_until(str(task.job), "cancelled", seconds=5)


def test_an_upload_can_be_cancelled(engine: Engine) -> None:  # noqa: F811
    client = engine.client()
    scan = sitk.Image(256, 256, 300, sitk.sitkInt16)

    def stop(event: ProgressEvent) -> None:
        client.cancel(task)

    task = client.upload(scan, on_event=stop)
    with pytest.raises(Cancelled):
        task.wait(20)
    assert engine.request("HEAD", f"/v1/cases/{case_id([scan])}").status_code in (200, 404)
