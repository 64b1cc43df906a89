"""The stub speaks the protocol that the client speaks, and answers in the shapes of the engine."""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.client import EngineClient, EngineError
from imbalanceseg.errors import Cancelled
from imbalanceseg.server.responses import CaseView, InfoView, JobView

STUB = Path(__file__).with_name("stub_engine")
BRIGHT = 1500


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    made = EngineClient.start([sys.executable, str(STUB)], tmp_path_factory.mktemp("engine"))
    yield made
    made.close()


@pytest.fixture
def scan():
    voxels = np.zeros((6, 7, 8), np.int16)
    voxels[1:4, 2:5, 3:7] = BRIGHT
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.7, 0.9, 2.5))
    image.SetOrigin((10.0, -20.0, 5.0))
    image.SetDirection((0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    return image


def _asked(client, path):
    connection = client._connection
    request = urllib.request.Request(
        connection.url + path,
        headers={"Authorization": connection._session.headers["Authorization"]},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def _annotation(scan, painted):
    values = np.full(sitk.GetArrayViewFromImage(scan).shape, 255, np.uint8)
    for (k, j, i), label in painted.items():
        values[k, j, i] = label
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(scan)
    return image


def test_it_says_of_itself_what_the_engine_says(client):
    info = client.hello().wait(30)
    assert InfoView.model_validate(info).protocol == 1
    assert {"airway", "two-classes", "endless", "failing"} <= {m["id"] for m in info["models"]}


def test_it_segments_what_is_bright(client, scan):
    events = []
    options = {"maps": ["hardness", "attention"], "on_event": events.append}
    result = client.segment(scan, "airway", **options).wait(30)
    labels = sitk.GetArrayFromImage(result.images["labels"])
    assert np.array_equal(labels, sitk.GetArrayFromImage(scan) == BRIGHT)
    assert result.images["labels"].GetDirection() == pytest.approx(scan.GetDirection())
    assert {"labels", "hardness", "attention"} == set(result.images)
    assert json.loads(result.files["report.json"])["model"]["name"] == "airway"
    assert {"upload", "tiles"} <= {event.stage for event in events}


def test_its_answers_have_the_shape_of_the_engines(client, scan):
    result = client.segment(scan, "airway").wait(30)
    job = _asked(client, f"/v1/jobs/{result.job}")
    assert JobView.model_validate(job).state == "done"
    assert set(job) == set(JobView.model_fields)
    case = _asked(client, f"/v1/cases/{job['case']}")
    assert CaseView.model_validate(case).size == scan.GetSize()


def test_a_click_tells_the_box_that_changed(client, scan):
    base = client.segment(scan, "airway").wait(30)
    point = scan.TransformIndexToPhysicalPoint((4, 3, 2))
    click = client.click(scan, base.job, point, 0, radius_mm=0.1).wait(30)
    assert click.outcome["changed_voxels"] == 1
    assert click.outcome["start"] == [4, 3, 2]
    assert click.outcome["size"] == [1, 1, 1]
    assert click.images["changed"].GetOrigin() == pytest.approx(point)
    again = client.click(scan, click.job, point, 0, radius_mm=0.1).wait(30)
    assert again.outcome["start"] is None
    assert not again.images


def test_it_learns_from_what_was_painted(client, scan):
    voxels = sitk.GetArrayFromImage(scan)
    voxels[4, 5, 5] = 700
    scan = sitk.Image(scan)
    changed = sitk.GetImageFromArray(voxels)
    changed.CopyInformation(scan)
    painted = _annotation(changed, {(4, 5, 5): 1, (0, 0, 0): 0})
    events = []
    tuned = client.finetune(
        changed, painted, "airway", [(2, 0)], seconds=1, on_event=events.append
    ).wait(30)
    labels = sitk.GetArrayFromImage(tuned.images["labels"])
    assert labels[4, 5, 5] == 1
    assert tuned.outcome["model"] in {m["id"] for m in client.hello().wait(30)["models"]}
    losses = [event.metrics["loss"] for event in events if event.stage == "finetune"]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) > 1
    on = client.segment(changed, tuned.outcome["model"]).wait(30)
    assert sitk.GetArrayFromImage(on.images["labels"]).any()


def test_it_shows_labels_on_the_way_and_can_be_hurried(client, scan):
    shown = []
    painted = _annotation(scan, {(2, 3, 4): 1, (0, 0, 0): 0})
    client.finetune(scan, painted, "airway", seconds=5, on_preview=shown.append).wait(30)
    assert shown
    assert sitk.GetArrayFromImage(shown[-1]).any()
    task = client.finetune(scan, painted, "airway", seconds=60)
    client.finish(task)
    assert task.wait(30).images["labels"].GetSize() == scan.GetSize()


def test_a_model_that_was_kept_is_offered_again(client, scan, tmp_path):
    painted = _annotation(scan, {(2, 3, 4): 1, (0, 0, 0): 0})
    tuned = client.finetune(scan, painted, "airway", seconds=1).wait(30)
    kept = client.keep_model(tuned.outcome["model"], tmp_path / "kept", "my-model").wait(30)
    assert kept == tmp_path / "kept" / "my-model"
    folders = ["--models-folder", str(kept.parent)]
    other = EngineClient.start([sys.executable, str(STUB)], tmp_path / "data", None, folders)
    try:
        assert "my-model" in {model["id"] for model in other.hello().wait(30)["models"]}
        assert other.segment(scan, "my-model").wait(30).images["labels"]
    finally:
        other.close()


def test_it_suggests_slices_that_are_not_painted(client, scan):
    base = client.segment(scan, "airway").wait(30)
    first = client.suggest(scan, base.job, 3).wait(30).outcome["suggestions"]
    assert len(first) == 3
    assert {"axis", "index", "score", "reason"} == set(first[0])


def test_it_compares_and_exports(client, scan, tmp_path):
    base = client.segment(scan, "airway").wait(30)
    reference = sitk.Cast(scan == BRIGHT, sitk.sitkUInt8)
    figures = client.evaluate(scan, base.job, reference).wait(30).outcome["figures"]
    assert figures["dice"] == 1.0
    with pytest.raises(EngineError, match="DICOM series"):
        client.dicom_seg(scan, base.job).wait(30)
    source = tmp_path / "slice.dcm"
    source.write_bytes(b"\0" * 128 + b"DICM" + b"\x20\x00\x0d\x00UI\x06\x001.2.3\0")
    written = client.dicom_seg(scan, base.job, [source]).wait(30).files["segmentation.dcm"]
    pydicom = pytest.importorskip("pydicom")
    (tmp_path / "made.dcm").write_bytes(written)
    made = pydicom.dcmread(tmp_path / "made.dcm")
    assert made.StudyInstanceUID == "1.2.3"
    assert made.Modality == "SEG"
    assert made.SeriesDescription == "36 labelled voxels"


def test_it_can_be_stopped(client, scan):
    task = client.segment(scan, "endless", on_event=lambda event: client.cancel(task))
    with pytest.raises(Cancelled):
        task.wait(30)


def test_it_fails_as_the_engine_does(client, scan):
    with pytest.raises(EngineError) as failure:
        client.segment(scan, "failing").wait(30)
    assert failure.value.code == "out-of-memory"
    with pytest.raises(EngineError) as refusal:
        client.segment(scan, "no-such-model").wait(30)
    assert refusal.value.code == "model-unknown"


def test_it_asks_for_its_token(client, scan):
    client.hello().wait(30)
    stranger = EngineClient.connect(client._connection.url, "another token")
    with pytest.raises(EngineError) as refusal:
        stranger.hello().wait(30)
    assert refusal.value.code == "token-wrong"
