"""Whether this computer can do the work: packages, device, memory, disk, models."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import imbalanceseg
from imbalanceseg.errors import ImbalanceSegError
from imbalanceseg.reporting.environment import free_disk_gib, free_memory_gib, installed_version

NEEDED_PACKAGES = (
    "torch",
    "monai",
    "SimpleITK",
    "highdicom",
    "pydicom",
    "numpy",
    "scipy",
    "scikit-image",
    "connected-components-3d",
    "edt",
    "matplotlib",
    "safetensors",
    "pydantic",
    "PyYAML",
    "platformdirs",
    "psutil",
    "rich",
    "typer",
)
_REINSTALL = "pip install --force-reinstall --no-deps imbalanceseg"
_LEAST_MEMORY_GIB, _LEAST_DISK_GIB = 4.0, 1.0


class State(StrEnum):
    """What a check found."""

    OK = "ok"
    WARNING = "warning"
    MISSING = "missing"


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Attributes:
        name: what was looked at.
        value: what was found.
        state: whether that is good, doubtful, or keeps the software from working.
        fix: the command or step that helps; empty when nothing is wrong.
    """

    name: str
    value: str
    state: State = State.OK
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """The check as JSON holds it."""
        return asdict(self)


def run_checks(folder: Path = Path(".")) -> list[Check]:
    """Look at everything; a check that fails itself is a finding, not an error.

    Args:
        folder: a folder on the disk that will take the results.
    """
    checks = [
        Check("ImbalanceSeg", imbalanceseg.__version__),
        Check("Python", platform.python_version()),
    ]
    parts: tuple[tuple[str, Callable[[], Iterator[Check]]], ...] = (
        ("packages", _packages),
        ("torch", _torch_checks),
        ("memory and disk", lambda: _resources(folder)),
        ("models", _models),
    )
    for name, run in parts:
        checks += _guarded(name, run)
    return checks


def _guarded(name: str, run: Callable[[], Iterator[Check]]) -> list[Check]:
    found: list[Check] = []
    try:
        for check in run():
            found.append(check)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        found.append(Check(name, reason, State.MISSING, _REINSTALL))
    return found


def _packages() -> Iterator[Check]:
    for name in NEEDED_PACKAGES:
        version = installed_version(name)
        if version is None:
            yield Check(name, "not installed", State.MISSING, f"pip install {name}")
        else:
            yield Check(name, version)
    version = installed_version("openvino")
    if version is None:
        yield Check("openvino", "not installed: networks run slower on the processor")
    else:
        yield Check("openvino", version)


def _torch_checks() -> Iterator[Check]:
    if installed_version("torch") is None:
        return
    try:
        import torch
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        fix = "pip install --force-reinstall torch"
        yield Check("torch import", reason, State.MISSING, fix)
        return
    yield _cpu(torch)
    yield from _cuda(torch)


def _cpu(torch: Any) -> Check:
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    bf16 = "bf16" if supported is not None and supported() else "no bf16"
    return Check("CPU", f"{os.cpu_count()} cores, {torch.get_num_threads()} used by torch, {bf16}")


def _cuda(torch: Any) -> Iterator[Check]:
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield _cuda_device(torch, index)
    elif shutil.which("nvidia-smi") is None:
        yield Check("CUDA", "no NVIDIA GPU found, the CPU is used")
    elif torch.version.cuda is None:
        fix = (
            "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu128"
        )
        yield Check("CUDA", "this torch is built for the CPU only", State.WARNING, fix)
    else:
        fix = f"Update the NVIDIA driver to one that supports CUDA {torch.version.cuda}."
        yield Check("CUDA", "torch cannot reach the GPU", State.WARNING, fix)


def _cuda_device(torch: Any, index: int) -> Check:
    properties = torch.cuda.get_device_properties(index)
    capability = (properties.major, properties.minor)
    memory = properties.total_memory / 1024**3
    name = f"cuda:{index}"
    value = (
        f"{properties.name}, {memory:.0f} GiB, compute capability {capability[0]}.{capability[1]}"
    )
    fix = "Install the torch build for this GPU: https://pytorch.org/get-started/locally"
    if not runs_on(capability, torch.cuda.get_arch_list()):
        return Check(name, f"{value}, not supported by this torch", State.WARNING, fix)
    try:
        _small_convolution(torch, name)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return Check(name, f"{value}, test failed: {reason}", State.WARNING, fix)
    return Check(name, f"{value}, test passed")


def _small_convolution(torch: Any, device: str) -> None:
    """A 3D convolution whose exact result is known; raises when it comes out otherwise."""
    image = torch.ones((1, 1, 8, 8, 8), device=device)
    kernel = torch.ones((1, 1, 3, 3, 3), device=device)
    total = float(torch.nn.functional.conv3d(image, kernel).sum())
    if total != 27.0 * 6**3:
        raise RuntimeError(f"a convolution gave {total} instead of {27.0 * 6**3}")


def runs_on(capability: tuple[int, int], architectures: list[str]) -> bool:
    """Whether code for ``architectures`` runs on a GPU of this compute capability.

    Binaries (``sm_XY``) run within a major version from their minor version on; PTX
    (``compute_XY``) is compiled for any later GPU. Source: CUDA C++ Programming Guide, section on
    compute capabilities and application compatibility.
    """
    for architecture in architectures:
        kind, _, digits = architecture.partition("_")
        number = "".join(c for c in digits if c.isdigit())
        if not number:
            continue
        built_for = (int(number[:-1] or 0), int(number[-1]))
        if kind == "compute" and built_for <= capability:
            return True
        if kind == "sm" and built_for[0] == capability[0] and built_for[1] <= capability[1]:
            return True
    return False


def _resources(folder: Path) -> Iterator[Check]:
    memory = free_memory_gib()
    enough = memory >= _LEAST_MEMORY_GIB
    yield Check(
        "free memory",
        f"{memory:.1f} GiB",
        State.OK if enough else State.WARNING,
        "" if enough else f"Close programs: a chest CT needs about {_LEAST_MEMORY_GIB:.0f} GiB.",
    )
    disk = free_disk_gib(folder)
    enough = disk >= _LEAST_DISK_GIB
    yield Check(
        "free disk",
        f"{disk:.1f} GiB",
        State.OK if enough else State.WARNING,
        "" if enough else "Free some disk space.",
    )


def _models() -> Iterator[Check]:
    from imbalanceseg.models.bundle import list_models, load_model

    names = list_models()
    if not names:
        yield Check("models", "none installed", State.MISSING, _REINSTALL)
    for name in names:
        try:
            model = load_model(name)
            model.verify()
        except ImbalanceSegError as error:
            yield Check(f"model {name}", error.message, State.MISSING, _REINSTALL)
        else:
            yield Check(f"model {name}", f"{model.version}, checksum ok")
