"""The lesion and the tumour model of a training: what is cut off, and the card."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from statistics import fmean
from typing import Any, NamedTuple

import SimpleITK as sitk

from imbalanceseg.inference.postprocess import labelmap_from_probability
from imbalanceseg.inference.segment import segment
from imbalanceseg.labels import STANDARD_SEGMENTS
from imbalanceseg.metrics.evaluate import evaluate
from imbalanceseg.models.bundle import Model
from imbalanceseg.models.card import HardnessSettings, ModelCard, TrainingData

_THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
_HIGH_THRESHOLDS = (None, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
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
            "version": "0.2.0",
            "modality": "MR",
            "body_part": "BRAIN",
            "segments": (STANDARD_SEGMENTS[task],),
            "hardness": HardnessSettings(kind="entropy"),
            "limitations": (f"{training} Cases learned from: {made}.", *words["limitations"]),
        }
    )


class Cut(NamedTuple):
    """What a card says of the line between tissue and what is looked for."""

    threshold: float
    high_threshold: float | None
    smallest_mm3: float

    def of(self, card: ModelCard) -> ModelCard:
        """The card with this cut."""
        return card.model_copy(update=self._asdict() | {"connectivity": 26})


def cut_scores(model: Model, cases: list[tuple[sitk.Image, sitk.Image]]) -> dict[Cut, float]:
    """Mean of Dice and F1 of instances on whole validation cases, for every cut."""
    cuts = [
        Cut(threshold, high, smallest)
        for threshold, high, smallest in product(_THRESHOLDS, _HIGH_THRESHOLDS, _SMALLEST_MM3)
        if high is None or high > threshold
    ]
    scores: dict[Cut, list[float]] = {cut: [] for cut in cuts}
    for image, reference in cases:
        probability = segment(image, model, device="cpu", maps=()).probability
        assert probability is not None
        for cut, found in scores.items():
            labels = labelmap_from_probability(probability, image, cut.of(model.card))
            figures = figures_of(labels, reference)
            found.append(fmean(figures.values()))
    return {cut: fmean(found) for cut, found in scores.items()}


def figures_of(labels: sitk.Image, reference: sitk.Image) -> dict[str, float]:
    """Dice, and F1 of instances of at least 3 mm3 that overlap at all."""
    names = ("dice", "instance_f1")
    figures = evaluate(labels, reference, names, [1], smallest_instance_mm3=_COUNTED_MM3)
    return {name: figures[name] for name in names}


def mr_card(
    task: str,
    model: Model,
    training: str,
    cases: Mapping[str, int],
    validation: list[tuple[sitk.Image, sitk.Image]],
) -> ModelCard:
    """The card of a trained model, with the cut that does best on the validation cases.

    Args:
        task: ``"lesion"`` or ``"tumor"``.
        model: that the training wrote.
        training: see :func:`shipped_card`.
        cases: see :func:`shipped_card`.
        validation: images and labels that show something.
    """
    scores = cut_scores(model, validation)
    for cut, score in scores.items():
        print(f"{cut}: mean of Dice and F1 {score:.4f}", flush=True)
    best = max(scores, key=lambda cut: scores[cut])
    figures = {"validation cases (made)": {"mean_of_dice_and_f1": round(scores[best], 3)}}
    card = best.of(shipped_card(task, model.card, training, cases))
    return card.model_copy(update={"metrics": figures})
