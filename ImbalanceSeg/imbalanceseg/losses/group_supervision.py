"""Group supervision: one loss on each of WingsNet's two heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from imbalanceseg.networks.wingsnet import WingsNetOutput


class GroupSupervision(nn.Module):
    """``loss(decoding) + encoding_weight * loss(encoding)``.

    Source: Zheng et al., IEEE TMI 40(9), 2021; the weight of the encoding head follows later users
    of the network (1 first, 0.5 when fine-tuning).

    Args:
        loss: module called as ``loss(logits, target, **maps)``.
        encoding_weight: weight of the encoding head; 0 leaves that head out.
    """

    def __init__(self, loss: nn.Module, encoding_weight: float = 1.0) -> None:
        super().__init__()
        self.loss = loss
        self.encoding_weight = encoding_weight

    def forward(self, output: WingsNetOutput, target: Tensor, **maps: Any) -> Tensor:
        """Scalar loss of a WingsNet output; ``maps`` (mask, weight) go to both heads."""
        total: Tensor = self.loss(output.decoding, target, **maps)
        if self.encoding_weight == 0:
            return total
        return total + self.encoding_weight * self.loss(output.encoding, target, **maps)
