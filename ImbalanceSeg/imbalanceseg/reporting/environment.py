"""This computer: versions, memory, disk."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import imbalanceseg

REPORTED_PACKAGES = ("torch", "monai", "SimpleITK", "numpy", "highdicom", "pydicom")
_MIB = 1024 * 1024


def installed_version(package: str) -> str | None:
    """The installed version of a distribution, or None; nothing is imported."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def software_versions(packages: Sequence[str] = REPORTED_PACKAGES) -> dict[str, str | None]:
    """Versions of ImbalanceSeg, Python and ``packages`` (None where not installed)."""
    versions: dict[str, str | None] = {
        "ImbalanceSeg": imbalanceseg.__version__,
        "Python": platform.python_version(),
    }
    return versions | {name: installed_version(name) for name in packages}


def peak_memory_mib() -> float | None:
    """Largest resident memory of this process so far in MiB, or None where it is not known."""
    try:
        import resource
    except ImportError:
        return _peak_memory_mib_windows()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (_MIB if sys.platform == "darwin" else 1024)


def _peak_memory_mib_windows() -> float | None:
    import psutil

    peak = getattr(psutil.Process().memory_info(), "peak_wset", None)
    return None if peak is None else peak / _MIB


def peak_device_memory_mib() -> float | None:
    """Most CUDA memory held by torch so far in MiB, or None when CUDA was not used."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return float(torch.cuda.max_memory_allocated()) / _MIB


def free_memory_gib() -> float:
    """Memory that can be taken without swapping, in GiB."""
    import psutil

    return float(psutil.virtual_memory().available) / 1024**3


def free_disk_gib(folder: Path) -> float:
    """Free space of the file system that holds ``folder``, in GiB."""
    return shutil.disk_usage(folder).free / 1024**3
