"""From trained airway weights to the shipped bundle: settings chosen on validation, card, files.

``python -m imbalanceseg.training.airway_model choose WEIGHTS -o BUNDLE --library FOLDER`` writes
the bundle; ``... record BUNDLE METRICS`` adds to its card what was measured with it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated

import numpy as np
import torch
import typer
from safetensors.torch import load_file
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
from imbalanceseg.models.bundle import Model, load_model
from imbalanceseg.models.card import (
    Channel,
    DisplayWindow,
    HardnessSettings,
    ModelCard,
    NetworkSpec,
    TrainingData,
)
from imbalanceseg.models.write import add_metrics, write_bundle
from imbalanceseg.networks.wingsnet import WingsNet
from imbalanceseg.preprocessing.intensity import Normalization
from imbalanceseg.synthesis.airway import ct_over
from imbalanceseg.synthesis.anatomy import ChestAnatomy
from imbalanceseg.synthesis.library import chest_library
from imbalanceseg.training.airway import AirwayRecipe, read_recipe, validation_set

_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_SPARSITIES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9)
_FIRST_VALIDATION_CT = 500
_SCORED = ("length_detected", "branch_detected", "precision", "dice_largest")


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
    network: WingsNet, patches: list[tuple[Tensor, Tensor]], dense: list[Tensor], threshold: float
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
    recipe: AirwayRecipe,
    threshold: float,
    sparsity: float,
    metrics: dict[str, dict[str, float]],
    *,
    tile_invariant: bool,
) -> ModelCard:
    """The model card of the airway model."""
    low, high = recipe.clip_hu
    scaling = Normalization(scheme="range", low=low, high=high)
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
        network=NetworkSpec(
            name="wingsnet", kwargs={"tile_invariant": True} if tile_invariant else {}
        ),
        spacing_mm=(recipe.spacing_mm,) * 3,
        channels=(Channel(name="CT", unit="HU", normalization=scaling),),
        window=DisplayWindow(center=-500, width=1500),
        tile_voxels=(160, 160, 160),
        crop="lungs",
        segments=(AIRWAY_TREE,),
        threshold=threshold,
        largest_component_of=(1,),
        root="trachea",
        # Of the kinds that are measured on validation chests the best for its cost.
        hardness=HardnessSettings(kind="entropy", sparsity=sparsity),
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
            "Trained for four and a quarter hours on two processor cores, on synthetic CT only; "
            "one real scan was seen while building.",
            "No expert reference exists for that scan: it was compared with region growing.",
            "Never tested: children, contrast-enhanced CT angiography, tracheostomy, stents, "
            "lobectomy, photon-counting CT, slices thicker than 3 mm.",
            "Beyond the segmental bronchi much is missed; the wall is partly counted as lumen.",
        ),
        references=(
            "Zheng et al., Alleviating Class-wise Gradient Imbalance for Pulmonary Airway "
            "Segmentation, IEEE TMI 40(9), 2021",
            "Armato et al., The Lung Image Database Consortium (LIDC-IDRI), Medical Physics 38, "
            "2011",
        ),
    )


app = typer.Typer(no_args_is_help=True)


@app.command()
def choose(
    weights: Annotated[Path, typer.Argument(help="airway.safetensors of a finished run.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the bundle.")],
    library: Annotated[Path, typer.Option(help="Folder of anatomies that the run left.")],
) -> None:
    """Choose the threshold on validation chests, the pruning on patches, and write the bundle."""
    recipe = read_recipe()
    state = {name: value.float() for name, value in load_file(weights).items()}
    invariant = any("running_mean" in name for name in state)
    network = WingsNet(tile_invariant=invariant)
    network.load_state_dict(state)
    network.eval()
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(
            Path(folder), network, airway_card(recipe, 0.5, 0.5, {}, tile_invariant=invariant)
        )
        chests = chest_library(library, None, (), recipe.validation_seeds, recipe.spacing_mm)
        scores = threshold_scores(load_model(folder), chests)
    for score in scores:
        print(score, f"balance {score.balance:.3f}", flush=True)
    best = max(scores, key=lambda score: score.balance)
    patches = validation_set(recipe, library, "cpu")
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
        "validation patches": {"hardness_auroc": round(auroc, 3)},
    }
    card = airway_card(recipe, best.threshold, sparsity, metrics, tile_invariant=invariant)
    write_bundle(output, network, card)


@app.command()
def record(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    metrics: Annotated[Path, typer.Argument(help="JSON: test set, metric, figure.")],
) -> None:
    """Write the card anew, with these figures beside those of the validation."""
    add_metrics(bundle, json.loads(metrics.read_text(encoding="utf-8")))


if __name__ == "__main__":
    app()
