"""What comes from outside: the token, limits, bodies that lie, and names that climb."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.client import EngineClient
from imbalanceseg.geometry import Grid, image_from_array
from imbalanceseg.nrrd_stream import VolumeHeader, case_id, voxel_chunks

from .conftest import Engine, make_scan

LIMITS = ("--upload-gb", "0.02", "--volume-gb", "0.02", "--queue", "3")


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory, bundle: Path, slow_bundle: Path):
    """An engine that takes 20 MB at most."""
    models = ("--model", str(bundle), "--model", str(slow_bundle))
    engine = Engine(tmp_path_factory.mktemp("engine") / "data", (*models, *LIMITS)).start()
    yield engine
    engine.kill()


def nrrd(scan: sitk.Image, encoding: str = "raw", **changes: str) -> bytes:
    """A body, with lines of its header replaced."""
    header = VolumeHeader.of([scan]).text(encoding).decode()
    for key, value in changes.items():
        name = key.replace("_", " ")
        lines = [line for line in header.split("\n") if not line.startswith(f"{name}:")]
        header = "\n".join([*lines[:-2], f"{name}: {value}", "", ""])
    voxels = b"".join(voxel_chunks([scan]))
    return header.encode() + (gzip.compress(voxels) if encoding == "gzip" else voxels)


def refusal(engine: Engine, body: bytes, path: str = "") -> tuple[int, str]:
    response = engine.request("POST" if not path else "PUT", path or "/v1/cases", data=body)
    assert {"code", "message", "hint"} == response.json().keys()
    return response.status_code, response.json()["code"]


def nothing_half(engine: Engine) -> None:
    engine.wait_for(lambda: not list((engine.folder / "work").iterdir()), 5)


@pytest.mark.parametrize("path", ["/v1/info", "/v1/jobs", "/v1/openapi.json", "/", "/v1/cases"])
@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer wrong", "Basic abc", "Bearer \xff"])
def test_without_the_token_nothing_is_told(engine: Engine, path: str, given: str | None) -> None:
    import requests

    headers = {} if given is None else {"Authorization": given}
    response = requests.get(engine.url + path, headers=headers, timeout=10)
    assert response.status_code == 401
    assert response.json()["code"] == "token-wrong"
    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_the_token_is_readable_by_its_owner_only(engine: Engine) -> None:
    assert (engine.folder / "token").stat().st_mode & 0o777 == 0o600
    assert (engine.folder).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_a_case_is_what_was_sent(engine: Engine, encoding: str) -> None:
    scan = make_scan(50)
    response = engine.request("POST", "/v1/cases", data=nrrd(scan, encoding))
    assert response.status_code == 201
    assert response.json()["id"] == case_id([scan])
    kept = sitk.ReadImage(str(engine.folder / "cases" / case_id([scan]) / "channel_0.nrrd"))
    assert np.array_equal(sitk.GetArrayFromImage(kept), sitk.GetArrayFromImage(scan))
    assert Grid.of(kept).same_as(Grid.of(scan), 1e-6)


def test_files_of_other_programs_are_taken(engine: Engine, tmp_path: Path) -> None:
    scan = make_scan(51)
    sitk.WriteImage(scan, str(tmp_path / "scan.nrrd"), True)
    body = (tmp_path / "scan.nrrd").read_bytes()
    response = engine.request("POST", "/v1/cases", data=body)
    assert response.json()["id"] == case_id([scan])


def test_ras_is_turned_into_lps(engine: Engine) -> None:
    scan = make_scan(52)
    x, y, z = scan.GetOrigin()
    ras = nrrd(
        scan,
        space="right-anterior-superior",
        space_directions="(-1,0,0) (0,-1,0) (0,0,2)",
        space_origin=f"({-x},{-y},{z})",
    )
    assert engine.request("POST", "/v1/cases", data=ras).json()["id"] == case_id([scan])


def test_bodies_that_lie_are_refused(engine: Engine) -> None:
    scan = make_scan(53)
    body = nrrd(scan)
    cases = f"/v1/cases/{'0' * 64}"
    for lie, code in (
        (b"", "upload-truncated"),
        (b"NRRD", "upload-truncated"),
        (b"PK\x03\x04", "not-nrrd"),
        (b"\x80\x04\x95", "not-nrrd"),
        (body[:-1], "upload-truncated"),
        (body + b"x", "upload-too-long"),
        (b"NRRD0005\n" + b"#" * 70_000, "header-too-long"),
        (nrrd(scan, type="block"), "pixel-type"),
        (nrrd(scan, sizes="40 36 -24"), "header-damaged"),
        (nrrd(scan, sizes=f"40 36 {'9' * 5000}"), "header-damaged"),
        (nrrd(scan, sizes="40 36"), "image-not-3d"),
        (nrrd(scan, encoding="bzip2"), "encoding-unknown"),
        (nrrd(scan, encoding="hex"), "encoding-unknown"),
        (nrrd(scan, endian="big"), "header-damaged"),
        (nrrd(scan, space_origin="(nan,0,0)"), "geometry-singular"),
        (nrrd(scan, space_directions="(0,0,0) (0,1,0) (0,0,1)"), "geometry-singular"),
        (nrrd(scan, space_directions="(1,0,0) (1,0,0) (0,0,1)"), "geometry-singular"),
        (nrrd(scan, data_file="/etc/passwd"), "voxels-elsewhere"),
        (nrrd(scan, datafile="LIST"), "voxels-elsewhere"),
        (nrrd(scan, byte_skip="-1"), "voxels-elsewhere"),
        (nrrd(scan, "gzip")[:-500], "upload-truncated"),
        (body.replace(b"encoding: raw", b"encoding: gzip"), "upload-damaged"),
    ):
        assert refusal(engine, lie) == (422, code), lie[:300]
    assert refusal(engine, body, cases) == (422, "address-mismatch")
    nothing_half(engine)


def test_a_gzip_bomb_is_not_unfolded(limited: Engine) -> None:
    import psutil

    assert limited.process is not None
    before = psutil.Process(limited.process.pid).memory_info().rss
    voxels = 40 * 36 * 24 * 2
    header = VolumeHeader.of([make_scan(1)]).text("gzip")
    packer = zlib.compressobj(1, wbits=31)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(512)) + packer.flush()
    assert len(bomb) < 5 * 2**20
    assert refusal(limited, header + bomb) == (422, "upload-too-long")
    assert refusal(limited, header + bomb, f"/v1/cases/{'0' * 64}") == (422, "upload-too-long")
    large = nrrd(make_scan(1), "gzip", sizes="4000 4000 4000")
    assert refusal(limited, large) == (413, "volume-too-large")
    after = psutil.Process(limited.process.pid).memory_info().rss
    assert after - before < 50 * 2**20 + voxels
    nothing_half(limited)


def test_what_is_too_large_is_refused(limited: Engine) -> None:
    grid = Grid((200, 200, 200), (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    noise = np.random.default_rng(1).integers(0, 255, grid.size[::-1], np.uint8)
    fits = image_from_array(noise, grid)
    assert limited.request("POST", "/v1/cases", data=nrrd(fits)).status_code == 201
    large = image_from_array(
        np.concatenate([noise] * 3),
        Grid((200, 200, 600), grid.spacing_mm, grid.origin_mm, grid.direction),
    )
    assert refusal(limited, nrrd(large)) == (413, "volume-too-large")
    assert refusal(limited, b"NRRD0005\n" + bytes(30 * 2**20)) == (422, "header-too-long")
    many = json.dumps({"kind": "segment", "case": "0" * (2**21)})
    response = limited.request("POST", "/v1/jobs", data=many)
    assert (response.status_code, response.json()["code"]) == (413, "request-too-large")


def test_the_queue_has_an_end(limited: Engine) -> None:
    scan = make_scan(1)
    client = limited.client()
    case = client.upload(scan).wait(20)
    request = {"case": case, "kind": "segment", "parameters": {"model": "slow", "device": "cpu"}}
    answers = [limited.request("POST", "/v1/jobs", json=request) for _ in range(8)]
    refused = [answer for answer in answers if answer.status_code != 202]
    assert {answer.status_code for answer in refused} == {429}
    assert {answer.json()["code"] for answer in refused} == {"queue-full"}
    assert len(refused) >= 4
    for answer in answers:
        if answer.status_code == 202:
            limited.request("DELETE", f"/v1/jobs/{answer.json()['id']}")


def test_asking_twice_makes_one_job(engine: Engine, client: EngineClient) -> None:
    case = client.upload(make_scan(54)).wait(20)
    request = {
        "id": hashlib.md5(b"once").hexdigest(),
        "case": case,
        "kind": "segment",
        "parameters": {"model": "bright", "device": "cpu"},
    }
    answers = [engine.request("POST", "/v1/jobs", json=request) for _ in range(3)]
    assert {answer.json()["id"] for answer in answers} == {request["id"]}
    assert [job["id"] for job in engine.request("GET", f"/v1/jobs?case={case}").json()] == [
        request["id"]
    ]


@pytest.mark.parametrize(
    "name",
    [
        "../../../token",
        "..%2f..%2f..%2ftoken",
        "%2e%2e/%2e%2e/token",
        "/etc/passwd",
        "engine.sqlite",
        "report.json%00.nrrd",
        "....//token",
        "~root",
    ],
)
def test_names_do_not_climb(engine: Engine, client: EngineClient, name: str) -> None:
    import http.client

    job = client.segment(make_scan(55), "bright", device="cpu").wait(60).job
    for path in (
        f"/v1/jobs/{job}/results/{name}",
        f"/v1/jobs/{name}",
        f"/v1/cases/{name}",
        f"/v1/cases/{'0' * 64}/annotations/{name}",
        f"/v1/models/{name}",
    ):
        for method in ("GET", "DELETE", "PUT"):
            line = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=10)
            line.request(method, path, headers={"Authorization": f"Bearer {engine.token}"})
            answer = line.getresponse()
            body = json.loads(answer.read())
            assert 400 <= answer.status < 500, (method, path)
            assert body["code"]
            line.close()
    assert (engine.folder / "token").is_file()


def test_the_log_holds_no_name(engine: Engine, client: EngineClient) -> None:
    scan = make_scan(56)
    scan.SetMetaData("0010|0010", "Doe^Jane")
    client.segment(scan, "bright", device="cpu").wait(60)
    engine.request("GET", "/v1/cases/Doe%5EJane")
    engine.request("GET", "/Doe%5EJane?patient=Doe%5EJane", headers={"X-Client": "Doe^Jane"})
    assert "Doe" not in engine.log_text
    assert case_id([scan]) not in engine.log_text
    for path in engine.folder.rglob("*"):
        if path.is_file():
            assert b"Doe^Jane" not in path.read_bytes()


def test_an_annotation_lies_on_its_case(engine: Engine, client: EngineClient) -> None:
    scan = make_scan(57)
    case = client.upload(scan).wait(20)
    path = f"/v1/cases/{case}/annotation"
    labels = image_from_array(np.zeros(scan.GetSize()[::-1], np.uint8), Grid.of(scan))
    assert engine.request("PUT", path, data=nrrd(labels, "gzip")).status_code == 201
    moved = nrrd(labels, space_origin="(0,0,0)")
    assert refusal(engine, moved, path) == (422, "grid-mismatch")
    unknown = f"/v1/cases/{'0' * 64}/annotation"
    assert refusal(engine, nrrd(labels), unknown) == (404, "case-unknown")
    listed = engine.request("GET", f"/v1/cases/{case}/annotations").json()
    assert len(listed) == 1
    one = f"/v1/cases/{case}/annotations/{listed[0]['id']}"
    assert engine.request("DELETE", one).status_code == 204
    assert engine.request("GET", one).status_code == 404


def test_the_document_is_complete(engine: Engine) -> None:
    document = engine.request("GET", "/v1/openapi.json").json()
    assert "HTTPBearer" in document["components"]["securitySchemes"]
    own = {path: methods for path, methods in document["paths"].items() if "/v1/" in path}
    assert len(own) > 10
    for path, methods in own.items():
        for method, operation in methods.items():
            assert operation["description"], (method, path)
            assert "4XX" in operation["responses"]
    examples = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    assert set(examples["examples"]) == {
        "segment",
        "finetune",
        "click",
        "suggest",
        "evaluate",
        "dicom-seg",
    }
    for example in examples["examples"].values():
        response = engine.request("POST", "/v1/jobs", json=example["value"])
        # it is understood: only what it refers to is not here
        assert response.json()["code"] == "case-unknown"
