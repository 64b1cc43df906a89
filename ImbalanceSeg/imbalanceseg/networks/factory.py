"""Networks by name: the only place from which a model bundle can choose its architecture."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from imbalanceseg.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

_HOME_OF = {
    "adapted": ("imbalanceseg.networks.adapted", "AdaptedNetwork"),
    "coarser": ("imbalanceseg.networks.coarser", "CoarserNetwork"),
    "nnunet": ("imbalanceseg.networks.nnunet", "NnUNet"),
    "ternausnet": ("imbalanceseg.networks.ternausnet", "TernausNet"),
    "two_pathway": ("imbalanceseg.networks.two_pathway", "TwoPathwayUNet"),
    "unet2d": ("imbalanceseg.networks.unet2d", "UNet2d"),
    "unet2d5": ("imbalanceseg.networks.unet2d5", "UNet2d5"),
    "unet3d": ("imbalanceseg.networks.unet3d", "UNet3d"),
    "vnet": ("imbalanceseg.networks.vnet", "VNet"),
    "wingsnet": ("imbalanceseg.networks.wingsnet", "WingsNet"),
}


def network_names() -> list[str]:
    """Names that :func:`create_network` knows, sorted."""
    return sorted(_HOME_OF)


def network_class(name: str) -> type[nn.Module]:
    """The class behind a network's name.

    Raises:
        ModelError: ``network-unknown``.
    """
    if name not in _HOME_OF:
        raise ModelError(
            "network-unknown",
            f"There is no network named {name!r}.",
            f"Known networks: {', '.join(network_names())}.",
        )
    module, attribute = _HOME_OF[name]
    cls: type[nn.Module] = getattr(import_module(module), attribute)
    return cls


def create_network(name: str, **kwargs: Any) -> nn.Module:
    """A new network with random weights.

    Args:
        name: one of :func:`network_names`.
        kwargs: arguments of the network's class.

    Raises:
        ModelError: ``network-unknown``, or ``network-arguments`` when an argument does not exist.
    """
    cls = network_class(name)
    try:
        inspect.signature(cls).bind(**kwargs)
    except TypeError as error:
        raise ModelError(
            "network-arguments",
            f"The network {name!r} cannot be built: {error}.",
            f"Its arguments are {', '.join(inspect.signature(cls).parameters)}.",
        ) from error
    return cls(**kwargs)
