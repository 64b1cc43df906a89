"""A model bundle as one file to take along, made while it is sent."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from imbalanceseg.errors import ModelError
from imbalanceseg.server.limits import GIB

_PIECE = 1 << 20


def files_of(folder: Path, most_bytes: int) -> list[Path]:
    """The regular files of a bundle, links left out.

    Args:
        folder: the bundle.
        most_bytes: that all of them may have.

    Raises:
        ModelError: ``model-too-large``.
    """
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    size = sum(path.stat().st_size for path in found)
    if size > most_bytes:
        raise ModelError(
            "model-too-large",
            f"The model has {size / GIB:.2f} GiB; {most_bytes / GIB:.2f} GiB are handed out.",
            "Copy its folder from the computer of the engine.",
        )
    return found


def zipped(folder: Path, files: list[Path]) -> Iterator[bytes]:
    """A zip of files, named as they lie in a folder, in pieces of about a megabyte."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in files:
            # A date before 1980 would be refused.
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())
            entry.compress_type = zipfile.ZIP_DEFLATED
            with path.open("rb") as stream, archive.open(entry, "w", force_zip64=True) as target:
                while piece := stream.read(_PIECE):
                    target.write(piece)
                    if sink.size >= _PIECE:
                        yield sink.taken()
    yield sink.taken()


class _Sink(io.RawIOBase):
    """What a zip is written to: keeps what came until it is taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._pieces.append(piece)
        self.size += len(piece)
        return len(piece)

    def taken(self) -> bytes:
        """Everything since the last time."""
        taken = b"".join(self._pieces)
        self._pieces, self.size = [], 0
        return taken
