"""From trained airway weights to the shipped bundle: settings chosen on validation, card, files.

``python -m imbalanceseg.training.airway_model WEIGHTS -o BUNDLE --library FOLDER [--metrics FILE]``
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from safetensors.torch import load_file
from torch import Tensor, nn

from imbalanceseg.inference.device import fast_precision
from imbalanceseg.inference.pruning import pruned_copy
from imbalanceseg.labels import AIRWAY_TREE
from imbalanceseg.models.card import (
    DisplayWindow,
    HardnessSettings,
    Intensity,
    ModelCard,
    NetworkSpec,
    TrainingData,
)
from imbalanceseg.models.write import write_bundle
from imbalanceseg.networks.wingsnet import WingsNet
from imbalanceseg.training.airway import AirwayRecipe, read_recipe, validation_set

_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
_SPARSITIES = (0.1, 0.2, 0.3, 0.5, 0.7)
_ERROR_REACH_VOXELS = 3


@torch.inference_mode()
def probabilities(network: nn.Module, patches: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Foreground probability of every patch."""
    network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    with fast_precision(torch.device("cpu")):
        return [torch.sigmoid(network(image).float()) for image, _ in patches]


def best_threshold(probability: list[Tensor], labels: list[Tensor]) -> float:
    """The threshold of the highest Dice over all validation patches."""

    def dice(threshold: float) -> float:
        pairs = [(p > threshold, g > 0) for p, g in zip(probability, labels, strict=True)]
        both = sum(int((found & true).sum()) for found, true in pairs)
        return 2 * both / max(1, sum(int(found.sum() + true.sum()) for found, true in pairs))

    return max(_THRESHOLDS, key=dice)


def best_sparsity(
    network: WingsNet, patches: list[tuple[Tensor, Tensor]], dense: list[Tensor], threshold: float
) -> tuple[float, float]:
    """The pruning at which hardness ranks errors best, and the area under that ROC curve.

    Ranked are the voxels within three voxels of the label or the prediction.
    """
    near, wrong = [], []
    for p, (_, label) in zip(dense, patches, strict=True):
        found, true = p > threshold, label > 0
        side = 2 * _ERROR_REACH_VOXELS + 1
        grown = torch.nn.functional.max_pool3d((found | true).float(), side, 1, side // 2)
        near.append(grown > 0)
        wrong.append((found != true)[near[-1]].numpy())
    errors = np.concatenate(wrong)

    def ranking(sparsity: float) -> float:
        weak = probabilities(pruned_copy(network, sparsity), patches)
        hardness = [(w - p).abs()[n].numpy() for w, p, n in zip(weak, dense, near, strict=True)]
        return _auroc(np.concatenate(hardness), errors)

    scores = {sparsity: ranking(sparsity) for sparsity in _SPARSITIES}
    best = max(scores, key=lambda s: scores[s])
    return best, scores[best]


def airway_card(
    recipe: AirwayRecipe, threshold: float, sparsity: float, metrics: dict[str, dict[str, float]]
) -> ModelCard:
    """The model card of the airway model."""
    low, high = recipe.clip_hu
    return ModelCard(
        name="airway",
        version="0.1.0",
        title="Airway tree in chest CT",
        description=(
            "WingsNet trained with the General Union loss on synthetic chest CT: appearance drawn "
            "at random over the anatomy of three real patients and of grown chests. No real CT "
            "was seen in training."
        ),
        intended_use=(
            "Research: a first airway segmentation to correct, in chest CT with slices of up to "
            "about 3 mm."
        ),
        modality="CT",
        body_part="CHEST",
        network=NetworkSpec(name="wingsnet"),
        spacing_mm=(recipe.spacing_mm,) * 3,
        intensity=Intensity(clip_low=low, clip_high=high),
        window=DisplayWindow(center=-500, width=1500),
        tile_voxels=(128, 128, 128),
        crop="lungs",
        segments=(AIRWAY_TREE,),
        threshold=threshold,
        keep_largest_component=True,
        root="trachea",
        hardness=HardnessSettings(sparsity=sparsity),
        training_data=(
            TrainingData(
                name="Label maps of LIDC-IDRI patients 1-3 of Med-MPD (UNC-Robotics)",
                license="CC BY 3.0",
                source="https://github.com/UNC-Robotics/Med-MPD",
                cases=len(recipe.patients),
                note="Bronchial trees by an automatic method; anatomy only, no CT.",
            ),
            TrainingData(
                name="Chests grown by imbalanceseg.synthesis.tree_growth",
                license="Apache-2.0",
                cases=len(recipe.grown_seeds),
                note=f"Seeds {', '.join(map(str, recipe.grown_seeds))}.",
            ),
        ),
        metrics=metrics,
        limitations=(
            "Trained briefly, on synthetic CT only; one real scan was seen while building.",
            "No expert reference exists for that scan: it was compared with region growing.",
            "Never tested: children, contrast-enhanced CT angiography, tracheostomy, stents, "
            "lobectomy, photon-counting CT, slices thicker than 3 mm.",
            "On that scan it finds 63 % of the region-grown centreline and 16 of 36 branches; "
            "much beyond the first divisions is missed.",
        ),
        references=(
            "Zheng et al., Alleviating Class-wise Gradient Imbalance for Pulmonary Airway "
            "Segmentation, IEEE TMI 40(9), 2021",
            "Armato et al., The Lung Image Database Consortium (LIDC-IDRI), Medical Physics 38, "
            "2011",
        ),
    )


def _auroc(score: np.ndarray, positive: np.ndarray) -> float:
    from scipy.stats import rankdata

    ranks = rankdata(score)
    hits = int(positive.sum())
    misses = len(positive) - hits
    return float((ranks[positive].sum() - hits * (hits + 1) / 2) / max(1, hits * misses))


def main(
    weights: Annotated[Path, typer.Argument(help="airway.safetensors of a finished run.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the bundle.")],
    library: Annotated[Path, typer.Option(help="Folder of anatomies that the run left.")],
    metrics: Annotated[Path | None, typer.Option(help="JSON: test set, metric, figure.")] = None,
) -> None:
    """Choose threshold and pruning on validation patches and write the bundle."""
    recipe = read_recipe()
    network = WingsNet()
    network.load_state_dict({k: v.float() for k, v in load_file(weights).items()})
    network.eval()
    patches = validation_set(recipe, library, "cpu")
    dense = probabilities(network, patches)
    threshold = best_threshold(dense, [label for _, label in patches])
    sparsity, auroc = best_sparsity(network, patches, dense, threshold)
    measured = json.loads(metrics.read_text()) if metrics else {}
    measured["validation patches"] = {"hardness_auroc": round(auroc, 3)}
    card = airway_card(recipe, threshold, sparsity, measured)
    print(f"threshold {threshold}, sparsity {sparsity} (AUROC {auroc:.3f})")
    write_bundle(output, network, card)


if __name__ == "__main__":
    typer.run(main)
