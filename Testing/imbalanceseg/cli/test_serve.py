"""``imbalanceseg serve``: what it refuses before it listens, and how it tells that it does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from imbalanceseg.cli.serve import in_first_free
from imbalanceseg.errors import OutputError

from .conftest import command

Run = Callable[..., subprocess.CompletedProcess[str]]


def refused(done: subprocess.CompletedProcess[str], code: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error[{code}]: ")
    assert "\nhint: " in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
def test_other_computers_need_tls(run_cli: Run, tmp_path: Path, host: str) -> None:
    refused(run_cli("serve", "--host", host, "--data", tmp_path), "tls-needed")
    assert not list(tmp_path.iterdir())


def test_tls_needs_both_files(run_cli: Run, tmp_path: Path) -> None:
    refused(run_cli("serve", "--tls-cert", tmp_path / "cert.pem"), "tls-incomplete")
    both = ("--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem")
    refused(run_cli("serve", *both), "path-not-found")


def test_a_weak_or_open_token_is_refused(run_cli: Run, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    token.chmod(0o600)
    refused(run_cli("serve", "--data", tmp_path, "--token-file", token), "token-weak")
    token.write_text("0123456789abcdef0123\n")
    token.chmod(0o644)
    refused(run_cli("serve", "--data", tmp_path, "--token-file", token), "token-readable")


def test_a_port_that_is_taken_is_said_so(run_cli: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(run_cli("serve", "--port", port, "--data", tmp_path), "address-not-usable")


def test_a_model_that_is_none_is_refused(run_cli: Run, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    refused(
        run_cli("serve", "--port", 0, "--data", tmp_path / "data", "--model", tmp_path / "model"),
        "model-invalid",
    )


def test_the_first_folder_that_is_free_is_taken(tmp_path: Path) -> None:
    used = {tmp_path / "data", tmp_path / "data-2", tmp_path / "data-3"}
    tried: list[Path] = []

    def run(folder: Path) -> None:
        tried.append(folder)
        if folder in used:
            raise OutputError("data-folder-in-use", "Another server uses it.")

    in_first_free(tmp_path / "data", 3, run)
    assert [path.name for path in tried] == ["data", "data-2", "data-3", "data-4"]
    with pytest.raises(OutputError):
        in_first_free(tmp_path / "data", 2, run)

    def broken(folder: Path) -> None:
        tried.append(folder)
        raise OutputError("data-folder", "It cannot be written.")

    tried.clear()
    with pytest.raises(OutputError):
        in_first_free(tmp_path / "data", 3, broken)
    assert len(tried) == 1


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate")
def test_with_tls_it_serves_others(tmp_path: Path, process_environment: dict[str, str]) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-keyout", key, "-out", cert, "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    child = subprocess.Popen(
        [
            *(*command(), "serve", "--host", "0.0.0.0", "--port", "0", "--data", tmp_path / "data"),
            *("--tls-cert", cert, "--tls-key", key, "--parent-pid", str(os.getpid())),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=process_environment,
    )
    try:
        assert child.stdout is not None
        told = json.loads(child.stdout.readline())
        assert told["event"] == "listening"
        assert told["url"].startswith("https://0.0.0.0:")
        token = Path(told["token_file"]).read_text().strip()
        url = f"https://localhost:{told['url'].rpartition(':')[2]}/v1/info"
        headers = {"Authorization": f"Bearer {token}"}
        answer = requests.get(url, headers=headers, verify=str(cert), timeout=10)
        assert answer.json()["protocol"] == told["protocol"]
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(url, headers=headers, timeout=10)
        child.send_signal(signal.SIGTERM)
        assert child.wait(15) == 0
        assert child.stdout.read() == ""
    finally:
        child.kill()
