"""A network that sees a scan in larger voxels than it was trained on, because that is faster."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, interpolate

from imbalanceseg.networks.factory import create_network, network_class
from imbalanceseg.networks.features import feature_channels, features_and_logits
from imbalanceseg.networks.sizes import require_multiples


class CoarserNetwork(nn.Module):
    """A network of pooled voxels, its features and logits interpolated between them.

    Args:
        in_channels: image channels.
        out_channels: of the logits.
        base: ``{"name": ..., "kwargs": {...}}`` of the network.
        factor: by what Z, Y and X are pooled.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        base: Mapping[str, Any] | None = None,
        factor: Sequence[int] = (2, 2, 2),
    ) -> None:
        super().__init__()
        base = base or {"name": "unet3d", "kwargs": {}}
        known = inspect.signature(network_class(base["name"])).parameters
        own = {"in_channels": in_channels, "out_channels": out_channels}
        own = {name: value for name, value in own.items() if name in known}
        self.base = create_network(base["name"], **{**own, **base["kwargs"]})
        self.factor = tuple(int(f) for f in factor)
        self.feature_channels = feature_channels(self.base)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, out_channels, Z, Y, X]``."""
        return self.features_and_logits(x)[1]

    def features_and_logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of the network behind, on the voxels of ``x``.

        Raises:
            InputError: ``size-not-multiple``.
        """
        require_multiples(x, self.multiples(), normalised=False)
        features, logits = features_and_logits(self.base, avg_pool3d(x, self.factor))
        found = torch.cat([features.float(), logits.float()], dim=1)
        scale = [float(f) for f in self.factor]
        found = interpolate(found, scale_factor=scale, mode="trilinear", align_corners=False)
        return found[:, : self.feature_channels], found[:, self.feature_channels :]

    def multiples(self) -> tuple[int, ...]:
        """What the sides (Z, Y, X) of an input must be multiples of."""
        own: tuple[int, ...] = self.base.multiples()  # type: ignore[operator]
        return tuple(f * m for f, m in zip(self.factor, own, strict=True))
