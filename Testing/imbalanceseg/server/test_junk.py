"""Requests that nobody would send, made from the server's own description.

Some two hundred of them, or as many as ``IMBALANCESEG_JUNK`` says.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from imbalanceseg.nrrd_stream import case_id

from .conftest import Engine, make_scan

_SMALL = ("--upload-gb", "0.01", "--volume-gb", "0.01", "--disk-gb", "0.05", "--queue", "20")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_junk_is_refused_with_a_code(new_engine: Callable[..., Engine], tmp_path: Path) -> None:
    wanted = int(os.environ.get("IMBALANCESEG_JUNK", "200"))
    engine = new_engine(*_SMALL)
    assert engine.process is not None
    scan = make_scan(1)
    known = case_id([scan])
    kept = engine.client().segment(scan, "bright", device="cpu").wait(60)
    outside = {path for path in tmp_path.rglob("*") if not path.is_relative_to(engine.folder)}
    operations = [
        result.ok()
        for path in ("/v1/openapi.json", "/openapi.json")
        for result in schemathesis.openapi.from_dict(
            engine.request("GET", path).json()
        ).get_all_operations()
    ]
    line = requests.Session()
    answers: Counter[int] = Counter()

    def junk(case: schemathesis.Case) -> None:
        if (case.method, case.path) == ("DELETE", "/v1/jobs/{job}"):
            case.path_parameters["job"] = "0" * 32
        if isinstance(case.body, dict) and case.body.get("kind") == "segment":
            case.body["case"] = known
            if isinstance(case.body.get("parameters"), dict):
                case.body["parameters"]["model"] = "bright"
        headers = {"Authorization": f"Bearer {engine.token}"}
        try:
            response = case.call(
                base_url=engine.url, session=line, headers=headers, timeout=30, stream=True
            )
        except (requests.exceptions.InvalidHeader, UnicodeError, ValueError):
            # what no client could send
            return
        answers[response.status_code] += 1
        if response.status_code >= 400 and case.method != "HEAD":
            assert {"code", "message", "hint"} == response.json().keys()
            assert response.json()["code"] != "internal"

    options = settings(
        max_examples=wanted // (2 * len(operations)) + 1,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for operation in operations:
            for mode in GenerationMode:
                options(given(operation.as_strategy(generation_mode=mode))(junk))()
    print(f"{sum(answers.values())} requests were answered {dict(answers)}")
    assert sum(answers.values()) > 0.6 * wanted
    assert engine.process.poll() is None
    assert "Traceback" not in engine.log_text
    now = {path for path in tmp_path.rglob("*") if not path.is_relative_to(engine.folder)}
    assert now <= outside
    assert engine.job(kept.job)["state"] == "done"
    for job in engine.request("GET", "/v1/jobs?limit=1000").json():
        if job["state"] in ("queued", "running"):
            engine.request("DELETE", f"/v1/jobs/{job['id']}")
    assert engine.client().segment(scan, "bright", device="cpu").wait(120)
