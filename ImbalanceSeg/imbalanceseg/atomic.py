"""Files that appear whole or not at all."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from imbalanceseg.errors import OutputError

_HERE, _LINUX_EXCHANGE, _MACOS_SWAP = -100, 2, 2


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block ends without an error.

    The temporary name keeps every suffix, so writers that choose a format by suffix choose the
    same one. The data are forced to disk before the rename. After an error, an interruption
    included, the temporary file is gone and a file that was there before is untouched.

    Args:
        path: where the file shall appear; its folder must exist.

    Raises:
        OutputError: the folder is missing or not writable, the path is a folder, the disk is
            full, or the block wrote nothing.
    """
    target = Path(path)
    _require_writable(target)
    temporary = target.with_name(f".{secrets.token_hex(4)}-{target.name}")
    try:
        yield temporary
        _force_to_disk(temporary)
        os.replace(temporary, target)
    except OSError as error:
        raise output_error(target, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    _force_folder_to_disk(target.parent)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8, atomically.

    Raises:
        OutputError: see :func:`atomic_path`.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike[str], value: Mapping[str, Any] | list[Any]) -> None:
    """Write ``value`` as indented JSON, atomically; NaN and infinity are refused by JSON.

    Raises:
        ValueError: ``value`` holds NaN or infinity.
        OutputError: see :func:`atomic_path`.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def replace_folder(made: Path, target: Path) -> None:
    """Put a folder in the place of another, so that there is always the one or the other.

    Where the system cannot swap two folders at once, there is a moment without either; the old one
    then lies beside it, hidden.

    Args:
        made: what was written, beside ``target`` or on the same disk.
        target: where it shall lie; what was there is removed.

    Raises:
        OSError: it cannot be put there; what was there stays.
    """
    if not target.exists():
        made.rename(target)
    elif _swapped(made, target):
        shutil.rmtree(made, ignore_errors=True)
    else:
        old = made.with_name(f"{made.name}.old")
        target.rename(old)
        try:
            made.rename(target)
        except OSError:
            old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    _force_folder_to_disk(target.parent)


def _swapped(one: Path, other: Path) -> bool:
    """Exchange the names of two folders, where the system knows how to."""
    if sys.platform == "win32":
        return False
    libc = ctypes.CDLL(None)
    names = os.fsencode(one), os.fsencode(other)
    if hasattr(libc, "renameat2"):
        return bool(libc.renameat2(_HERE, names[0], _HERE, names[1], _LINUX_EXCHANGE) == 0)
    if hasattr(libc, "renamex_np"):
        return bool(libc.renamex_np(*names, _MACOS_SWAP) == 0)
    return False


def _require_writable(target: Path) -> None:
    folder = target.parent
    if not folder.is_dir():
        raise OutputError(
            "output-folder-missing",
            f"The folder {folder} does not exist, so {target.name} cannot be written there.",
            "Create the folder or choose another one.",
        )
    if target.is_dir():
        raise OutputError(
            "output-is-a-folder",
            f"{target} is a folder and cannot be replaced by a file.",
            "Give the name of a file.",
        )
    if not os.access(folder, os.W_OK):
        raise output_error(target, PermissionError(errno.EACCES, "Permission denied"))


def output_error(target: Path, error: OSError) -> OutputError:
    """What is said of a file or folder that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            "disk-full",
            f"There is no space left to write {target}.",
            "Free some space or choose another disk.",
        )
    if error.errno == errno.ENOENT:
        return OutputError(
            "output-not-written",
            f"Nothing was written for {target}.",
            "Check that the folder still exists and that another program is not removing files.",
        )
    reason = (error.strerror or type(error).__name__).lower()
    return OutputError(
        "output-not-writable",
        f"The file {target} cannot be written ({reason}).",
        "Choose a folder in which you may write.",
    )


def _force_to_disk(path: Path) -> None:
    with open(path, "rb+") as stream:
        os.fsync(stream.fileno())


def _force_folder_to_disk(folder: Path) -> None:
    # Windows cannot open a folder; some network file systems refuse to sync one.
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
