"""Segmentation networks. torch is imported by the first network that is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME_OF = {
    "WingsNet": "imbalanceseg.networks.wingsnet",
    "WingsNetOutput": "imbalanceseg.networks.wingsnet",
    "create_network": "imbalanceseg.networks.factory",
    "network_class": "imbalanceseg.networks.factory",
    "network_names": "imbalanceseg.networks.factory",
}

__all__ = [
    "WingsNet",
    "WingsNetOutput",
    "create_network",
    "network_class",
    "network_names",
]

if TYPE_CHECKING:
    from imbalanceseg.networks.factory import create_network, network_class, network_names
    from imbalanceseg.networks.wingsnet import WingsNet, WingsNetOutput


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
