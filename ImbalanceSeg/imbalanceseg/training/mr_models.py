"""From a training of the recipes ``lesion`` and ``tumor`` to a bundle with a card of its own.

``python -m imbalanceseg.training.mr_models write RUN -o BUNDLE`` chooses the threshold and the
smallest component on the validation cases and writes the bundle; ``... record BUNDLE METRICS``
adds to its card what was measured with it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import SimpleITK as sitk
import typer

from imbalanceseg.errors import InputError
from imbalanceseg.inference.postprocess import labelmap_from_probability
from imbalanceseg.inference.segment import segment
from imbalanceseg.io import read_image
from imbalanceseg.labels import STANDARD_SEGMENTS
from imbalanceseg.metrics.evaluate import evaluate
from imbalanceseg.models.bundle import Model, load_model
from imbalanceseg.models.card import HardnessSettings, ModelCard, TrainingData
from imbalanceseg.models.write import add_metrics, write_bundle
from imbalanceseg.training.train import Run, read_run

_THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
_SMALLEST_MM3 = (0.0, 3.0, 10.0)
_COUNTED_MM3 = 3.0
"""Smaller pieces are no instances, neither of the model nor of the reference."""

_LESJAK = TrainingData(
    name="MR and consensus lesion masks of patients with multiple sclerosis (Lesjak et al. 2017)",
    license="CC BY",
    source="https://doi.org/10.1007/s12021-017-9348-7",
)
_GLIOMA = TrainingData(
    name="One glioma of the BrainLesion tutorials",
    license="Apache-2.0",
    source="https://github.com/BrainLesion/tutorials",
)
_METASTASES = TrainingData(
    name="One patient with brain metastases of BrainLesion (AURORA)",
    license="terms of the BrainLesion repositories",
    source="https://github.com/BrainLesion",
)
_HEAD = TrainingData(
    name="One sagittal T1 of a head, DICOM", license="MIT", note="Tumours were implanted in it."
)
_PHANTOMS = TrainingData(
    name="Heads of imbalanceseg.synthesis", license="Apache-2.0", note="Procedural, from seeds."
)

_WORDS: dict[str, dict[str, Any]] = {
    "lesion": {
        "title": "White-matter lesions in FLAIR",
        "description": (
            "3D U-Net trained with blob loss on one real patient, on real lesion shapes of other "
            "patients implanted in real scans, and on phantoms."
        ),
        "intended_use": (
            "Research: a first segmentation to correct, of many small bright lesions in "
            "brain-extracted FLAIR of about 1 mm."
        ),
        "training_data": (
            _LESJAK.model_copy(
                update={
                    "note": "FLAIR and mask of patient 19; lesion shapes of 27 others. Patient 07 "
                    "is no part of it."
                }
            ),
            _GLIOMA.model_copy(update={"note": "Its FLAIR lends texture."}),
            _PHANTOMS,
        ),
        "limitations": (
            "Its real lesions come from one hospital, one scanner and one disease.",
            "Never tested: scans with the skull, thick slices, 2D FLAIR, children, stroke, "
            "vascular disease, scanners other than the one of the test patient.",
            "Lesions in cortex, cerebellum and spinal cord were hardly seen in training.",
        ),
        "references": (
            "Kofler et al., blob loss: instance imbalance aware loss functions for semantic "
            "segmentation, IPMI 2023",
            "Lesjak et al., A Novel Public MR Image Dataset of Multiple Sclerosis Patients With "
            "Lesion Segmentations Based on Multi-rater Consensus, Neuroinformatics 2017",
        ),
    },
    "tumor": {
        "title": "Brain tumour in MR with thick slices",
        "description": (
            "2.5D U-Net with supervised attention and hardness-weighted Dice, trained on "
            "procedural heads with tumours and on tumours implanted in real scans."
        ),
        "intended_use": (
            "Research: a first segmentation to correct, of the core of a tumour of 2 cm or more in "
            "T1 with contrast agent or FLAIR, with slices of 1.5 to 6.5 mm."
        ),
        "training_data": (
            _PHANTOMS,
            _HEAD,
            _LESJAK.model_copy(
                update={"note": "Tumours were implanted in T1 with contrast agent, T2 and FLAIR."}
            ),
            _METASTASES.model_copy(update={"note": "Its own metastases were left unlabelled."}),
        ),
        "limitations": (
            "No real tumour was learned from: all are painted.",
            "The label is the tumour's core, without oedema.",
            "In T2 it takes eyes and fluid for tumours; it finds few tumours below 2 cm, and no "
            "schwannoma in the phantoms of the test.",
            "Never tested: after surgery or radiotherapy, children, spine, pituitary, thin slices "
            "without resampling.",
        ),
        "references": (
            "Wang et al., Automatic Segmentation of Vestibular Schwannoma from T2-Weighted MRI by "
            "Deep Spatial Attention with Hardness-Weighted Loss, MICCAI 2019",
        ),
    },
}


def shipped_card(
    task: str, trained: ModelCard, training: str, cases: Mapping[str, int]
) -> ModelCard:
    """The card of a shipped model: how it is fed is the training's, its words are ours.

    Args:
        task: ``"lesion"`` or ``"tumor"``.
        trained: the card that the training wrote.
        training: a sentence on steps and time.
        cases: how many of what were learned from.
    """
    words = _WORDS[task]
    made = ", ".join(f"{count} {what}" for what, count in sorted(cases.items()))
    return trained.model_copy(
        update={
            **words,
            "name": task,
            "version": "0.1.0",
            "modality": "MR",
            "body_part": "BRAIN",
            "segments": (STANDARD_SEGMENTS[task],),
            "hardness": HardnessSettings(kind="entropy"),
            "limitations": (f"{training} Cases learned from: {made}.", *words["limitations"]),
        }
    )


def cut_scores(
    model: Model, cases: list[tuple[sitk.Image, sitk.Image]]
) -> dict[tuple[float, float], float]:
    """Mean of Dice and F1 of instances on whole validation cases.

    Returns:
        By threshold, and by the size in mm3 below which components are removed.
    """
    cuts = list(product(_THRESHOLDS, _SMALLEST_MM3))
    scores: dict[tuple[float, float], list[float]] = {cut: [] for cut in cuts}
    for image, reference in cases:
        probability = segment(image, model, device="cpu", maps=()).probability
        assert probability is not None
        for (threshold, smallest), found in scores.items():
            card = model.card.model_copy(update={"smallest_mm3": smallest, "connectivity": 26})
            labels = labelmap_from_probability(probability, image, card, threshold)
            figures = figures_of(labels, reference)
            found.append(fmean(figures.values()))
    return {cut: fmean(found) for cut, found in scores.items()}


def figures_of(labels: sitk.Image, reference: sitk.Image) -> dict[str, float]:
    """Dice, and F1 of instances of at least 3 mm3 that overlap at all."""
    names = ("dice", "instance_f1")
    figures = evaluate(labels, reference, names, [1], smallest_instance_mm3=_COUNTED_MM3)
    return {name: figures[name] for name in names}


def validation_cases(run: Run, folder: Path) -> list[tuple[sitk.Image, sitk.Image]]:
    """Images and labels of a run's made validation cases that show something."""
    datalist, described = _described(run, folder)
    pairs = (
        (read_image(datalist.parent / one["image"]), read_image(datalist.parent / one["label"]))
        for one in described["validation"]
    )
    return [pair for pair in pairs if 1 in np.unique(sitk.GetArrayViewFromImage(pair[1]))]


def _described(run: Run, folder: Path) -> tuple[Path, dict[str, Any]]:
    if run.recipe.synthesis is None:
        raise InputError(
            "run-not-shipped",
            f"The training in {folder} made no cases of its own.",
            "Give one of the recipes lesion and tumor.",
        )
    datalist = folder / "made" / f"{run.recipe.synthesis.task}.json"
    return datalist, json.loads(datalist.read_text(encoding="utf-8"))


app = typer.Typer(no_args_is_help=True)


@app.command()
def write(
    folder: Annotated[Path, typer.Argument(help="Folder of a finished training.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the bundle.")],
) -> None:
    """Choose threshold and smallest component on the validation cases, and write the bundle."""
    run = read_run(folder)
    _, described = _described(run, folder)
    model = load_model(folder / "model")
    scores = cut_scores(model, validation_cases(run, folder))
    for (threshold, smallest), score in scores.items():
        told = f"threshold {threshold}, components of at least {smallest:g} mm3"
        print(f"{told}: mean of Dice and F1 {score:.4f}", flush=True)
    best = max(scores, key=lambda cut: scores[cut])
    made = Counter(
        "phantoms"
        if "phantom" in one["about"] or "procedural" in one["about"]
        else "scans with implants or lesions of their own"
        for one in described["training"]
    )
    assert run.recipe.synthesis is not None
    log = (folder / "fold_0" / "log.csv").read_text(encoding="utf-8").splitlines()
    steps, seconds = log[-1].split(",")[:2]
    training = (
        f"Trained for {steps} steps, {float(seconds) / 3600:.1f} hours of one processor core."
    )
    card = shipped_card(run.recipe.synthesis.task, model.card, training, made)
    figures = {"validation cases (made)": {"mean_of_dice_and_f1": round(scores[best], 3)}}
    cut = {"threshold": best[0], "smallest_mm3": best[1], "connectivity": 26}
    card = card.model_copy(update={**cut, "metrics": figures})
    write_bundle(output, model.network, card)


@app.command()
def record(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    metrics: Annotated[Path, typer.Argument(help="JSON: test set, metric, figure.")],
) -> None:
    """Write the card anew, with these figures beside those of the validation."""
    add_metrics(bundle, json.loads(metrics.read_text(encoding="utf-8")))


if __name__ == "__main__":
    app()
