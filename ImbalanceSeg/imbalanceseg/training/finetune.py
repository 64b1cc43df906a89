"""Teach a model this patient from what was painted.

The rest of the scan follows in three depths of one objective, cross entropy and Dice on the
labelled voxels (Cicek et al., MICCAI 2016), with what the model was sure of kept elsewhere:
``head`` trains a classifier of voxels behind the network, ``decoder`` and ``all`` the network too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import SimpleITK as sitk
import torch
from torch import Tensor, nn

from imbalanceseg.annotation.annotation import Annotation, require_annotation_of
from imbalanceseg.annotation.painted_result import hangs_together, only_near, with_annotation
from imbalanceseg.errors import Cancelled
from imbalanceseg.inference.device import pick_device
from imbalanceseg.inference.hardness import annotated_hardness
from imbalanceseg.inference.memory import memory_budget
from imbalanceseg.inference.segmentation import Segmentation
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.models.adapted import adapted_card, scratch_card
from imbalanceseg.models.bundle import Model, load_model
from imbalanceseg.models.card import Adaptation, NetworkSpec, output_channels
from imbalanceseg.models.write import write_bundle
from imbalanceseg.networks.adapted import AdaptedNetwork, PatientHead
from imbalanceseg.networks.blocks import set_statistics
from imbalanceseg.networks.factory import create_network
from imbalanceseg.networks.voxel_classifier import VoxelClassifier
from imbalanceseg.progress import ProgressCallback, ProgressEvent, ignore_progress
from imbalanceseg.training.finetune_checks import (
    Depth,
    annotation_sha256,
    require_labels,
    require_settings,
)
from imbalanceseg.training.finetune_network import Painted, patch_sides, train_network
from imbalanceseg.training.learner import Learner
from imbalanceseg.training.painted_rows import sure_voxels, teach, trust_by_class
from imbalanceseg.training.patient import Patient

ROUNDS = 5
_SLICES_TO_SPARE_ONE = 6
_FOREGROUND_TO_JUDGE_BY = 300
_NOISE_OF_DICE = 0.1
"""Of one slice: a round that is worse by less is not worse."""
_SHOWN_EVERY = 25
_SLICES_FOR_NETWORK, _SLICES_FOR_ALL = 3, 5
_SECONDS_FOR_NETWORK = 240.0
_SHARE_OF_NETWORK = 0.6
_FEATURES = (8, 16, 32)
"""Of a network from scratch: what a processor trains in a minute."""


@dataclass(frozen=True)
class Step:
    """A moment of an adaptation.

    Attributes:
        seconds: since it began.
        stage: ``"round 1"``, ``"round 2"``, ... or ``"network"``.
        loss: there.
    """

    seconds: float
    stage: str
    loss: float


@dataclass(frozen=True)
class FineTuned:
    """A model that knows one patient.

    Attributes:
        model: the child; :meth:`save` writes it as a bundle. The parent is what it was.
        segmentation: of the scan, by the child; what was painted stands in it as it was painted,
            and :func:`~imbalanceseg.annotation.painted_result.with_annotation` has cleaned it.
        history: losses over time.
    """

    model: Model
    segmentation: Segmentation
    history: list[Step] = field(default_factory=list)

    def save(self, folder: Path) -> Model:
        """Write the child as a bundle of its own, and return that."""
        return write_bundle(folder, self.model.networks, self.model.card)


def finetune(
    image: sitk.Image | Sequence[sitk.Image],
    annotation: Annotation,
    model: Model | str | Path | None = None,
    depth: Depth = "auto",
    seconds: float = 60,
    iterations: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: ProgressCallback | None = None,
    *,
    names: Mapping[int, str] | None = None,
    memory_gb: float | None = None,
    preview: Callable[[Segmentation], None] | None = None,
) -> FineTuned:
    """Adapt a model to a patient, or begin one from nothing.

    Args:
        image: the scan, one image a channel.
        annotation: of some of its voxels.
        model: what to start from; None begins from the painted slices alone.
        depth: how much of the network is trained; ``"auto"`` decides by labels and time.
        seconds: wall time for everything, until the segmentation is there.
        iterations: steps a round, instead of what time allows.
        seed: same seed, same machine, same result, as long as time does not end it.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:<n>"``.
        progress: receives stage ``"finetune"`` with the loss. Where it raises
            :class:`~imbalanceseg.errors.Cancelled` after the first round, the best so far is kept.
        names: of the classes, where there is no model; their numbers when None.
        memory_gb: that may be taken, in GiB; most of what is free when None.
        preview: receives the segmentation of the first round.

    Raises:
        InputError: the annotation is empty, has classes that the model does not have, or one class
            only where there is no model; the scan or a setting cannot be used.
        GeometryError: the annotation is not on the scan's grid.
        ModelError: the model is unknown, damaged, or cannot be adapted.
    """
    return _FineTuning(
        image, annotation, model, depth, seconds, iterations, seed, device, names, memory_gb
    ).run(progress or ignore_progress, preview)


class _FineTuning:
    def __init__(
        self,
        image: sitk.Image | Sequence[sitk.Image],
        annotation: Annotation,
        model: Model | str | Path | None,
        depth: str,
        seconds: float,
        iterations: int | None,
        seed: int,
        device: str,
        names: Mapping[int, str] | None,
        memory_gb: float | None,
    ) -> None:
        self.begun = time.monotonic()
        require_settings(depth, seconds, iterations)
        pick_device(device)
        channels = [image] if isinstance(image, sitk.Image) else list(image)
        require_annotation_of(channels[0], annotation)
        self.parent = model if isinstance(model, Model) or model is None else load_model(model)
        self.annotation = annotation
        classes = require_labels(annotation, self.parent)
        if self.parent is None:
            known = {n: (names or {}).get(n, f"Segment {n}") for n in range(1, classes)}
            self.model = Model(Path(), scratch_card(channels, known))
            self.outputs = classes
        else:
            self.model = self.parent
            self.outputs = output_channels(self.parent.card)
        self.image, self.depth, self.seconds, self.seed = image, depth, seconds, seed
        self.iterations, self.device = iterations, device
        self.budget = memory_budget(memory_gb)
        self.history: list[Step] = []
        self.held_out_dice: float | None = None

    def run(
        self, progress: ProgressCallback, preview: Callable[[Segmentation], None] | None
    ) -> FineTuned:
        torch.manual_seed(self.seed)
        self.progress = progress
        patient = Patient(self.image, self.model, self.budget)
        if self.parent is not None:
            patient.look(self.parent.network, self.parent.card.network, self.device, progress)
        labels = patient.labels(self.annotation)
        self.reached = self._reached(patient)
        if self.reached != "head":
            self._deepen(patient, labels)
        network = self._network(patient)
        found = self._rounds(patient, network.head, labels, preview)
        child = self._child(network)
        return FineTuned(child, self._result(patient, child, found), self.history)

    def _result(self, patient: Patient, model: Model, found: Tensor) -> Segmentation:
        result = patient.segmentation(model, found)
        labels, hardness = with_annotation(result.labels, self.annotation), result.hardness
        if hardness is not None:
            if hangs_together(self.annotation):
                hardness = only_near(hardness, labels)
            if result.probability is not None:
                said = self.annotation.image
                hardness = annotated_hardness(hardness, result.probability, said)
        return replace(result, labels=labels, hardness=hardness)

    def _reached(self, patient: Patient) -> str:
        """How deep this adaptation goes."""
        if self.depth != "auto":
            return self.depth
        left = self.begun + self.seconds - time.monotonic()
        slices = len(self.annotation.confirmed)
        if self.parent is None or slices < _SLICES_FOR_NETWORK:
            return "head"
        if left < 4 * patient.look_seconds + _SECONDS_FOR_NETWORK:
            return "head"
        return "all" if slices >= _SLICES_FOR_ALL else "decoder"

    def _deepen(self, patient: Patient, labels: Tensor) -> None:
        """Train the network itself, or one that is made for it, and let it see the scan again."""
        if self.parent is None:
            spec = NetworkSpec(
                name="unet3d",
                kwargs={
                    "in_channels": patient.volume.shape[1],
                    "out_channels": self.outputs,
                    "features": _FEATURES,
                    "norm": "fixed",
                },
            )
            network = create_network(spec.name, **spec.kwargs).eval()
            set_statistics(network, [patient.middle(network)])
            kept = torch.zeros(labels.shape, dtype=torch.int32)
            trust = torch.ones(max(2, self.outputs))
        else:
            spec, network = self.parent.card.network, deepcopy(self.parent.network)
            kept, trust = self._sure(patient, labels)
        left = self.begun + self.seconds - time.monotonic() - patient.look_seconds
        painted = Painted(
            patient.volume[0], labels, kept, trust, self.annotation.classes, patient.spacing_mm
        )
        train_network(
            network,
            painted,
            decoder_only=self.reached == "decoder",
            afresh=self.parent is None,
            patch=patch_sides(labels.shape, patient.spacing_mm, network.multiples()),  # type: ignore[operator]
            seed=self.seed,
            seconds=max(1.0, left * _SHARE_OF_NETWORK),
            iterations=self.iterations,
            device=pick_device(self.device),
            told=self._told("network", 0, ROUNDS + 1),
        )
        patient.look(network, spec, self.device, self.progress)

    def _sure(self, patient: Patient, labels: Tensor) -> tuple[Tensor, Tensor]:
        """What the network was sure of plus 1, and how far each class is believed."""
        start = patient.start_logits()
        sure, said = sure_voxels(start)
        known = labels.flatten() != UNLABELLED
        trust = trust_by_class(
            start[:, known],
            labels.flatten()[known].long(),
            self.annotation.classes,
            max(2, self.outputs),
        )
        kept = torch.where(sure & ~known, said + 1, 0).to(torch.int32)
        return kept.view(labels.shape), trust

    def _network(self, patient: Patient) -> AdaptedNetwork:
        spec = patient.spec
        self.arguments: dict[str, Any] = {
            "in_channels": patient.volume.shape[1],
            "out_channels": self.outputs,
            "spacing_mm": patient.spacing_mm,
            "base": None if spec is None else {"name": spec.name, "kwargs": dict(spec.kwargs)},
            "rounds": ROUNDS,
        }
        network = AdaptedNetwork(**self.arguments)
        if patient.network is not None:
            assert network.base is not None
            network.base.load_state_dict(patient.network.state_dict())
        return network.eval()

    def _rounds(
        self,
        patient: Patient,
        head: PatientHead,
        labels: Tensor,
        preview: Callable[[Segmentation], None] | None,
    ) -> Tensor:
        """Train the head round by round; what the last one says of the scan."""
        generator = torch.Generator().manual_seed(self.seed)
        learner = Learner(
            patient, head, labels, self.held_out_labels(patient), self.annotation.classes, self.seed
        )
        best, kept = -1.0, 0
        for number in range(len(head.rounds)):
            begun = time.monotonic()
            try:
                self._teach(learner, head, number, generator)
            except Cancelled:
                # Whoever stops it has seen a preview: the best so far is what they get.
                if not kept:
                    raise
                self.progress = ignore_progress
                break
            learner.advance(number)
            dice = learner.held_out_dice(number)
            if dice is None or dice >= best - _NOISE_OF_DICE:
                best, kept = max(best, -1.0 if dice is None else dice), number + 1
                self.held_out_dice = dice
                learner.keep()
            took = time.monotonic() - begun
            if preview is not None and number == 0:
                so_far = self._child_so_far(1)
                preview(self._result(patient, so_far, learner.probabilities(1)))
            if time.monotonic() + 2 * took > self.begun + self.seconds:
                break
        self.arguments["rounds"] = kept
        found = learner.probabilities(kept)
        head.rounds = head.rounds[:kept]
        return found

    def _teach(
        self, learner: Learner, head: PatientHead, number: int, generator: torch.Generator
    ) -> None:
        """Train the classifiers of a round."""
        lesson = learner.lesson(number)
        for classifier in cast(nn.ModuleList, head.rounds[number]):
            teach(
                cast(VoxelClassifier, classifier),
                lesson,
                generator,
                **({} if self.iterations is None else {"steps": self.iterations}),
                deadline=self.begun + self.seconds,
                told=self._told(f"round {number + 1}", number, len(head.rounds)),
            )

    def held_out_labels(self, patient: Patient) -> Tensor | None:
        """The labels of one confirmed slice alone, where one can be spared and shows enough."""
        confirmed = sorted(self.annotation.confirmed)
        if len(confirmed) < _SLICES_TO_SPARE_ONE:
            return None
        one = confirmed[len(confirmed) // 2]
        plane = self.annotation.plane(one.axis, one.index)
        if int((plane > 0).sum()) < _FOREGROUND_TO_JUDGE_BY:
            return None
        alone = Annotation(self.annotation.grid)
        alone.paint_slice(one.axis, one.index, plane)
        return patient.labels(alone)

    def _told(self, stage: str, number: int, rounds: int) -> Callable[[int, float], None]:
        def told(step: int, loss: float) -> None:
            if step % _SHOWN_EVERY:
                return
            self.history.append(Step(time.monotonic() - self.begun, stage, loss))
            self.progress(ProgressEvent("finetune", number, rounds, stage, {"loss": loss}))

        return told

    def _child_so_far(self, rounds: int) -> Model:
        return Model(self.model.path, self._card(rounds))

    def _child(self, network: AdaptedNetwork) -> Model:
        child = Model(self.model.path, self._card(len(network.head.rounds)))
        child.networks = (network.eval(),)
        return child

    def _card(self, rounds: int) -> Any:
        parent = self.parent
        adaptation = Adaptation(
            parent="" if parent is None else f"{parent.name} {parent.version}",
            parent_sha256="" if parent is None else parent.card.weights[0].sha256,
            annotation_sha256=annotation_sha256(self.annotation),
            labelled_voxels=int(self.annotation.known.sum()),
            slices=len(self.annotation.confirmed),
            depth=self.reached,
            seed=self.seed,
            seconds=round(time.monotonic() - self.begun, 2),
            held_out_dice=None if self.held_out_dice is None else round(self.held_out_dice, 4),
        )
        return adapted_card(self.model.card, {**self.arguments, "rounds": rounds}, adaptation)
