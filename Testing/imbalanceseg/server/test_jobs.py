"""Every kind of job, through client, HTTP, queue and worker."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from imbalanceseg.client import EngineClient, EngineError, EngineTask, JobResult
from imbalanceseg.dicom.series import write_dicom_series
from imbalanceseg.errors import Cancelled, ImbalanceSegError
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.io import read_image
from imbalanceseg.nrrd_stream import case_id
from imbalanceseg.progress import ProgressEvent

from .conftest import Engine, make_scan

QUICK = {"seconds": 600.0, "iterations": 10, "depth": "head", "device": "cpu"}


def array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


@pytest.fixture(scope="module")
def segmented(engine: Engine, scan: sitk.Image) -> JobResult:
    client = engine.client()
    result: JobResult = client.segment(scan, "bright", device="cpu").wait(120)
    client.close()
    return result


@pytest.fixture
def annotation(scan: sitk.Image) -> sitk.Image:
    labels = np.full(scan.GetSize()[::-1], 255, np.uint8)
    for index in (9, 14):
        labels[index] = array(scan)[index] > 200
    return image_from_array(labels, Grid.of(scan))


def with_change(labels: np.ndarray, result: JobResult) -> np.ndarray:
    """Labels after the box of a click was pasted into them."""
    after = labels.copy()
    if result.outcome["start"] is not None:
        (x, y, z), (i, j, k) = result.outcome["start"], result.outcome["size"]
        after[z : z + k, y : y + j, x : x + i] = array(result.images["changed"])
    return after


def test_info_says_what_a_person_needs(engine: Engine, segmented: JobResult) -> None:
    info = engine.info()
    assert info["protocol"] == 1
    assert info["device"]["name"] in ("cpu", "cuda")
    models = {model["id"]: model for model in info["models"]}
    assert {"airway", "bright", "slow"} <= models.keys()
    for model in models.values():
        assert model["license"]
        assert model["disclaimer"] == "Not for clinical use."
        assert model["segments"][0]["label"] == 1
        assert model["segments"][0]["type"]["scheme"] == "SCT"
        assert [len(one) for one in model["sha256"]] == [64]
        assert model["adapted"] is None
    assert models["airway"]["modality"] == "CT"
    assert models["bright"]["measured"]["seconds"] > 0
    assert models["bright"]["measured_on"] == {"cpu": models["bright"]["measured"]}


def test_segment(scan: sitk.Image, engine: Engine) -> None:
    client = engine.client()
    events: list[ProgressEvent] = []
    done: list[EngineTask] = []
    other = make_scan(4)
    task = client.segment(
        other,
        "bright",
        maps=["hardness"],
        device="cpu",
        on_event=events.append,
        on_done=done.append,
    )
    result = task.wait(60)
    labels = result.images["labels"]
    assert Grid.of(labels).same_as(Grid.of(other))
    assert np.array_equal(array(labels), array(other) > 200)
    assert {event.stage for event in events} >= {"upload", "read", "tiles", "write"}
    assert done == [task]
    assert "Segment0_Name" in labels.GetMetaDataKeys()
    assert set(result.images) == {"labels", "hardness"}
    assert result.outcome["segments"][0]["voxels"] == array(labels).sum()
    assert b'"case": "case"' in result.files["report.json"]


def methods_about_cases(engine: Engine) -> list[str]:
    """Of all requests so far; a line of the log is written after its answer was sent."""
    told = engine.log_text.count("/v1/info")
    engine.info()
    engine.wait_for(lambda: engine.log_text.count("/v1/info") > told)
    return [line.split()[3] for line in engine.log_text.splitlines() if "/v1/cases/" in line]


def test_a_second_upload_costs_one_request(engine: Engine, scan: sitk.Image, segmented) -> None:
    before = methods_about_cases(engine)
    client = engine.client()
    events: list[ProgressEvent] = []
    assert client.upload(scan, on_event=events.append).wait(20) == case_id([scan])
    assert methods_about_cases(engine)[len(before) :] == ["HEAD"]
    assert not events


def test_several_channels_are_one_case(engine: Engine, scan: sitk.Image) -> None:
    client = engine.client()
    pair = [scan, make_scan(7)]
    case = client.upload(pair).wait(20)
    assert case == case_id(pair)
    told = engine.request("GET", f"/v1/cases/{case}").json()
    assert told["channels"] == 2
    folder = engine.folder / "cases" / case
    for number, image in enumerate(pair):
        kept = read_image(folder / f"channel_{number}.nrrd")
        assert np.array_equal(array(kept), array(image))
        assert Grid.of(kept).same_as(Grid.of(image))
    with pytest.raises(EngineError) as refused:
        client.segment(case, "bright", device="cpu").wait(60)
    assert refused.value.code == "channels-missing"


def test_clicks_go_on_from_each_other_and_back(
    client: EngineClient, engine: Engine, scan: sitk.Image, segmented: JobResult
) -> None:
    case = case_id([scan])
    labels = array(segmented.images["labels"])
    inside, outside = (0.0, 23.0, 24.0), (-14.0, 10.0, 8.0)
    assert labels[12, 18, 20]
    first = client.click(case, segmented.job, outside, 1, device="cpu").wait(60)
    added = with_change(labels, first)
    assert first.outcome["changed_voxels"] == (added != labels).sum() > 0
    second = client.click(case, first.job, inside, 0, device="cpu").wait(60)
    removed = with_change(added, second)
    assert (removed != added).sum() == second.outcome["changed_voxels"] > 0

    # the first click is taken back by going on from what was before it
    instead = client.click(case, segmented.job, inside, 0, device="cpu").wait(60)
    assert np.array_equal(with_change(labels, instead)[12], removed[12])

    # a worker that knows nothing of all that finds the same: it is killed, and asked again
    pid = engine.info()["workers"][-1]
    os.kill(pid, signal.SIGKILL)
    again = client.click(case, first.job, inside, 0, device="cpu").wait(60)
    assert np.array_equal(with_change(added, again), removed)


def test_a_click_may_go_on_from_what_still_runs(client: EngineClient) -> None:
    scan = make_scan(21)
    segment = client.segment(scan, "bright", device="cpu")
    click = client.click(scan, segment, (-14.0, 10.0, 8.0), 1, device="cpu")
    assert click.wait(60).outcome["changed_voxels"] > 0


def test_finetune_keeps_model_and_annotation(
    client: EngineClient, engine: Engine, scan: sitk.Image, annotation: sitk.Image, segmented
) -> None:
    case = case_id([scan])
    confirmed = [(2, 9), (2, 14)]
    losses: list[float] = []
    tuned = client.finetune(
        scan,
        annotation,
        None,
        confirmed,
        on_event=lambda event: losses.extend(event.metrics.values()),
        names={1: "Ball"},
        **QUICK,
    ).wait(120)
    found = array(tuned.images["labels"])
    truth = array(scan) > 200
    assert 2 * (found * truth).sum() / (found.sum() + truth.sum()) > 0.8
    assert losses
    assert tuned.outcome["history"]
    model = tuned.outcome["model"]
    assert model in [one["id"] for one in engine.info()["models"]]
    kept = engine.request("GET", f"/v1/cases/{case}/annotations/{tuned.outcome['annotation']}")
    assert kept.status_code == 200
    (engine.folder.parent / "kept.nrrd").write_bytes(kept.content)
    assert np.array_equal(array(read_image(engine.folder.parent / "kept.nrrd")), array(annotation))
    again = client.segment(scan, model, device="cpu").wait(120)
    assert 2 * (array(again.images["labels"]) * truth).sum() > 0.8 * (2 * truth.sum())
    click = client.click(scan, tuned.job, (-14.0, 10.0, 8.0), 1, device="cpu").wait(60)
    assert click.outcome["changed_voxels"] > 0
    # the annotation of the next adaptation is that of the last one, and the click
    more = client.finetune(scan, None, None, base=click.job, **QUICK).wait(120)
    assert more.outcome["annotation"] != tuned.outcome["annotation"]


def test_an_adaptation_is_shown_ended_early_and_kept(
    client: EngineClient, engine: Engine, scan: sitk.Image, annotation: sitk.Image
) -> None:
    shown: list[sitk.Image] = []
    threads: set[int] = set()

    def show(image: sitk.Image) -> None:
        shown.append(image)
        threads.add(threading.get_ident())

    settings = {**QUICK, "iterations": 60}
    confirmed = [(2, 9), (2, 14)]
    task = client.finetune(scan, annotation, "bright", confirmed, show, **settings)
    engine.wait_for(lambda: (client.poll(), shown)[1])
    preview = f"/v1/jobs/{task.job}/preview"
    assert engine.request("GET", preview).content[:4] == b"NRRD"
    client.finish(task)
    tuned = task.wait(60)
    assert threads == {threading.get_ident()}
    assert Grid.of(shown[0]).same_as(Grid.of(scan))
    truth = array(scan) > 200
    assert 2 * (array(shown[0]) * truth).sum() > 0.8 * (array(shown[0]).sum() + truth.sum())
    assert array(tuned.images["labels"]).any()
    gone = engine.request("GET", preview)
    assert (gone.status_code, gone.json()["code"]) == (404, "preview-unknown")
    assert "preview.nrrd" not in engine.job(tuned.job)["files"]

    folder = engine.folder.parent / "models"
    kept = client.keep_model(tuned.outcome["model"], folder, "my-ball").wait(20)
    card = json.loads((kept / "configs" / "metadata.json").read_text())["imbalanceseg"]
    assert card["network"]["kwargs"]["rounds"] < 5
    models = {model["id"]: model for model in engine.info()["models"]}
    assert models["my-ball"]["adapted"]["parent"] == "bright 0.1.0"
    assert models["my-ball"]["adapted"]["parent_sha256"] == models["bright"]["sha256"][0]
    assert models["my-ball"]["sha256"] == models[tuned.outcome["model"]]["sha256"]
    assert client.segment(scan, "my-ball", device="cpu").wait(60).images
    for model, name, code in (
        (tuned.outcome["model"], "my-ball", "model-exists"),
        ("my-ball", None, "model-exists"),
        ("my-ball", "other", "model-not-adapted"),
        ("nosuch", None, "model-unknown"),
        ("../token", "other", "not-found"),
    ):
        with pytest.raises(ImbalanceSegError) as refused:
            client.keep_model(model, folder, name).wait(20)
        assert refused.value.code == code
    assert [path.name for path in folder.iterdir()] == ["my-ball"]


def test_only_an_adaptation_ends_early(engine: Engine, segmented: JobResult) -> None:
    refused = engine.request("POST", f"/v1/jobs/{segmented.job}/finish")
    assert (refused.status_code, refused.json()["code"]) == (409, "job-all-or-nothing")
    unknown = engine.request("POST", f"/v1/jobs/{'0' * 32}/finish")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "job-unknown")
    assert engine.request("GET", f"/v1/jobs/{'0' * 32}/preview").json()["code"] == "job-unknown"


def test_suggest(
    client: EngineClient,
    engine: Engine,
    scan: sitk.Image,
    annotation: sitk.Image,
    segmented: JobResult,
) -> None:
    result = client.suggest(scan, segmented.job, n=2).wait(60)
    found = result.outcome["suggestions"]
    assert 0 < len(found) <= 2
    assert {"axis", "index", "score", "reason"} == found[0].keys()
    best = (found[0]["axis"], found[0]["index"])
    labels = np.full(scan.GetSize()[::-1], 255, np.uint8)
    np.moveaxis(labels, 2 - best[0], 0)[best[1]] = 0
    painted = image_from_array(labels, Grid.of(scan))
    result = client.suggest(scan, segmented.job, 5, painted, [best]).wait(60)
    assert engine.job(result.job)["parameters"]["annotation"]
    assert best not in [(one["axis"], one["index"]) for one in result.outcome["suggestions"]]


def test_evaluate(client: EngineClient, scan: sitk.Image, segmented: JobResult) -> None:
    truth = image_from_array((array(scan) > 200).astype(np.uint8), Grid.of(scan))
    result = client.evaluate(scan, segmented.job, truth, metrics=["dice", "hd95_mm"]).wait(60)
    assert result.outcome["figures"] == {"dice": 1.0, "hd95_mm": 0.0}


def test_dicom_seg(client: EngineClient, engine: Engine, tmp_path: Path) -> None:
    scan = make_scan(9)
    write_dicom_series(scan, tmp_path)
    files = sorted(tmp_path.iterdir())
    image = read_image(tmp_path)
    segment = client.segment(image, "bright", device="cpu")
    with pytest.raises(EngineError, match="none was sent"):
        client.dicom_seg(make_scan(3), client.segment(make_scan(3), "bright")).wait(60)
    result = client.dicom_seg(image, segment, files).wait(60)
    sent = list((engine.folder / "cases" / case_id([image]) / "dicom").iterdir())
    assert len(sent) == len(files)
    assert not any("PixelData" in pydicom.dcmread(path) for path in sent)
    (tmp_path / "seg").write_bytes(result.files["segmentation.dcm"])
    written = pydicom.dcmread(tmp_path / "seg")
    assert written.Modality == "SEG"
    assert written.SegmentSequence[0].SegmentLabel == "Airway tree"
    assert written.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    painted = array(segment.result.images["labels"])
    painted[:] = 0
    painted[5, 5, 5:8] = 1
    labels = image_from_array(painted, Grid.of(image))
    result = client.dicom_seg(image, segment, labels=labels, corrected=True).wait(60)
    (tmp_path / "seg").write_bytes(result.files["segmentation.dcm"])
    corrected = pydicom.dcmread(tmp_path / "seg")
    assert corrected.NumberOfFrames == 1
    assert corrected.SegmentSequence[0].SegmentAlgorithmType == "SEMIAUTOMATIC"
    click = client.click(image, segment, Grid.of(image).origin_mm, 1, radius_mm=3.0)
    result = client.dicom_seg(image, click).wait(60)
    (tmp_path / "seg").write_bytes(result.files["segmentation.dcm"])
    clicked = pydicom.dcmread(tmp_path / "seg").SegmentSequence[0]
    assert clicked.SegmentAlgorithmType == "SEMIAUTOMATIC"


def test_what_cannot_run_is_refused_at_once(
    client: EngineClient, scan: sitk.Image, segmented: JobResult
) -> None:
    case = case_id([scan])
    for task, code in (
        (client.segment("0" * 64, "bright"), "case-unknown"),
        (client.segment(case, "nosuch"), "model-unknown"),
        (client.segment(case, "../../etc"), "request-invalid"),
        (client.segment(case, "bright", device="tpu"), "request-invalid"),
        (client.segment(case, "bright", colour="red"), "request-invalid"),
        (client.click(case, "0" * 32, (0, 0, 0), 1), "base-unknown"),
        (client.click(case, segmented.job, (0, 0, float("inf")), 1), "request-invalid"),
        (client.click(case, segmented.job, (900, 0, 0), 1), "click-outside"),
        (client.finetune(make_scan(30), None, "bright"), "annotation-unknown"),
    ):
        with pytest.raises(EngineError) as refused:
            task.wait(60)
        assert refused.value.code == code
        assert refused.value.message


def test_deleting(client: EngineClient, engine: Engine) -> None:
    scan = make_scan(31)
    segment = client.segment(scan, "bright", device="cpu").wait(60)
    click = client.click(scan, segment.job, (-14.0, 10.0, 8.0), 1, device="cpu").wait(60)
    needed = engine.request("DELETE", f"/v1/jobs/{segment.job}")
    assert (needed.status_code, needed.json()["code"]) == (409, "job-needed")
    assert engine.request("DELETE", f"/v1/jobs/{click.job}").status_code == 204
    assert engine.request("DELETE", f"/v1/jobs/{segment.job}").status_code == 204
    assert engine.request("GET", f"/v1/jobs/{segment.job}").status_code == 404
    case = case_id([scan])
    assert engine.request("DELETE", f"/v1/cases/{case}").status_code == 204
    assert engine.request("HEAD", f"/v1/cases/{case}").status_code == 404
    assert not (engine.folder / "cases" / case).exists()
    assert not (engine.folder / "results" / segment.job).exists()


def test_cancel_takes_less_than_a_second(client: EngineClient, engine: Engine) -> None:
    scan = make_scan(32)
    events: list[ProgressEvent] = []
    running = client.segment(scan, "slow", device="cpu", on_event=events.append)
    engine.wait_for(lambda: client.poll() and any(e.stage == "tiles" for e in events))
    waiting = client.segment(scan, "bright", device="cpu")
    engine.wait_for(lambda: waiting.job)
    client.cancel(waiting)
    begun = time.monotonic()
    client.cancel(running)
    for task in (running, waiting):
        with pytest.raises(Cancelled):
            task.wait(10)
    assert time.monotonic() - begun < 1.5
    assert engine.job(str(running.job))["state"] == "cancelled"
    client.segment(scan, "bright", device="cpu").wait(30)
