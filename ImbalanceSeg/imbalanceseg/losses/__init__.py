"""Segmentation losses on logits. torch is imported by the first loss that is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME_OF = {
    "AttentionSupervision": "imbalanceseg.losses.attention_supervision",
    "GroupSupervision": "imbalanceseg.losses.group_supervision",
    "Loss": "imbalanceseg.losses.loss",
    "binary_cross_entropy_loss": "imbalanceseg.losses.cross_entropy",
    "blob_loss": "imbalanceseg.losses.blob",
    "border_weight": "imbalanceseg.losses.weights",
    "boundary_loss": "imbalanceseg.losses.distances",
    "boundary_schedule": "imbalanceseg.losses.distances",
    "center_heatmap": "imbalanceseg.losses.weights",
    "centerline_distance_weight": "imbalanceseg.losses.weights",
    "create_loss": "imbalanceseg.losses.factory",
    "cross_entropy_loss": "imbalanceseg.losses.cross_entropy",
    "dice_ce_loss": "imbalanceseg.losses.overlap",
    "dice_loss": "imbalanceseg.losses.overlap",
    "dice_squared_loss": "imbalanceseg.losses.overlap",
    "focal_loss": "imbalanceseg.losses.cross_entropy",
    "general_union_loss": "imbalanceseg.losses.general_union",
    "gradient_balance": "imbalanceseg.losses.gradient_flow",
    "hardness_weighted_dice_loss": "imbalanceseg.losses.hardness_weighted",
    "hausdorff_dt_loss": "imbalanceseg.losses.distances",
    "image_level_loss": "imbalanceseg.losses.image_level",
    "iou_bce_loss": "imbalanceseg.losses.overlap",
    "iou_loss": "imbalanceseg.losses.overlap",
    "label_components": "imbalanceseg.losses.components",
    "local_imbalance": "imbalanceseg.losses.weights",
    "local_imbalance_weight": "imbalanceseg.losses.weights",
    "loss_names": "imbalanceseg.losses.factory",
    "lovasz_loss": "imbalanceseg.losses.lovasz",
    "mse_heatmap_loss": "imbalanceseg.losses.heatmap",
    "ohem_loss": "imbalanceseg.losses.hard_mining",
    "partial_label_loss": "imbalanceseg.losses.partial_label",
    "signed_distance": "imbalanceseg.losses.weights",
    "tversky_loss": "imbalanceseg.losses.overlap",
    "voxel_hardness": "imbalanceseg.losses.hardness_weighted",
    "weighted_cross_entropy_loss": "imbalanceseg.losses.cross_entropy",
}

__all__ = [
    "AttentionSupervision",
    "GroupSupervision",
    "Loss",
    "binary_cross_entropy_loss",
    "blob_loss",
    "border_weight",
    "boundary_loss",
    "boundary_schedule",
    "center_heatmap",
    "centerline_distance_weight",
    "create_loss",
    "cross_entropy_loss",
    "dice_ce_loss",
    "dice_loss",
    "dice_squared_loss",
    "focal_loss",
    "general_union_loss",
    "gradient_balance",
    "hardness_weighted_dice_loss",
    "hausdorff_dt_loss",
    "image_level_loss",
    "iou_bce_loss",
    "iou_loss",
    "label_components",
    "local_imbalance",
    "local_imbalance_weight",
    "loss_names",
    "lovasz_loss",
    "mse_heatmap_loss",
    "ohem_loss",
    "partial_label_loss",
    "signed_distance",
    "tversky_loss",
    "voxel_hardness",
    "weighted_cross_entropy_loss",
]

if TYPE_CHECKING:
    from imbalanceseg.losses.attention_supervision import AttentionSupervision
    from imbalanceseg.losses.blob import blob_loss
    from imbalanceseg.losses.components import label_components
    from imbalanceseg.losses.cross_entropy import (
        binary_cross_entropy_loss,
        cross_entropy_loss,
        focal_loss,
        weighted_cross_entropy_loss,
    )
    from imbalanceseg.losses.distances import (
        boundary_loss,
        boundary_schedule,
        hausdorff_dt_loss,
    )
    from imbalanceseg.losses.factory import create_loss, loss_names
    from imbalanceseg.losses.general_union import general_union_loss
    from imbalanceseg.losses.gradient_flow import gradient_balance
    from imbalanceseg.losses.group_supervision import GroupSupervision
    from imbalanceseg.losses.hard_mining import ohem_loss
    from imbalanceseg.losses.hardness_weighted import hardness_weighted_dice_loss, voxel_hardness
    from imbalanceseg.losses.heatmap import mse_heatmap_loss
    from imbalanceseg.losses.loss import Loss
    from imbalanceseg.losses.lovasz import lovasz_loss
    from imbalanceseg.losses.overlap import (
        dice_ce_loss,
        dice_loss,
        dice_squared_loss,
        iou_bce_loss,
        iou_loss,
        tversky_loss,
    )
    from imbalanceseg.losses.partial_label import partial_label_loss
    from imbalanceseg.losses.weights import (
        border_weight,
        center_heatmap,
        centerline_distance_weight,
        local_imbalance,
        local_imbalance_weight,
        signed_distance,
    )


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
