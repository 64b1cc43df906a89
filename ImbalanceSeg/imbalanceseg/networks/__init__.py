"""Segmentation networks. torch is imported by the first network that is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME_OF = {
    "NnUNet": "imbalanceseg.networks.nnunet",
    "TernausNet": "imbalanceseg.networks.ternausnet",
    "TwoPathwayUNet": "imbalanceseg.networks.two_pathway",
    "UNet2d": "imbalanceseg.networks.unet2d",
    "UNet2d5": "imbalanceseg.networks.unet2d5",
    "UNet2d5Output": "imbalanceseg.networks.unet2d5",
    "UNet3d": "imbalanceseg.networks.unet3d",
    "VNet": "imbalanceseg.networks.vnet",
    "WingsNet": "imbalanceseg.networks.wingsnet",
    "WingsNetOutput": "imbalanceseg.networks.wingsnet",
    "create_network": "imbalanceseg.networks.factory",
    "network_class": "imbalanceseg.networks.factory",
    "network_names": "imbalanceseg.networks.factory",
}

__all__ = [
    "NnUNet",
    "TernausNet",
    "TwoPathwayUNet",
    "UNet2d",
    "UNet2d5",
    "UNet2d5Output",
    "UNet3d",
    "VNet",
    "WingsNet",
    "WingsNetOutput",
    "create_network",
    "network_class",
    "network_names",
]

if TYPE_CHECKING:
    from imbalanceseg.networks.factory import create_network, network_class, network_names
    from imbalanceseg.networks.nnunet import NnUNet
    from imbalanceseg.networks.ternausnet import TernausNet
    from imbalanceseg.networks.two_pathway import TwoPathwayUNet
    from imbalanceseg.networks.unet2d import UNet2d
    from imbalanceseg.networks.unet2d5 import UNet2d5, UNet2d5Output
    from imbalanceseg.networks.unet3d import UNet3d
    from imbalanceseg.networks.vnet import VNet
    from imbalanceseg.networks.wingsnet import WingsNet, WingsNetOutput


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
