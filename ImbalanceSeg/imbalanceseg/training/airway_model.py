"""The airway model of a training: settings chosen on validation, and card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor, nn

from imbalanceseg.inference.device import fast_precision
from imbalanceseg.inference.postprocess import labelmap_from_probability
from imbalanceseg.inference.pruning import pruned_copy
from imbalanceseg.inference.segment import segment
from imbalanceseg.labels import AIRWAY_TREE
from imbalanceseg.metrics.airway import AirwayScore, airway_score
from imbalanceseg.metrics.error_ranking import error_auroc
from imbalanceseg.metrics.larynx import below_larynx
from imbalanceseg.metrics.maps import near
from imbalanceseg.models.bundle import Model
from imbalanceseg.models.card import (
    DisplayWindow,
    HardnessSettings,
    ModelCard,
    TrainingData,
)
from imbalanceseg.preprocessing.intensity import normalized
from imbalanceseg.synthesis.airway import ct_over
from imbalanceseg.synthesis.anatomy import ChestAnatomy

_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_SPARSITIES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9)
_FIRST_VALIDATION_CT = 500
_SCORED = ("length_detected", "branch_detected", "precision", "dice_largest")

_TILE = (160, 160, 160)
_SIDE = 96
"""Of the pieces that hardness is judged on."""

_WORDS: dict[str, Any] = {
    "title": "Airway tree in chest CT",
    "description": (
        "WingsNet trained with the General Union loss on synthetic chest CT: appearance drawn at "
        "random over the anatomy of three real patients and of grown chests. No real CT was seen "
        "in training."
    ),
    "intended_use": (
        "Research: a first airway segmentation to correct, in chest CT with slices of up to about "
        "3 mm."
    ),
    "training_data": (
        TrainingData(
            name="Label maps of LIDC-IDRI patients 1-3 of Med-MPD (UNC-Robotics)",
            license="CC BY 3.0",
            source="https://github.com/UNC-Robotics/Med-MPD",
            cases=3,
            note="Bronchial trees by an automatic method; anatomy only, no CT.",
        ),
        TrainingData(
            name="Chests grown by imbalanceseg.synthesis.tree_growth",
            license="Apache-2.0",
            cases=6,
            note="Seeds 1 to 6.",
        ),
    ),
    "limitations": (
        "Trained on synthetic CT only; one real scan was seen while building.",
        "No expert reference exists for that scan: it was compared with region growing.",
        "Never tested: children, contrast-enhanced CT angiography, tracheostomy, stents, "
        "lobectomy, photon-counting CT, slices thicker than 3 mm.",
        "Beyond the segmental bronchi much is missed; the wall is partly counted as lumen.",
    ),
    "references": (
        "Zheng et al., Alleviating Class-wise Gradient Imbalance for Pulmonary Airway "
        "Segmentation, IEEE TMI 40(9), 2021",
        "Armato et al., The Lung Image Database Consortium (LIDC-IDRI), Medical Physics 38, 2011",
    ),
}


@torch.inference_mode()
def probabilities(network: nn.Module, patches: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Foreground probability of every patch."""
    with fast_precision(torch.device("cpu")):
        return [torch.sigmoid(network(image).float()) for image, _ in patches]


@dataclass(frozen=True)
class ThresholdScore:
    """What a threshold gives on whole validation chests, after post-processing; means over them."""

    threshold: float
    length_detected: float
    branch_detected: float
    precision: float
    dice_largest: float

    @property
    def balance(self) -> float:
        """Mean of the four: two that reward finding bronchi, two that punish leaks."""
        return fmean(getattr(self, name) for name in _SCORED)


def threshold_scores(model: Model, chests: Sequence[ChestAnatomy]) -> list[ThresholdScore]:
    """Every candidate threshold on a CT painted over each chest.

    Whole chests, because the tree that hangs together is what counts: a patch knows nothing of a
    gap further up, nor of a false airway that the connection to the trachea removes.
    """
    scores: dict[float, list[AirwayScore]] = {threshold: [] for threshold in _THRESHOLDS}
    for number, chest in enumerate(chests):
        ct, reference = ct_over(chest, _FIRST_VALIDATION_CT + number)
        probability = segment(ct, model, device="cpu", maps=()).probability
        assert probability is not None
        region = below_larynx(reference)
        for threshold, per_chest in scores.items():
            labelmap = labelmap_from_probability(probability, ct, model.card, threshold)
            per_chest.append(airway_score(labelmap, reference, region))
    return [
        ThresholdScore(
            threshold,
            *(fmean(getattr(score, name) for score in per_chest) for name in _SCORED),
        )
        for threshold, per_chest in scores.items()
    ]


def best_sparsity(
    network: nn.Module, patches: list[tuple[Tensor, Tensor]], dense: list[Tensor], threshold: float
) -> tuple[float, float]:
    """The pruning at which hardness ranks errors best, and the area under that ROC curve.

    Ranked are the voxels near the label or the prediction, as
    :func:`~imbalanceseg.metrics.maps.evaluate_maps` does.
    """
    counted, wrong = [], []
    for p, (_, label) in zip(dense, patches, strict=True):
        found, true = (p > threshold).numpy(), (label > 0).numpy()
        counted.append(near(found | true))
        wrong.append((found != true)[counted[-1]])
    errors = np.concatenate(wrong)

    def ranking(sparsity: float) -> float:
        weak = probabilities(pruned_copy(network, sparsity), patches)
        hardness = [
            (w - p).abs().numpy()[at] for w, p, at in zip(weak, dense, counted, strict=True)
        ]
        return error_auroc(np.concatenate(hardness), errors)

    scores = {sparsity: ranking(sparsity) for sparsity in _SPARSITIES}
    best = max(scores, key=lambda s: scores[s])
    return best, scores[best]


def airway_card(
    model: Model,
    training: str,
    cases: Mapping[str, int],
    validation: Sequence[tuple[sitk.Image, sitk.Image]],
    chests: Sequence[ChestAnatomy],
) -> ModelCard:
    """The card of a trained model, with what does best on validation.

    Args:
        model: that the training wrote.
        training: a sentence on steps and time.
        cases: how many were learned from, by what they are made of.
        validation: CT and labels that the pruning of the hardness map is chosen on.
        chests: anatomies that the threshold is chosen on.
    """
    card = shipped_card(model.card, training, cases)
    model = Model(model.path, card)
    scores = threshold_scores(model, chests)
    for score in scores:
        print(score, f"balance {score.balance:.3f}", flush=True)
    best = max(scores, key=lambda score: score.balance)
    patches = [_fed(image, label, card) for image, label in validation]
    network = model.network
    dense = probabilities(network, patches)
    sparsity, auroc = best_sparsity(network, patches, dense, best.threshold)
    print(f"threshold {best.threshold}, sparsity {sparsity} (AUROC {auroc:.3f})")
    metrics = {
        "validation chests (synthetic)": {
            "tree_length_detected": round(best.length_detected, 3),
            "branches_detected": round(best.branch_detected, 3),
            "precision": round(best.precision, 3),
            "dice": round(best.dice_largest, 3),
        },
        "validation pieces (synthetic)": {"pruning_hardness_auroc": round(auroc, 3)},
    }
    # Of the kinds that are measured on validation chests the best for its cost.
    hardness = HardnessSettings(kind="entropy", sparsity=sparsity)
    return card.model_copy(
        update={"threshold": best.threshold, "hardness": hardness, "metrics": metrics}
    )


def shipped_card(trained: ModelCard, training: str, cases: Mapping[str, int]) -> ModelCard:
    """The card of a shipped model: how it is fed is the training's, its words are ours.

    Args:
        trained: the card that the training wrote.
        training: a sentence on steps and time.
        cases: how many were learned from, by what they are made of.
    """
    made = ", ".join(f"{count} {what}" for what, count in sorted(cases.items()))
    return trained.model_copy(
        update={
            **_WORDS,
            "name": "airway",
            "version": "0.2.0",
            "modality": "CT",
            "body_part": "CHEST",
            "channels": (trained.channels[0].model_copy(update={"name": "CT", "unit": "HU"}),),
            "window": DisplayWindow(center=-500, width=1500),
            "tile_voxels": _TILE,
            # More overlap gained nothing on validation chests for its time.
            "tile_overlap": 0.25,
            "whole_tiles": False,
            "mirrored_axes": (1, 2),
            "connectivity": 6,
            "crop": "lungs",
            "segments": (AIRWAY_TREE,),
            "largest_component_of": (1,),
            "root": "trachea",
            "limitations": (f"{training} Cases learned from: {made}.", *_WORDS["limitations"]),
        }
    )


def _fed(image: sitk.Image, label: sitk.Image, card: ModelCard) -> tuple[Tensor, Tensor]:
    """The middle of a case as the network sees it, and its label, ``[1, 1, Z, Y, X]``."""
    middle = tuple(
        slice((n - _SIDE) // 2, (n + _SIDE) // 2) if n > _SIDE else slice(None)
        for n in image.GetSize()[::-1]
    )
    hu, true = (sitk.GetArrayFromImage(one)[middle] for one in (image, label))
    scaled = normalized(hu.astype(np.float32), card.channels[0].normalization, hu != 0)
    return torch.from_numpy(scaled)[None, None], torch.from_numpy(true).float()[None, None]
