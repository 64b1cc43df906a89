"""Versions of everything that has a part in a result."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import slicer
from slicer.i18n import tr as _

import imbalanceseg
from ImbalanceSegLib.Install.Requirement import Requirement

_PACKAGES = ("torch", "monai", "openvino", "numpy", "SimpleITK", "highdicom", "pydicom")


class PackageInformation:
    """Versions of Slicer, the module, the engine and what they are built on.

    Args:
        info: what the engine has said of itself; None before it was asked.
    """

    def __init__(self, info: Mapping[str, Any] | None = None) -> None:
        self._info = info

    @property
    def lines(self) -> list[str]:
        """One for each thing: a name, a colon, and its version or state."""
        return [f"{name}: {value}" for name, value in {**self._here(), **self._engine()}.items()]

    @property
    def text(self) -> str:
        """All lines, to be shown or sent with a report of a problem."""
        return "\n".join(self.lines)

    def _here(self) -> dict[str, str]:
        application = getattr(slicer, "app", None)
        versions = {
            "Slicer": getattr(application, "applicationVersion", "") or _("unknown"),
            "Python": platform.python_version(),
            _("System"): platform.platform(terse=True),
            _("ImbalanceSeg module"): imbalanceseg.__version__,
        }
        missing = _("not installed")
        return versions | {
            name: Requirement(name, "").installedVersion or missing for name in _PACKAGES
        }

    def _engine(self) -> dict[str, str]:
        if self._info is None:
            return {_("Engine"): _("not asked yet")}
        device = self._info.get("device") or {}
        versions = self._info.get("versions") or {}
        told = {_("Engine"): str(self._info.get("version", _("unknown")))}
        if torch := device.get("torch") or versions.get("torch"):
            told[_("torch of the engine")] = str(torch)
        if monai := versions.get("monai") or versions.get("MONAI"):
            told[_("MONAI of the engine")] = str(monai)
        told[_("Engine computes on")] = _deviceText(device)
        return told


def _deviceText(device: Mapping[str, Any]) -> str:
    """In words, with the memory of a card in GiB."""
    if not device:
        return _("not known before the first job")
    if device.get("gpu"):
        return _("{gpu}, CUDA, {free} of {total} GiB free").format(
            gpu=device["gpu"],
            free=device.get("gpu_memory_free_gib", "?"),
            total=device.get("gpu_memory_gib", "?"),
        )
    return _("processor, {threads} threads").format(threads=device.get("threads", "?"))
