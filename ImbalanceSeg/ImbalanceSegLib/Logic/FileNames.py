"""Names of files that the module writes."""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path

_NOT_IN_NAMES = re.compile(r'[<>:"/\\|?*\x00-\x1f]+')
_LONGEST = 80


def fileNameOf(name: str, suffix: str) -> str:
    """A name that every file system takes.

    Args:
        name: what the file is about.
        suffix: such as ``".seg.nrrd"``.
    """
    stem = _NOT_IN_NAMES.sub("_", name).strip(" .")[:_LONGEST].strip(" .")
    return (stem or "segmentation") + suffix


def unusedPath(path: Path, suffix: str) -> Path:
    """The path itself, or with a number before the suffix where a file is there already.

    Args:
        path: ends in ``suffix``, or gets it.
        suffix: such as ``".seg.nrrd"``.
    """
    stem = path.name
    if stem.lower().endswith(suffix):
        stem = stem[: -len(suffix)]
    candidates = (f"{stem}{'' if n == 1 else f' {n}'}{suffix}" for n in count(1))
    return next(found for name in candidates if not (found := path.with_name(name)).exists())
