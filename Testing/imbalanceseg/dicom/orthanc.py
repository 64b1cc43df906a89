"""Orthanc on loopback: an archive that is not ours."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAM = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
PLUGINS = "/usr/share/orthanc/plugins"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Orthanc:
    """Addresses of one that runs."""

    http_port: int
    dicom_port: int
    move_port: int

    @property
    def web(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/dicom-web"

    @property
    def dimse(self) -> str:
        return f"dicom://ORTHANC@127.0.0.1:{self.dicom_port}"

    def rest(self, path: str) -> object:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=10) as got:
            return json.load(got)

    def delete_all(self) -> None:
        for study in self.rest("/studies"):  # type: ignore[attr-defined]
            request = urllib.request.Request(
                f"http://127.0.0.1:{self.http_port}/studies/{study}", method="DELETE"
            )
            urllib.request.urlopen(request, timeout=10).close()


@contextmanager
def running_orthanc(folder: Path) -> Iterator[Orthanc]:
    """Started with an empty storage in a folder, stopped at the end."""
    assert PROGRAM
    made = Orthanc(free_port(), free_port(), free_port())
    configuration = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [PLUGINS],
        "HttpPort": made.http_port,
        "DicomPort": made.dicom_port,
        "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "DicomModalities": {"us": ["IMBALANCESEG", "127.0.0.1", made.move_port]},
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(configuration))
    log = open(folder / "orthanc.log", "wb")  # noqa: SIM115
    process = subprocess.Popen([PROGRAM, str(path)], stdout=log, stderr=log)
    try:
        _wait_for(made, process)
        yield made
    finally:
        # It would wait for lines that are kept open.
        process.kill()
        process.wait()
        log.close()


@contextmanager
def tls_door(port: int, certificate: Path) -> Iterator[int]:
    """A port that speaks TLS and passes on to another one, which does not.

    Args:
        port: on loopback.
        certificate: PEM file of certificate and key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                near, _ = listener.accept()
                near = context.wrap_socket(near, server_side=True)
            except ssl.SSLError:
                continue
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", port))
            for ends in ((near, far), (far, near)):
                threading.Thread(target=_pass_on, args=ends, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield int(listener.getsockname()[1])
    listener.close()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    finally:
        source.close()
        target.close()


def _wait_for(made: Orthanc, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None
        try:
            socket.create_connection(("127.0.0.1", made.http_port), 1).close()
            socket.create_connection(("127.0.0.1", made.dicom_port), 1).close()
        except OSError:
            time.sleep(0.1)
            continue
        return
    raise AssertionError("Orthanc does not start")
