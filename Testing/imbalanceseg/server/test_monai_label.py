"""MONAI Label's own client against an engine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import SimpleITK as sitk

from imbalanceseg.geometry import Grid

from .conftest import COMMAND, Engine, environment, make_scan
from .monai_client import (
    Client,
    logged_in,
    monai,
    monailabel,
    painted,
    refusal_of,
    refused,
    same,
    written,
)

__all__ = ["monai", "monailabel"]

pytestmark = pytest.mark.filterwarnings("ignore:'cgi' is deprecated:DeprecationWarning")


def test_models_are_listed(monai: Client) -> None:
    info = monai.info()
    assert info["name"] == "ImbalanceSeg"
    assert "config" not in info
    bright = info["models"]["bright"]
    assert (bright["type"], bright["dimension"]) == ("segmentation", 3)
    assert bright["labels"] == {"Airway tree": 1}
    assert set(bright["labels"]) <= set(info["labels"])
    assert info["strategies"].keys() == {"random", "first"}
    assert "bright" in info["trainers"]


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd"])
def test_a_scan_is_segmented_as_by_the_command(
    engine: Engine, monai: Client, bundle: Path, tmp_path: Path, ending: str
) -> None:
    scan = written(make_scan(61), tmp_path / f"scan{ending}")
    assert monai.upload_image(scan, "CT 1.2.3")["image"] == "CT 1.2.3"
    file, params = monai.infer("bright", "CT 1.2.3", {})
    assert file.endswith(".nii.gz")
    command = [*COMMAND, "segment", scan, "-m", str(bundle), "-o", str(tmp_path / "out")]
    subprocess.run(command, check=True, env=environment(), timeout=240, capture_output=True)
    ours = sitk.ReadImage(str(tmp_path / "out" / "labels.nrrd"))
    assert sitk.GetArrayViewFromImage(ours).any()
    assert same(sitk.ReadImage(file), ours)
    assert params["label_names"] == {"Airway tree": 1}
    assert np.allclose(params["centroids"]["Airway tree"], [1, 20, 18, 12], atol=1)


def test_a_result_has_the_form_that_is_asked_for(monai: Client, tmp_path: Path) -> None:
    monai.upload_image(written(make_scan(62), tmp_path / "scan.nrrd"), "forms")
    first = sitk.ReadImage(monai.infer("bright", "forms", {})[0])
    plain = {"result_extension": ".nrrd", "result_dtype": "uint16", "result_compress": False}
    for params, pixel in (
        (plain, sitk.sitkUInt16),
        ({"result_extension": ".nii"}, sitk.sitkUInt8),
        ({"result_extension": ".nrrd"}, sitk.sitkUInt8),
        ({"result_extension": ".seg.nrrd"}, sitk.sitkUInt8),
    ):
        file = monai.infer("bright", "forms", dict(params))[0]
        assert file.endswith(params["result_extension"])
        assert sitk.ReadImage(file).GetPixelID() == pixel
        assert same(sitk.ReadImage(file), first)


def test_the_answer_is_what_is_asked_for(engine: Engine, monai: Client, tmp_path: Path) -> None:
    """As MITK and OHIF take it apart."""
    scan = written(make_scan(63), tmp_path / "scan.nii.gz")
    monai.upload_image(scan, "outputs")
    form = {"params": (None, json.dumps({"result_extension": ".nrrd", "result_compress": False}))}
    path = "/infer/bright?image=outputs&output="
    told = engine.request("POST", f"{path}json", files=form).json()
    assert told.pop("latencies").keys() == {"total"}
    assert told["label_names"] == {"Airway tree": 1}
    alone = engine.request("POST", f"{path}image", files=form)
    assert alone.content.startswith(b"NRRD")
    whole = engine.request("POST", f"{path}all", files=form)
    boundary = whole.headers["Content-Type"].partition("boundary=")[2].encode()
    empty, first, second, _ = whole.content.split(b"--" + boundary)
    assert empty == b""
    params = json.loads(first.partition(b"Content-Type: application/json")[2])
    assert params.items() >= told.items()
    file = second.partition(b"Content-Type: application/octet-stream")[2].lstrip(b" \r\n")
    assert file[: len(alone.content)] == alone.content
    # a file that is sent along, as MITK does
    form["file"] = ("post_from_mitk.nii.gz", Path(scan).read_bytes())
    sent = engine.request("POST", "/infer/bright?output=json", files=form)
    assert sent.json()["centroids"] == told["centroids"]
    assert refused(engine, "POST", f"{path}dicom_seg", files=form) == (
        422,
        "dicom-seg-needs-series",
    )


def test_points_correct_a_segmentation(engine: Engine, monai: Client, tmp_path: Path) -> None:
    """With points in voxels, as MITK and 3D Slicer send them."""
    scan = make_scan(71)
    monai.upload_image(written(scan, tmp_path / "scan.nii.gz"), "points")
    assert monai.info()["models"]["bright-click"]["type"] == "deepgrow"
    before = sitk.ReadImage(monai.infer("bright", "points", {})[0])
    none = sitk.ReadImage(monai.infer("bright-click", "points", {"foreground": []})[0])
    assert same(none, before)
    background = {"foreground": [], "background": [[20, 18, 12]], "label": "Airway tree"}
    file, params = monai.infer("bright-click", "points", background)
    after = sitk.ReadImage(file)
    assert params["label_names"] == {"Airway tree": 1}
    assert before[20, 18, 12] == 1
    assert after[20, 18, 12] == 0
    jobs = len(engine.request("GET", "/v1/jobs?limit=1000").json())
    assert same(sitk.ReadImage(monai.infer("bright-click", "points", background)[0]), after)
    assert len(engine.request("GET", "/v1/jobs?limit=1000").json()) == jobs
    more = background | {"foreground": [[3, 3, 3]]}
    assert sitk.ReadImage(monai.infer("bright-click", "points", more)[0])[3, 3, 3] == 1
    for wrong, code in (
        ({"foreground": "all"}, "points-invalid"),
        ({"foreground": [[1, 2]]}, "points-invalid"),
        ({"foreground": [[1, 2, 1e300]]}, "points-invalid"),
        ({"foreground": [[1, 2, 3]] * 1000}, "points-invalid"),
        ({"foreground": [[1, 2, 300]]}, "click-outside"),
    ):
        assert code in refusal_of(partial(monai.infer, "bright-click", "points", wrong))
    form = {"params": (None, "{}")}
    answer = refused(engine, "POST", "/infer/none-click?image=points", files=form)
    assert answer == (404, "model-unknown")


def test_a_session_holds_an_image_without_a_name(monai: Client, tmp_path: Path) -> None:
    scan = make_scan(64)
    begun = monai.create_session(written(scan, tmp_path / "Roe^Jane.nii.gz"))
    number = begun["session_id"]
    assert monai.get_session(number)["name"] == number
    assert "Roe" not in json.dumps(begun)
    file, _ = monai.infer("bright", "", {}, session_id=number)
    assert Grid.of(sitk.ReadImage(file)).same_as(Grid.of(scan))
    monai.remove_session(number)
    assert "session-unknown" in refusal_of(lambda: monai.get_session(number))


def test_labels_are_kept_and_images_without_come_next(
    new_engine: Callable[..., Engine], monailabel: Any, tmp_path: Path
) -> None:
    engine = new_engine()
    monai = logged_in(engine, monailabel, tmp_path)
    assert monai.next_sample("random", {}) == {}
    scans = {name: make_scan(seed) for name, seed in (("a", 65), ("b", 66))}
    for name, scan in scans.items():
        monai.upload_image(written(scan, tmp_path / f"{name}.nii.gz"), name)
    assert monai.next_sample("first", {})["id"] == "a"
    assert monai.next_sample("random", {})["id"] in "ab"
    labels = painted(scans["a"])
    monai.save_label("a", written(labels, tmp_path / "label.nii.gz"), params={"label_info": []})
    assert {monai.next_sample("random", {})["id"] for _ in range(5)} == {"b"}
    kept = monai.datastore()["objects"]
    assert kept["a"]["labels"].keys() == {"final"}
    assert kept["b"]["labels"] == {}
    assert monai.info()["datastore"] == {"total": 2, "completed": 1, "label_tags": {"final": 1}}
    assert same(sitk.ReadImage(monai.download_label("a", "final")), labels)
    (file,) = (engine.folder / "annotations").rglob("*.nrrd")
    annotation = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
    finished = sitk.GetArrayFromImage(labels).any(axis=(1, 2))
    assert 0 < finished.sum() < len(finished)
    assert (annotation[~finished] == 255).all()
    assert np.array_equal(annotation[finished], sitk.GetArrayFromImage(labels)[finished])

    engine.kill()
    engine.start()
    monai = logged_in(engine, monailabel, tmp_path)
    assert monai.datastore()["objects"] == kept | {"b": monai.datastore()["objects"]["b"]}
    scan = engine.request("GET", "/datastore/image?image=a")
    (tmp_path / "back.nrrd").write_bytes(scan.content)
    assert same(sitk.ReadImage(str(tmp_path / "back.nrrd")), scans["a"])
    assert engine.request("HEAD", "/datastore/image?image=a").status_code == 200
    assert engine.request("DELETE", "/datastore/label?id=a&tag=final").status_code == 200
    assert not list((engine.folder / "annotations").rglob("*.nrrd"))
    assert engine.request("DELETE", "/datastore/?id=a").status_code == 200
    assert engine.request("HEAD", "/datastore/image?image=a").status_code == 404
    assert len(list((engine.folder / "cases").iterdir())) == 1


def test_training_starts_is_followed_and_stops(
    engine: Engine, monai: Client, tmp_path: Path
) -> None:
    scan = make_scan(67)
    assert "nothing-labelled" in refusal_of(lambda: monai.train_start("bright", {}))
    assert not monai.train_status(check_if_running=True)
    monai.upload_image(written(scan, tmp_path / "scan.nii.gz"), "patient")
    # a client that has other models' segments before ours counts on
    label = written(painted(scan, value=3), tmp_path / "label.nii.gz")
    names = [{"name": "tumor", "idx": 1}, {"name": "Airway tree", "idx": 3}]
    monai.save_label("patient", label, params={"label_info": names})
    begun = monai.train_start("bright", {"seconds": 120})
    assert begun["status"] in ("SUBMITTED", "RUNNING")
    assert begun["details"]
    assert "training-runs" in refusal_of(lambda: monai.train_start("bright", {}))
    engine.wait_until(begun["id"], "running")
    assert monai.train_status(check_if_running=True)
    assert monai.info()["train_stats"].keys() == {"bright"}
    assert monai.train_stop()["status"] == "STOPPED"
    assert monai.train_status()["status"] == "STOPPED"
    assert not monai.train_status(check_if_running=True)

    begun = monai.train_start("bright", {"seconds": 2})
    engine.wait_until(begun["id"], "done", "failed", seconds=200)
    ended = monai.train_status()
    assert ended["status"] == "DONE", ended
    adapted = ended["result"]["model"]
    assert "patient" in monai.info()["models"][adapted]["description"]
    taught = engine.job(begun["id"])["outcome"]["annotation"]
    (kept,) = (engine.folder / "annotations").rglob(f"{taught}.nrrd")
    assert set(np.unique(sitk.GetArrayFromImage(sitk.ReadImage(str(kept))))) == {0, 1, 255}
    file, _ = monai.infer(adapted, "patient", {})
    assert Grid.of(sitk.ReadImage(file)).same_as(Grid.of(scan))

    all_of_them = monai.train_start(None, {"seconds": 60})
    assert all_of_them.keys() >= {"bright", "slow"}
    assert all_of_them["bright"]["result"]["status"] in ("SUBMITTED", "RUNNING")
    assert monai.train_stop()["status"] == "STOPPED"
    assert not monai.train_status(check_if_running=True)


def test_who_hangs_up_stops_the_job(engine: Engine, monai: Client, tmp_path: Path) -> None:
    monai.upload_image(written(make_scan(72), tmp_path / "scan.nii.gz"), "impatient")
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.post(
            f"{engine.url}/infer/slow?image=impatient",
            headers={"Authorization": f"bearer {engine.token}"},
            timeout=3,
        )
    (job,) = (
        job
        for job in engine.request("GET", "/v1/jobs").json()
        if job["parameters"].get("model") == "slow" and job["kind"] == "segment"
    )
    assert engine.wait_until(job["id"], "cancelled", "done", seconds=20)["state"] == "cancelled"
