"""``imbalanceseg serve``: the engine as a server, for 3D Slicer here or elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from imbalanceseg.errors import DependencyError, InputError, OutputError

_SHORTEST_TOKEN = 16
_GIB = 2**30


def serve(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; others need TLS.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8650,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keeps cases, annotations, models and results."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Holds the token; made, for you only, when missing."),
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option("--model", "-m", metavar="DIR", help="A further model to offer; repeat it."),
    ] = None,
    models_folder: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Offer every model in it, by its folder; repeat it."),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="PEM", help="Certificate.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="PEM", help="Its key.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen elsewhere without TLS: anyone can read on.")
    ] = False,
    disk_gb: Annotated[
        float, typer.Option(min=0.001, metavar="GB", help="For everything that is kept.")
    ] = 50.0,
    upload_gb: Annotated[
        float, typer.Option(min=0.001, metavar="GB", help="Of one upload, as it is sent.")
    ] = 4.0,
    volume_gb: Annotated[
        float, typer.Option(min=0.001, metavar="GB", help="Of one image, decompressed.")
    ] = 8.0,
    queue: Annotated[int, typer.Option(min=1, metavar="N", help="Jobs that may wait.")] = 256,
    spare_folders: Annotated[
        int,
        typer.Option(
            min=0, max=9, metavar="N", help="Take DIR-2, DIR-3, ... where a server uses DIR."
        ),
    ] = 0,
    idle_exit: Annotated[
        float | None,
        typer.Option(min=1, metavar="SECONDS", help="End when nobody asks for so long."),
    ] = None,
    parent_pid: Annotated[
        int | None, typer.Option(min=1, metavar="PID", help="End with this process.")
    ] = None,
) -> None:
    """Serve the engine over HTTP, on this computer only unless told otherwise.

    Prints one line of JSON when it listens, with the URL and the file of the token. Ends with
    Ctrl-C: the running job is interrupted, and jobs that wait go on when it is started again.
    """
    try:
        from imbalanceseg.server.limits import Limits
        from imbalanceseg.server.run import Place, run_server
        from imbalanceseg.server.service import PROTOCOL, ServiceSettings
    except ImportError as error:
        raise DependencyError(
            "server-not-installed",
            f"The Python package {error.name} is not installed.",
            'Install the server with: pip install "imbalanceseg[server]"',
        ) from error
    _require_safe(host, tls_cert, tls_key, insecure)
    _log_to_stderr()
    limits = Limits(
        upload_bytes=int(upload_gb * _GIB),
        volume_bytes=int(volume_gb * _GIB),
        queued_jobs=queue,
        disk_bytes=int(disk_gb * _GIB),
    )
    models, models_folders = tuple(model or ()), tuple(models_folder or ())
    place = Place(host, port, tls_cert, tls_key, idle_exit, parent_pid)

    def run_in(folder: Path) -> None:
        path = (token_file or folder / "token").absolute()
        settings = ServiceSettings(folder, models, models_folders, limits)
        run_server(settings, _token(path), place, lambda url: _say_listening(url, path, PROTOCOL))

    in_first_free(data or _default_folder(), spare_folders, run_in)


def in_first_free(folder: Path, spare: int, run: Callable[[Path], None]) -> None:
    """Run something in a folder or, while other servers use it, in ``FOLDER-2`` and so on.

    Args:
        folder: to try first.
        spare: how many more to try.
        run: raises ``data-folder-in-use`` where it cannot have the folder.

    Raises:
        ImbalanceSegError: of ``run``; ``data-folder-in-use`` where none is free.
    """
    for number in range(1, spare + 1):
        try:
            return run(_numbered(folder, number))
        except OutputError as error:
            if error.code != "data-folder-in-use":
                raise
    return run(_numbered(folder, spare + 1))


def _numbered(folder: Path, number: int) -> Path:
    return folder if number == 1 else folder.with_name(f"{folder.name}-{number}")


def _say_listening(url: str, token_path: Path, protocol: int) -> None:
    import imbalanceseg
    from imbalanceseg.cli.console import print_json

    print_json(
        {
            "event": "listening",
            "url": url,
            "token_file": str(token_path),
            "protocol": protocol,
            "version": imbalanceseg.__version__,
            "pid": os.getpid(),
        }
    )


def _require_safe(host: str, cert: Path | None, key: Path | None, insecure: bool) -> None:
    if (cert is None) != (key is None):
        raise InputError(
            "tls-incomplete",
            "TLS needs a certificate and its key, and one of them is missing.",
            "Give both --tls-cert and --tls-key.",
        )
    for file in (cert, key):
        if file is not None and not file.is_file():
            raise InputError("path-not-found", f"There is no file {file}.", "Check the path.")
    if host in ("127.0.0.1", "::1", "localhost") or cert is not None or insecure:
        return
    raise InputError(
        "tls-needed",
        f"On {host} other computers can listen in, and patients' images would travel unencrypted.",
        "Give --tls-cert and --tls-key, or --insecure where the network itself is protected.",
    )


def _token(path: Path) -> str:
    """The token in a file that only its owner can read."""
    import secrets

    try:
        if path.exists():
            token = path.read_text(encoding="ascii").strip()
            if os.name == "posix" and path.stat().st_mode & 0o077:
                raise InputError(
                    "token-readable",
                    f"Others can read the token in {path}.",
                    f"Run: chmod 600 {path}",
                )
        else:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            token = secrets.token_urlsafe(32)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as stream:
                stream.write(token + "\n")
    except (OSError, UnicodeError) as error:
        raise OutputError(
            "token-file",
            f"The token cannot be kept in {path} ({type(error).__name__}).",
            "Choose another file with --token-file.",
        ) from error
    if len(token) < _SHORTEST_TOKEN or not token.isprintable() or " " in token:
        raise InputError(
            "token-weak",
            f"The token in {path} has fewer than {_SHORTEST_TOKEN} characters, or strange ones.",
            "Remove the file, and a good token is made.",
        )
    return token


def _default_folder() -> Path:
    import platformdirs

    return Path(platformdirs.user_data_path("imbalanceseg", appauthor=False)) / "server"


def _log_to_stderr() -> None:
    import logging

    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(message)s",
        force=True,
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
