"""A model that is taken from an engine: unpacked with nothing of it trusted."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from imbalanceseg.client.http import EngineError
from imbalanceseg.errors import InputError, OutputError

MOST_BYTES = 4 * 2**30
"""Of a model, packed and unpacked."""

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
"""What unpacking raises; the last where something is encrypted, or packed in a way unknown."""

_MOST_FILES = 100
_PIECE = 1 << 20
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LONGEST_NAME = 80
_METADATA = "configs/metadata.json"
_FILE = re.compile(r"LICENSE|(configs|models|docs)/[A-Za-z0-9_]+\.(json|safetensors|md)")


def require_place(folder: Path, name: str) -> None:
    """Refuse a place for a model that is taken, or from which it could not be named.

    Raises:
        InputError: ``model-name`` or ``model-exists``.
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise InputError(
            "model-name",
            f"{name!r} cannot be the name of a model.",
            "Use small letters, digits and single hyphens between them.",
        )
    if (folder / name).exists():
        raise InputError(
            "model-exists",
            f"There is a model of the name {name} in {folder} already.",
            "Choose another name, or remove that model.",
        )


def unpack_model(archive: IO[bytes], folder: Path, name: str) -> Path:
    """Unpack a zipped bundle into a folder of its own, which appears whole or not at all.

    Args:
        archive: that an engine has sent.
        folder: where the bundle's folder goes; it must be there.
        name: of the bundle's folder.

    Returns:
        The bundle's folder.

    Raises:
        EngineError: ``model-archive``: it holds what no bundle holds, or is damaged.
        InputError: as :func:`require_place`.
        OSError: it cannot be written.
    """
    require_place(folder, name)
    partial = folder / f".{name}.{secrets.token_hex(4)}.partial"
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            _require_bundle(entries)
            for entry in entries:
                target = partial / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(entry) as source, target.open("xb") as copy:
                    shutil.copyfileobj(source, copy, _PIECE)
        partial.rename(folder / name)
    except _DAMAGED as error:
        raise _refused("it is damaged") from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(partial)
    return folder / name


def not_writable(path: Path, error: OSError) -> OutputError:
    """What is said where a model cannot be written."""
    reason = (error.strerror or type(error).__name__).lower()
    return OutputError(
        "output-not-writable",
        f"The model cannot be written to {path} ({reason}).",
        "Choose a folder in which you may write, on a disk with room.",
    )


def _require_bundle(entries: Sequence[zipfile.ZipInfo]) -> None:
    names = [entry.filename for entry in entries]
    strange = [name for name in names if not _FILE.fullmatch(name)]
    if strange or len({name.lower() for name in names}) < len(names):
        raise _refused("it holds files that no model has")
    if _METADATA not in names:
        raise _refused("it has no card")
    if len(names) > _MOST_FILES or sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise _refused("it is too large")


def _refused(why: str) -> EngineError:
    return EngineError(
        "model-archive",
        f"What the engine sent as a model cannot be kept ({why}).",
        "Try again; if it happens again, update the engine.",
    )
