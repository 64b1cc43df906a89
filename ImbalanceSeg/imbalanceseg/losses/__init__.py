"""Segmentation losses on logits. torch is imported by the first loss that is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME_OF = {
    "GeneralUnionLoss": "imbalanceseg.losses.general_union",
    "GroupSupervision": "imbalanceseg.losses.group_supervision",
    "centerline_distance_weight": "imbalanceseg.losses.weights",
    "create_loss": "imbalanceseg.losses.factory",
    "general_union_loss": "imbalanceseg.losses.general_union",
    "local_imbalance_weight": "imbalanceseg.losses.weights",
    "loss_names": "imbalanceseg.losses.factory",
}

__all__ = [
    "GeneralUnionLoss",
    "GroupSupervision",
    "centerline_distance_weight",
    "create_loss",
    "general_union_loss",
    "local_imbalance_weight",
    "loss_names",
]

if TYPE_CHECKING:
    from imbalanceseg.losses.factory import create_loss, loss_names
    from imbalanceseg.losses.general_union import GeneralUnionLoss, general_union_loss
    from imbalanceseg.losses.group_supervision import GroupSupervision
    from imbalanceseg.losses.weights import centerline_distance_weight, local_imbalance_weight


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
