"""What goes wrong, with real processes: nobody waits in vain, and nothing is lost."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import psutil
import pytest
import SimpleITK as sitk

from imbalanceseg.client import EngineClient, EngineError, EngineTask
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.nrrd_stream import VolumeHeader, case_id, voxel_chunks

from .conftest import GRID, Engine, make_scan

pytestmark = pytest.mark.slow
NewEngine = Callable[..., Engine]


def painted(scan: sitk.Image) -> sitk.Image:
    """Two slices, everything else unlabelled."""
    labels = np.full(scan.GetSize()[::-1], 255, np.uint8)
    for index in (9, 14):
        labels[index] = sitk.GetArrayFromImage(scan)[index] > 200
    return image_from_array(labels, Grid.of(scan))


def long_finetune(client: EngineClient, scan: sitk.Image) -> EngineTask:
    """One that would take minutes."""
    return client.finetune(
        scan,
        painted(scan),
        "bright",
        [(2, 9), (2, 14)],
        seconds=600,
        iterations=200_000,
        depth="head",
        device="cpu",
    )


def in_the_middle(engine: Engine, task: EngineTask) -> None:
    """Wait until a job has begun to compute."""

    def computes() -> bool:
        if task.job is None:
            return False
        progress = engine.job(task.job).get("progress")
        return bool(progress) and progress["stage"] in ("tiles", "finetune")

    engine.wait_for(computes)


def workers_of(engine: Engine) -> list[int]:
    assert engine.process is not None
    children = psutil.Process(engine.process.pid).children(recursive=True)
    return [child.pid for child in children]


@pytest.mark.parametrize(
    ("kind", "number"), [("segment", signal.SIGSEGV), ("finetune", signal.SIGKILL)]
)
def test_a_killed_worker_fails_its_job_and_is_back(
    new_engine: NewEngine, kind: str, number: int
) -> None:
    engine = new_engine()
    client, scan = engine.client(), make_scan(1)
    task = client.segment(scan, "slow", device="cpu") if kind == "segment" else None
    task = task or long_finetune(client, scan)
    in_the_middle(engine, task)
    before = engine.info()["workers"][0]
    os.kill(before, number)
    killed = time.monotonic()
    with pytest.raises(EngineError) as failed:
        task.wait(20)
    assert time.monotonic() - killed < 2
    assert failed.value.code in ("worker-killed", "worker-crashed")
    assert failed.value.message.endswith(".")
    assert engine.info()["workers"][0] != before
    client.segment(scan, "bright", device="cpu").wait(60)
    print(f"the next job was done {time.monotonic() - killed:.1f} s after the death")
    assert not list((engine.folder / "work").iterdir())


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_AS"), reason="this system has no such limit")
def test_memory_that_runs_out_fails_one_job(new_engine: NewEngine) -> None:
    engine = new_engine()
    client, scan = engine.client(), make_scan(1)
    client.segment(scan, "bright", device="cpu").wait(60)
    before = engine.info()["workers"][0]
    worker = psutil.Process(before)
    room = worker.memory_info().vms + 40 * 2**20
    worker.rlimit(psutil.RLIMIT_AS, (room, room))
    large = make_scan(2, Grid((200, 200, 200), (1, 1, 2), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    with pytest.raises(EngineError) as failed:
        client.segment(large, "bright", device="cpu").wait(60)
    print(f"out of memory is told as: {failed.value}")
    assert failed.value.code in ("out-of-memory", "worker-killed", "worker-crashed")
    assert client.segment(large, "bright", maps=[], device="cpu").wait(120).images
    assert engine.info()["workers"][0] != before


def test_a_cancel_ends_a_worker_that_does_not_listen(new_engine: NewEngine) -> None:
    engine = new_engine()
    client, scan = engine.client(), make_scan(1)
    task = client.segment(scan, "slow", device="cpu")
    in_the_middle(engine, task)
    # a process that is stopped answers as little as one in the middle of native code
    os.kill(engine.info()["workers"][0], signal.SIGSTOP)
    begun = time.monotonic()
    client.cancel(task)
    with pytest.raises(Exception, match="cancelled"):
        task.wait(10)
    seconds = time.monotonic() - begun
    print(f"cancelled after {seconds:.2f} s")
    assert seconds < 1.0
    client.segment(scan, "bright", device="cpu").wait(60)


def test_a_killed_server_loses_no_result_and_no_waiting_job(new_engine: NewEngine) -> None:
    engine = new_engine()
    client, scan = engine.client(), make_scan(1)
    done = client.segment(scan, "bright", device="cpu").wait(60)
    tuned = client.finetune(
        scan,
        painted(scan),
        None,
        [(2, 9), (2, 14)],
        seconds=600,
        iterations=10,
        depth="head",
        device="cpu",
    ).wait(120)
    running = client.segment(scan, "slow", device="cpu")
    in_the_middle(engine, running)
    waiting = client.segment(scan, tuned.outcome["model"], device="cpu")
    engine.wait_for(lambda: waiting.job)
    workers = workers_of(engine)
    assert workers
    engine.kill(signal.SIGKILL)
    engine.wait_for(lambda: not any(psutil.pid_exists(pid) for pid in workers), 5)
    engine.start(engine.port)
    with pytest.raises(EngineError) as interrupted:
        running.wait(60)
    assert interrupted.value.code == "interrupted"
    assert "stopped while the job was running" in interrupted.value.message
    assert waiting.wait(60).images["labels"].GetSize() == scan.GetSize()
    labels = engine.request("GET", f"/v1/jobs/{done.job}/results/labels.nrrd")
    assert labels.status_code == 200
    assert engine.request("HEAD", f"/v1/cases/{case_id([scan])}").status_code == 200
    kept = f"/v1/cases/{case_id([scan])}/annotations/{tuned.outcome['annotation']}"
    assert engine.request("GET", kept).status_code == 200
    again = client.click(scan, done.job, (-14.0, 10.0, 8.0), 1, device="cpu").wait(60)
    assert again.outcome["changed_voxels"] > 0


def test_an_adaptation_goes_on_where_it_was(new_engine: NewEngine) -> None:
    engine = new_engine()
    client, scan = engine.client(), make_scan(1)
    task = client.finetune(
        scan,
        painted(scan),
        None,
        [(2, 9), (2, 14)],
        seconds=600,
        iterations=200,
        depth="head",
        device="cpu",
    )
    folder = engine.folder / "checkpoints"
    # not the one that is still being written under another name
    checkpoint = engine.wait_for(lambda: list(folder.glob("[0-9a-f]*.safetensors")))[0]
    engine.kill(signal.SIGKILL)
    engine.start(engine.port)
    assert task.wait(120).outcome["model"] in [model["id"] for model in engine.info()["models"]]
    assert not checkpoint.exists()
    assert not list(folder.iterdir())


def test_a_server_that_is_asked_to_stop_does_so_cleanly(new_engine: NewEngine) -> None:
    engine = new_engine()
    for number in (signal.SIGTERM, signal.SIGINT):
        # So large that no processor is done with it while the server says goodbye.
        client, scan = engine.client(), make_scan(1, replace(GRID, size=(80, 72, 48)))
        task = client.segment(scan, "slow", device="cpu")
        in_the_middle(engine, task)
        workers = workers_of(engine)
        begun = time.monotonic()
        assert engine.kill(number) == 0
        assert time.monotonic() - begun < 8
        engine.wait_for(lambda gone=workers: not any(map(psutil.pid_exists, gone)), 5)
        engine.start()
        job = engine.job(str(task.job))
        assert (job["state"], job["fault"]["code"]) == ("failed", "interrupted")
        client.close()


def test_an_upload_whose_client_has_gone_leaves_nothing(engine: Engine) -> None:
    scan = make_scan(21)
    header = VolumeHeader.of([scan])
    body = header.text("raw") + b"".join(voxel_chunks([scan]))
    head = (
        f"PUT /v1/cases/{case_id([scan])} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {engine.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    line = socket.create_connection(("127.0.0.1", engine.port))
    line.sendall(head.encode() + body[: len(body) // 2])
    engine.wait_for(lambda: list((engine.folder / "work").iterdir()))
    line.close()
    engine.wait_for(lambda: not list((engine.folder / "work").iterdir()), 5)
    assert engine.request("HEAD", f"/v1/cases/{case_id([scan])}").status_code == 404
    assert engine.client().upload(scan).wait(20) == case_id([scan])


def test_a_job_goes_on_without_its_listener(engine: Engine, client: EngineClient) -> None:
    scan = make_scan(1)
    case = client.upload(scan).wait(20)
    job = engine.request(
        "POST",
        "/v1/jobs",
        json={"case": case, "kind": "segment", "parameters": {"model": "slow", "device": "cpu"}},
    ).json()["id"]
    seen: list[int] = []
    for number, _ in engine.connection().events(job, lambda: None):
        seen.append(number)
        if len(seen) > 4:
            break
    rest = [number for number, _ in engine.connection().events(job, lambda: None, seen[-1])]
    assert rest[0] == seen[-1] + 1
    assert rest == list(range(rest[0], rest[0] + len(rest)))
    assert engine.job(job)["state"] == "done"


def test_three_clients_with_twenty_jobs_each_take_turns(engine: Engine) -> None:
    scan = make_scan(1)
    clients = [engine.client() for _ in range(3)]
    clients[0].segment(scan, "bright", device="cpu").wait(60)
    finished: list[int] = []
    tasks: list[EngineTask] = []
    for number, client in enumerate(clients):
        for _ in range(20):
            task = client.segment(scan, "bright", maps=[], device="cpu")
            task.on_done = lambda task, number=number: finished.append(number)
            tasks.append(task)
    engine.wait_for(lambda: sum(client.poll() for client in clients) and len(finished) == 60, 200)
    assert [task.error for task in tasks] == [None] * 60
    names = [client.connection_name for client in clients]
    jobs = engine.request("GET", "/v1/jobs").json()
    order = [(job["started"], job["client"]) for job in jobs if job["client"] in names]
    turns = [client for _, client in sorted(order)][1:]
    assert len(turns) == 60
    # as long as all three have jobs waiting, none gets two more turns than another
    for end in range(10, 40):
        counts = [turns[:end].count(name) for name in names]
        assert max(counts) - min(counts) <= 4


def test_clicks_do_not_wait_for_an_adaptation(engine: Engine, client: EngineClient) -> None:
    scan = make_scan(1)
    segment = client.segment(scan, "bright", device="cpu", prepare_clicks=True).wait(60)
    client.click(scan, segment.job, (-14.0, 10.0, 8.0), 1, device="cpu").wait(60)
    tuning = long_finetune(client, make_scan(2))
    in_the_middle(engine, tuning)
    begun = time.monotonic()
    for _ in range(5):
        client.click(scan, segment.job, (-14.0, 10.0, 8.0), 1, device="cpu").wait(10)
    print(f"a click took {(time.monotonic() - begun) / 5:.2f} s beside an adaptation")
    assert time.monotonic() - begun < 5
    assert engine.job(str(tuning.job))["state"] == "running"
    client.cancel(tuning)


def test_quota_removes_the_oldest_but_no_annotation_and_no_model(new_engine: NewEngine) -> None:
    engine = new_engine("--disk-gb", "0.002")
    client, scan = engine.client(), make_scan(1)
    tuned = client.finetune(
        scan,
        painted(scan),
        None,
        [(2, 9), (2, 14)],
        seconds=600,
        iterations=10,
        depth="head",
        device="cpu",
    ).wait(120)
    cases = [client.upload(make_scan(seed)).wait(20) for seed in range(100, 140)]
    there = [engine.request("HEAD", f"/v1/cases/{case}").status_code for case in cases]
    assert there[0] == 404
    assert there[-1] == 200
    info = engine.info()
    assert info["disk"]["used_bytes"] <= info["disk"]["limit_bytes"]
    on_disk = sum(p.stat().st_size for p in engine.folder.rglob("*.nrrd"))
    assert on_disk <= info["disk"]["limit_bytes"]
    assert tuned.outcome["model"] in [model["id"] for model in info["models"]]
    kept = engine.request("GET", f"/v1/cases/{case_id([scan])}/annotations").json()
    assert tuned.outcome["annotation"] in [one["id"] for one in kept]
    gone = engine.request("GET", f"/v1/jobs/{tuned.job}/results/labels.nrrd")
    assert (gone.status_code, gone.json()["code"]) == (410, "result-gone")
    large = make_scan(5, Grid((140, 140, 80), (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    with pytest.raises(EngineError) as full:
        client.upload(large).wait(20)
    assert full.value.code == "disk-full"
    # what was removed is sent again without anybody noticing
    assert client.segment(scan, tuned.outcome["model"], device="cpu").wait(60)


def test_an_engine_ends_with_its_parent_or_when_idle(new_engine: NewEngine) -> None:
    import subprocess
    import sys

    parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    orphan = new_engine("--parent-pid", str(parent.pid), folder="orphan")
    idle = new_engine("--idle-exit", "2", folder="idle")
    assert orphan.process is not None
    assert idle.process is not None
    parent.kill()
    parent.wait()
    assert orphan.process.wait(timeout=15) == 0
    assert idle.process.wait(timeout=15) == 0


def test_a_data_folder_has_one_server(engine: Engine) -> None:
    import subprocess

    from .conftest import COMMAND, environment

    second = subprocess.run(
        [*COMMAND, "serve", "--port", "0", "--data", str(engine.folder)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
    )
    assert second.returncode == 2
    assert "error[data-folder-in-use]" in second.stderr


def test_memory_and_files_stay_over_many_clicks(engine: Engine, client: EngineClient) -> None:
    scan = make_scan(1)
    base = client.segment(scan, "bright", device="cpu").wait(60).job
    sizes = []
    for number in range(60):
        label = number % 2
        base = client.click(scan, base, (-14.0, 10.0, 8.0), label, device="cpu").wait(30).job
        if number in (30, 59):
            assert engine.process is not None
            pids = [engine.process.pid, *workers_of(engine)]
            sizes.append(sum(psutil.Process(pid).memory_info().rss for pid in pids))
    assert sizes[1] - sizes[0] < 32 * 2**20
    assert threading.active_count() < 20
