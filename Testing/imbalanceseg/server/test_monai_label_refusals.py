"""What no client of MONAI Label should send, and what nobody else should read."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import requests
import SimpleITK as sitk

from .conftest import Engine, make_scan
from .monai_client import (
    Client,
    monai,
    monailabel,
    painted,
    refusal_of,
    refused,
    written,
)

__all__ = ["monai", "monailabel"]

pytestmark = pytest.mark.filterwarnings("ignore:'cgi' is deprecated:DeprecationWarning")


def test_without_the_token_only_the_way_in_is_told(engine: Engine) -> None:
    for method, path in (
        ("GET", "/info/"),
        ("POST", "/infer/bright?image=a"),
        ("PUT", "/datastore/?image=a"),
        ("GET", "/auth/token/valid"),
        ("GET", "/auth"),
        ("DELETE", "/train/"),
    ):
        for header in ({}, {"Authorization": "bearer wrong"}, {"Authorization": engine.token}):
            answer = requests.request(method, engine.url + path, headers=header, timeout=10)
            assert (answer.status_code, answer.json()["code"]) == (401, "token-wrong"), path
    shown = {"Authorization": f"bearer {engine.token}"}
    assert requests.get(f"{engine.url}/info/", headers=shown, timeout=10).status_code == 200
    for body in ({}, {"username": "a", "password": "wrong"}, {"password": "\u00e4"}):
        answer = requests.post(f"{engine.url}/auth/token", data=body, timeout=10)
        assert (answer.status_code, answer.json()["code"]) == (401, "token-wrong")


def test_what_is_unknown_or_climbs_is_refused(engine: Engine) -> None:
    def outside() -> set[Path]:
        place = engine.folder.parent.parent
        return {path for path in place.rglob("*") if engine.folder not in path.parents}

    before = outside()
    form = {"params": (None, "{}")}
    scan = {"file": ("a.nii.gz", b"")}
    for method, path, options, expected in (
        ("POST", "/infer/nothing?image=a", {"files": form}, (404, "image-unknown")),
        ("POST", "/infer/bright", {"files": form}, (422, "image-needed")),
        ("POST", "/infer/bright", {}, (422, "image-needed")),
        ("POST", "/infer/bright?session_id=abc", {"files": form}, (404, "session-unknown")),
        ("POST", "/infer/..%2Fbright?image=a", {"files": form}, (404, "not-found")),
        ("POST", "/infer/BRIGHT?image=a", {"files": form}, (422, "request-invalid")),
        ("POST", "/infer/bright?image=a&output=exe", {"files": form}, (422, "request-invalid")),
        ("POST", "/infer/bright?image=a", {"files": {"label": b"x"}}, (422, "file-not-taken")),
        ("POST", "/infer/bright?image=a", {"data": {"params": "[]"}}, (422, "params-invalid")),
        (
            "POST",
            "/infer/bright?image=a",
            {"data": {"params": '{"result_extension": "../../x.nii"}'}},
            (422, "result-form"),
        ),
        (
            "PUT",
            "/datastore/?image=..%2F..%2Fetc%2Fpasswd",
            {"files": scan},
            (422, "request-invalid"),
        ),
        ("PUT", "/datastore/?image=a%5Cb", {"files": scan}, (422, "request-invalid")),
        ("PUT", "/datastore/?image=a%00b", {"files": scan}, (422, "request-invalid")),
        ("PUT", f"/datastore/?image={'a' * 300}", {"files": scan}, (422, "request-invalid")),
        ("PUT", "/datastore/?image=a", {"files": form}, (422, "file-missing")),
        (
            "PUT",
            "/datastore/label?image=nobody",
            {"files": {"label": b"x"}},
            (404, "image-unknown"),
        ),
        ("GET", "/datastore/image?image=nobody", {}, (404, "image-unknown")),
        ("GET", "/datastore/label?label=nobody&tag=final", {}, (404, "image-unknown")),
        ("GET", "/datastore/label?label=nobody&tag=..%2Fx", {}, (422, "request-invalid")),
        ("DELETE", "/datastore/image?id=nobody", {}, (404, "image-unknown")),
        ("GET", "/session/abc", {}, (404, "session-unknown")),
        ("DELETE", "/session/..", {}, (404, "not-found")),
        ("POST", "/train/nothing", {"json": {}}, (404, "model-unknown")),
        ("POST", "/train/bright", {"json": []}, (422, "request-invalid")),
        ("POST", "/activelearning/oracle", {"json": {}}, (404, "strategy-unknown")),
    ):
        assert refused(engine, method, path, **options) == expected, path
    assert outside() <= before


def test_bodies_that_lie_are_refused(new_engine: Callable[..., Engine], tmp_path: Path) -> None:
    engine = new_engine("--upload-gb", "0.01", "--volume-gb", "0.01")
    scan = make_scan(68)
    nifti = Path(written(scan, tmp_path / "scan.nii")).read_bytes()

    def changed(at: int, by: bytes) -> bytes:
        return nifti[:at] + by + nifti[at + len(by) :]

    large = changed(42, b"\xff\x7f\xff\x7f\xff\x7f")
    for body, code in (
        (b"", "upload-truncated"),
        (b"PK\x03\x04" + bytes(1000), "not-nifti"),
        (b"\x80\x04\x95" + bytes(1000), "not-nifti"),
        (np.random.default_rng(0).bytes(5000), "not-nifti"),
        (gzip.compress(np.random.default_rng(0).bytes(5000)), "not-nifti"),
        (gzip.compress(nifti)[:-5000], "upload-truncated"),
        (b"\x1f\x8b" + bytes(500), "upload-damaged"),
        (nifti[:-1], "upload-truncated"),
        (nifti[:100], "upload-truncated"),
        (nifti + b"x" * 2, "upload-too-long"),
        (large, "volume-too-large"),
        (gzip.compress(large + bytes(50_000_000)), "volume-too-large"),
        (gzip.compress(nifti + bytes(50_000_000)), "upload-too-long"),
        (changed(108, np.float32(15e6).tobytes()) + bytes(12_000_000), "upload-too-large"),
        (changed(42, b"\xff\xff"), "header-damaged"),
        (changed(70, b"\x80\x00"), "pixel-type"),
        (changed(70, b"\x20\x00"), "pixel-type"),
        (changed(40, b"\x02\x00"), "image-not-3d"),
        (changed(108, np.float32("nan").tobytes()), "header-damaged"),
        (changed(108, np.float32(1e9).tobytes()), "header-too-long"),
        (changed(280, np.float32("nan").tobytes()), "geometry-singular"),
        (b"NRRD0005\n" + b"#" * 70_000, "header-too-long"),
        (b"NRRD0004\ntype: uint8\ndata file: /etc/passwd\n\n", "voxels-elsewhere"),
    ):
        for path, name in (("/datastore/?image=a", "file"), ("/session/", "files")):
            answer = refused(engine, "PUT", path, files={name: ("a.nii.gz", body)})
            assert answer[1] == code
            assert answer[0] in (413, 422)
    for body, kind in (
        (b"--x\r\nnonsense", "multipart/form-data; boundary=x"),
        (b"", "multipart/form-data"),
        (b"abc", "multipart/form-data; boundary=" + "x" * 500),
        (
            b'--x\r\nContent-Disposition: form-data; name="params"\r\n\r\n{',
            "multipart/form-data; boundary=x",
        ),
    ):
        headers = {"Content-Type": kind}
        answer = refused(engine, "PUT", "/datastore/?image=a", data=body, headers=headers)
        assert answer in ((422, "form-damaged"), (422, "upload-truncated"))
    many = {f"f{n}": (None, "x") for n in range(50)}
    assert refused(engine, "PUT", "/session/", files=many) == (422, "form-too-long")
    long = {"params": (None, "x" * 2_000_000)}
    assert refused(engine, "PUT", "/session/", files=long) == (422, "form-too-long")
    engine.wait_for(lambda: not list((engine.folder / "work").iterdir()), 5)
    assert not list((engine.folder / "cases").iterdir())
    assert "Traceback" not in engine.log_text


def test_labels_that_do_not_fit_are_refused(engine: Engine, monai: Client, tmp_path: Path) -> None:
    scan = make_scan(69)
    monai.upload_image(written(scan, tmp_path / "scan.nii.gz"), "labels")
    half = sitk.Cast(painted(scan), sitk.sitkFloat32) * 0.5
    elsewhere = painted(scan)
    elsewhere.SetOrigin((0, 0, 0))
    for labels, params, code in (
        (half, {}, "annotation-not-labels"),
        (painted(scan, value=-1), {}, "annotation-not-labels"),
        (painted(scan, value=300), {}, "annotation-not-labels"),
        (elsewhere, {}, "grid-mismatch"),
        (painted(scan), {"label_info": [{"name": "a", "idx": 10**9}]}, "label-info"),
        (painted(scan), {"label_info": "a"}, "label-info"),
    ):
        file = written(labels, tmp_path / "label.nii.gz")
        save = partial(monai.save_label, "labels", file, params=params)
        assert code in refusal_of(save)


def test_names_do_not_reach_the_log(engine: Engine, monai: Client, tmp_path: Path) -> None:
    monai.upload_image(written(make_scan(70), tmp_path / "Doe^John.nii.gz"), "Doe^John")
    monai.infer("bright", "Doe^John", {})
    assert "Doe" not in engine.log_text
    assert "Jane Roe" not in engine.log_text
    assert "Jane Roe" not in json.dumps(engine.request("GET", "/v1/jobs").json())
    assert not [path for path in engine.folder.rglob("*") if "Doe" in path.name]
