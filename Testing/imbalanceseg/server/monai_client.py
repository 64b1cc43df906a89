"""MONAI Label's own client, and what tests with it share."""

from __future__ import annotations

import importlib
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from imbalanceseg.geometry import Grid, image_from_array

from .conftest import Engine

PACKAGES = ["monailabel==0.8.5", 'legacy-cgi; python_version >= "3.13"']
Client = Any


@pytest.fixture(scope="module")
def monailabel(pytestconfig: pytest.Config) -> Any:
    """The module ``monailabel.client``, without all that its server needs."""
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("monailabel") / "0.8.5"
    if not folder.is_dir():
        _install(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        return importlib.import_module("monailabel.client.client")


def _install(folder: Path) -> None:
    """Whole or not at all: others may do the same at the same time."""
    made = folder.with_name(secrets.token_hex(8))
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target"]
    try:
        subprocess.run(
            [*command, str(made), *PACKAGES], capture_output=True, timeout=200, check=True
        )
        made.rename(folder)
    except subprocess.SubprocessError as error:
        pytest.skip(f"The package monailabel cannot be had ({type(error).__name__}).")
    except OSError:
        assert folder.is_dir()
    finally:
        shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def monai(engine: Engine, monailabel: Any, tmp_path: Path) -> Client:
    """A client that has logged in."""
    return logged_in(engine, monailabel, tmp_path)


def logged_in(engine: Engine, monailabel: Any, folder: Path) -> Client:
    client = monailabel.MONAILabelClient(engine.url, str(folder), client_id="Jane Roe")
    assert client.auth_enabled()
    client.update_auth(client.auth_token("anybody", engine.token))
    assert client.auth_valid_token()
    return client


def written(image: sitk.Image, path: Path) -> str:
    sitk.WriteImage(image, str(path), True)
    return str(path)


def painted(scan: sitk.Image, value: int = 1, slices: slice = slice(9, 15)) -> sitk.Image:
    """The ball in some slices, as a client would save it."""
    found = sitk.GetArrayFromImage(scan) > 200
    labels = np.zeros(found.shape, np.int16)
    labels[slices][found[slices]] = value
    return image_from_array(labels, Grid.of(scan))


def same(one: sitk.Image, other: sitk.Image) -> bool:
    values = (sitk.GetArrayFromImage(image) for image in (one, other))
    return Grid.of(one).same_as(Grid.of(other)) and np.array_equal(*values)


def refusal_of(ask: Callable[[], Any]) -> str:
    """What the client is told when it asks for something that is refused."""
    with pytest.raises(Exception) as no:  # noqa: PT011
        ask()
    assert type(no.value).__name__ == "MONAILabelClientException"
    assert isinstance(no.value.msg, str)
    return no.value.msg


def refused(engine: Engine, method: str, path: str, **options: Any) -> tuple[int, str]:
    response = engine.request(method, path, **options)
    assert {"code", "message", "hint"} == response.json().keys(), response.text
    return response.status_code, response.json()["code"]
