"""What every reader of images needs: silence, a memory limit, and text safe to show."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import SimpleITK as sitk

from imbalanceseg.errors import InputError

_MEMORY_SHARE = 0.9


@contextmanager
def quiet_readers() -> Iterator[None]:
    """Keep the warnings of ITK, GDCM and pydicom off the terminal inside the block."""
    display = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(display)


def require_memory(
    needed_bytes: int,
    name: str,
    hint: str = "Crop or resample the image, or use a machine with more memory.",
) -> None:
    """Refuse voxels that would not fit into the memory that is free.

    Args:
        needed_bytes: size of the voxels once they are there.
        name: what they are, for the message.
        hint: what to do.

    Raises:
        InputError: ``image-too-large``.
    """
    available = _available_bytes()
    if available is None or needed_bytes <= _MEMORY_SHARE * available:
        return
    raise InputError(
        "image-too-large",
        f"{name} needs {needed_bytes / 2**30:.1f} GiB of memory, "
        f"of which {available / 2**30:.1f} GiB are free.",
        hint,
    )


def printable(text: object, limit: int = 60) -> str:
    """``text`` on one line, without control characters, at most ``limit`` characters long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _available_bytes() -> int | None:
    try:
        import psutil
    except ImportError:
        return None
    return int(psutil.virtual_memory().available)
