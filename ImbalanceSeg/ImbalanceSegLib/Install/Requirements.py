"""Which Python packages the engine needs, and which of Slicer's own must stay as they are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ImbalanceSegLib.Install.Requirement import Requirement, parsed

REQUIREMENTS_FILE = Path(__file__).parents[2] / "Resources" / "requirements.txt"
TORCH = "torch"

_TORCH_VERSIONS = ">=2.8"
_TORCH_MEGABYTES, _TORCH_MEGABYTES_WITH_CUDA = 200, 2800
_MEGABYTES = {
    "connected-components-3d": 5,
    "edt": 4,
    "highdicom": 8,
    "matplotlib": 20,
    "monai": 3,
    "openvino": 50,
    "pydantic": 3,
    "pydicom": 3,
    "scikit-image": 25,
}

# Slicer was built with them, or its own modules use them: another version breaks it.
_NEVER_REPLACED = ("SimpleITK", "numpy", "requests", "scipy", "torch", "torchvision", "vtk")
# Replaced only where the engine cannot do with the version that is there.
_REPLACED_AT_NEED = (
    "Pillow",
    "certifi",
    "charset-normalizer",
    "dicomweb-client",
    "idna",
    "packaging",
    "pip",
    "pydicom",
    "setuptools",
    "urllib3",
)
_WITHOUT_METADATA = ("vtk",)


def requirementsOfEngine() -> list[Requirement]:
    """All that apply to this computer, torch first."""
    found = [Requirement(TORCH, _TORCH_VERSIONS, _torchMegabytes())]
    for line in REQUIREMENTS_FILE.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        one = parsed(text)
        if one.marker is None or one.marker.evaluate():
            found.append(Requirement(one.name, str(one.specifier), _MEGABYTES.get(one.name, 1)))
    return found


def constraintLines(requirements: Iterable[Requirement]) -> list[str]:
    """Lines of a constraints file that keep pip from replacing what Slicer is built on.

    Args:
        requirements: of the engine. What is installed in a version that will not do is left free,
            unless Slicer would break with another one.
    """
    unmet = {one.name.lower() for one in requirements if not one.isInstalled}
    lines = []
    for name in (*_NEVER_REPLACED, *_REPLACED_AT_NEED):
        version = Requirement(name, "").installedVersion
        if version and (name in _NEVER_REPLACED or name.lower() not in unmet):
            lines.append(f"{name}=={version}")
        elif not version and name in _WITHOUT_METADATA:
            # It is there, though pip knows nothing of it and would put another one beside it.
            lines.append(f"{name}<0")
    return lines


def writeLists(folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write what another computer needs to know that fetches the packages for this one.

    Args:
        folder: existing; ``requirements.txt`` and ``constraints.txt`` in it are replaced.

    Returns:
        Both files.
    """
    requirements = requirementsOfEngine()
    wanted, kept = Path(folder) / "requirements.txt", Path(folder) / "constraints.txt"
    wanted.write_text("".join(f"{one.text}\n" for one in requirements), encoding="utf-8")
    lines = constraintLines(requirements)
    kept.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return wanted, kept


def _torchMegabytes() -> int:
    hasGpu = bool(shutil.which("nvidia-smi")) or Path("/proc/driver/nvidia/version").exists()
    return _TORCH_MEGABYTES_WITH_CUDA if hasGpu else _TORCH_MEGABYTES
