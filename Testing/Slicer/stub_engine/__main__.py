"""An engine that thresholds: the same protocol as ``imbalanceseg serve``, no network, no model.

    python Testing/Slicer/stub_engine serve --port 0 --data DIR

Needs numpy and SimpleITK only, so that Slicer's own Python runs it as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import tempfile
import threading
import time
from pathlib import Path

from http_face import make_server
from job_book import JobBook

_SECONDS_OF_WATCH = 0.5


def main() -> None:
    arguments = _parsed()
    folder = arguments.data or Path(tempfile.mkdtemp(prefix="stub-engine-"))
    folder.mkdir(parents=True, exist_ok=True)
    token_file = arguments.token_file or folder / "token"
    if not token_file.exists():
        token_file.write_text(secrets.token_urlsafe(32) + "\n", encoding="ascii")
    token = token_file.read_text(encoding="ascii").strip()
    server = make_server(
        arguments.host, arguments.port, token, JobBook(folder, arguments.models_folder)
    )
    if arguments.parent_pid is not None and os.name == "posix":
        threading.Thread(target=_end_with, args=(arguments.parent_pid,), daemon=True).start()
    listening = {
        "event": "listening",
        "url": f"http://{arguments.host}:{server.server_address[1]}",
        "token_file": str(token_file.absolute()),
        "protocol": 1,
        "version": "0.0.0",
        "pid": os.getpid(),
    }
    print(json.dumps(listening), flush=True)
    server.serve_forever()


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8650)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--token-file", type=Path)
    parser.add_argument("--parent-pid", type=int)
    parser.add_argument("--models-folder", action="append", type=Path, default=[])
    # Of the rest an engine that computes would take notice.
    return parser.parse_known_args()[0]


def _end_with(parent: int) -> None:
    while True:
        time.sleep(_SECONDS_OF_WATCH)
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os._exit(0)


if __name__ == "__main__":
    main()
