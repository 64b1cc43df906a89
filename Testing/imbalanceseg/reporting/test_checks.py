"""The checks of ``imbalanceseg doctor``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from imbalanceseg.reporting import checks
from imbalanceseg.reporting.checks import NEEDED_PACKAGES, State, run_checks, runs_on

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("capability", "architectures", "expected"),
    [
        ((9, 0), ["sm_80", "sm_90"], True),
        ((8, 6), ["sm_80", "sm_90"], True),
        ((8, 0), ["sm_86"], False),
        ((12, 0), ["sm_80", "sm_90"], False),
        ((12, 0), ["sm_90", "compute_90"], True),
        ((6, 1), ["sm_75", "compute_75"], False),
        ((9, 0), ["sm_90a"], True),
        ((12, 0), ["sm_120"], True),
        ((7, 5), [], False),
    ],
)
def test_which_gpus_run_which_code(
    capability: tuple[int, int], architectures: list[str], expected: bool
) -> None:
    assert runs_on(capability, architectures) is expected


def test_every_dependency_of_the_package_is_looked_at() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [d for d in project["dependencies"] if ";" not in d]
    names = {d.split(">")[0].split("[")[0].strip() for d in needed}
    assert names == set(NEEDED_PACKAGES)


def test_a_missing_package_names_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = checks.installed_version
    monkeypatch.setattr(checks, "installed_version", lambda n: None if n == "edt" else real(n))
    (found,) = [check for check in run_checks(tmp_path) if check.name == "edt"]
    assert found.state is State.MISSING
    assert found.fix == "pip install edt"


def test_little_memory_and_disk_are_warnings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(checks, "free_memory_gib", lambda: 0.5)
    monkeypatch.setattr(checks, "free_disk_gib", lambda folder: 0.1)
    found = {check.name: check for check in run_checks(tmp_path)}
    for name in ("free memory", "free disk"):
        assert found[name].state is State.WARNING
        assert found[name].fix


def test_a_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken() -> float:
        raise RuntimeError("no such counter")

    monkeypatch.setattr(checks, "free_memory_gib", broken)
    (found,) = [check for check in run_checks(tmp_path) if check.name == "memory and disk"]
    assert found.state is State.MISSING
    assert "no such counter" in found.value


class _FakeGpu:
    """torch as far as the check of one GPU asks it; the convolution itself runs on the CPU."""

    def __init__(
        self, capability: tuple[int, int], architectures: list[str], error: str = ""
    ) -> None:
        import torch

        major, minor = capability
        properties = SimpleNamespace(
            name="GPU", major=major, minor=minor, total_memory=80 * 1024**3
        )
        self.cuda = SimpleNamespace(
            get_device_properties=lambda index: properties, get_arch_list=lambda: architectures
        )
        self.nn = torch.nn
        self._torch, self._error = torch, error

    def ones(self, shape: tuple[int, ...], device: str) -> object:
        if self._error:
            raise RuntimeError(self._error)
        return self._torch.ones(shape)


@pytest.mark.parametrize(
    ("gpu", "state", "found"),
    [
        (((9, 0), ["sm_90"]), State.OK, "compute capability 9.0, test passed"),
        (((12, 0), ["sm_90"]), State.WARNING, "not supported by this torch"),
        (((9, 0), ["sm_90"], "no kernel image\nmore"), State.WARNING, "failed: no kernel image"),
    ],
)
def test_a_gpu_is_believed_only_after_a_kernel_ran(gpu: tuple, state: State, found: str) -> None:
    check = checks._cuda_device(_FakeGpu(*gpu), 0)
    assert check.state is state
    assert check.value.endswith(found)
    assert bool(check.fix) is (state is not State.OK)
