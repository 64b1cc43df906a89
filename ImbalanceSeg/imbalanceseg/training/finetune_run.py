"""The steps of an adaptation: look at the scan, train the network and the head, show, keep."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import torch
from torch import Tensor, nn

from imbalanceseg.annotation.annotation import Annotation, require_annotation_of
from imbalanceseg.annotation.painted_result import (
    hangs_together,
    only_near,
    said_of,
    with_annotation,
)
from imbalanceseg.errors import Cancelled
from imbalanceseg.inference.device import pick_device
from imbalanceseg.inference.hardness import annotated_hardness
from imbalanceseg.inference.memory import memory_budget
from imbalanceseg.inference.segmentation import Segmentation
from imbalanceseg.labels import UNLABELLED
from imbalanceseg.models.adapted import adapted_card, scratch_card
from imbalanceseg.models.bundle import Model, load_model
from imbalanceseg.models.card import Adaptation, ModelCard, NetworkSpec, output_channels
from imbalanceseg.networks.adapted import AdaptedNetwork, PatientHead
from imbalanceseg.progress import ProgressCallback, ProgressEvent, ignore_progress
from imbalanceseg.training.connected import Connection
from imbalanceseg.training.decision_line import deciding_at_half
from imbalanceseg.training.finetune_checkpoint import AdaptationCheckpoint, scan_sha256
from imbalanceseg.training.finetune_checks import (
    annotation_sha256,
    origin,
    require_labels,
    require_settings,
)
from imbalanceseg.training.finetune_clock import Previews, TimeBudget
from imbalanceseg.training.finetune_network import (
    Begun,
    Painted,
    patch_sides,
    scratch_network,
    sure_of,
    train_network,
)
from imbalanceseg.training.finetune_rounds import Pupil, Rounds, held_out_labels, with_one_member
from imbalanceseg.training.learner import Learner
from imbalanceseg.training.look_time import look_in_time
from imbalanceseg.training.patient import Patient

ROUNDS = 5
SLICES_TO_SPARE_ONE = 4
_SLICES_TO_SPARE_ONE_OF_NETWORK = 6
"""A head learns it in the end all the same; the network never sees it."""
_SHOWN_EVERY, _SECONDS_BETWEEN = 25, 1.0
_SLICES_FOR_NETWORK, _SLICES_FOR_ALL = 3, 5
_SECONDS_FOR_NETWORK = 240.0
_SHARE_OF_NETWORK = 0.6


@dataclass(frozen=True)
class Asked:
    """Arguments of :func:`~imbalanceseg.training.finetune.finetune`."""

    channels: list[sitk.Image]
    annotation: Annotation
    model: Model | str | Path | None
    depth: str
    seconds: float
    iterations: int | None
    seed: int
    device: str
    names: Mapping[int, str] | None
    memory_gb: float | None


class FineTuning:
    """One adaptation from the scan to the child.

    Args:
        asked: what is to be done.
        budget: of time.
        checkpoint: file that it can go on from, or None.
        resume: go on with what that holds.

    Attributes:
        standing: how far it has come.

    Raises:
        InputError, GeometryError, ModelError: see :func:`~imbalanceseg.training.finetune.finetune`.
    """

    def __init__(
        self, asked: Asked, budget: TimeBudget, checkpoint: Path | None, resume: bool
    ) -> None:
        require_settings(asked.depth, asked.seconds, asked.iterations)
        pick_device(asked.device)
        self.asked, self.budget, self.annotation = asked, budget, asked.annotation
        require_annotation_of(asked.channels[0], asked.annotation)
        model = asked.model
        self.parent = model if isinstance(model, Model) or model is None else load_model(model)
        classes = require_labels(asked.annotation, self.parent)
        if self.parent is None:
            names = asked.names or {}
            known = {n: names.get(n, f"Segment {n}") for n in range(1, classes)}
            self.model = Model(Path(), scratch_card(asked.channels, known))
            self.outputs = classes
        else:
            self.model = deciding_at_half(self.parent)
            self.outputs = output_channels(self.parent.card)
        self.memory = memory_budget(asked.memory_gb)
        purpose = {} if checkpoint is None else self._purpose()
        self.checkpoint = AdaptationCheckpoint(checkpoint, purpose, resume)
        self.standing, self.resume = self.checkpoint.standing, resume
        self.budget.use(self.standing.seconds)

    def _purpose(self) -> dict[str, Any]:
        asked, parent = self.asked, self.parent
        return {
            "scan": scan_sha256(asked.channels),
            "annotation": annotation_sha256(self.annotation),
            "model": None if parent is None else [one.sha256 for one in parent.card.weights],
            "depth": asked.depth,
            "number of seconds": asked.seconds,
            "number of iterations": asked.iterations,
            "seed": asked.seed,
            "set of names": [segment.name for segment in self.model.segments],
        }

    def through(
        self,
        progress: ProgressCallback,
        preview: Callable[[Segmentation], None] | None,
        enough: Callable[[], bool] | None,
    ) -> tuple[Model, Segmentation]:
        """Do what is left to do.

        Args:
            progress: receives events.
            preview: receives segmentations on the way, or None.
            enough: says whether to end with what there is, or None.

        Returns:
            The child, and what it says of the scan.
        """
        self.progress, self.enough = progress, enough or (lambda: False)
        self.previews, self.told = Previews(preview, self.budget), time.monotonic()
        with self.budget.timed("prepare"):
            patient = Patient(self.asked.channels, self.model, self.memory)
        if self.parent is not None:
            known = tuple(self.standing.look_factor)
            look = look_in_time(patient, self.model, self.asked.device, self.budget.left, known)
            self.looking, self.standing.look_factor = look.network, list(look.factor)
            if look.message:
                progress(ProgressEvent("look", 0, 0, look.message))
            if not self.standing.network_trained:
                with self.budget.timed("look"):
                    patient.look(*self.looking, self.asked.device, progress)
        labels = patient.labels(self.annotation)
        self.standing.depth = self.standing.depth or self._reached()
        if not self.resume:
            # Not before: what cannot be adapted has failed by now.
            self.checkpoint.save(self.budget.used)
        deep = self.standing.depth != "head"
        slices = _SLICES_TO_SPARE_ONE_OF_NETWORK if deep else SLICES_TO_SPARE_ONE
        held_out = held_out_labels(self.annotation, patient, slices)
        if deep:
            self._deepen(patient, labels, held_out)
        adapted = self._network(patient)
        connection = Connection(patient, labels, self.annotation, self.budget)
        found = connection.counted(self._rounds(patient, adapted.head, labels, held_out))
        child = self._child(adapted)
        return child, self._result(patient, child, found)

    def _result(self, patient: Patient, model: Model, found: Tensor) -> Segmentation:
        with self.budget.timed("restore"):
            result = patient.segmentation(model, found)
            labels, hardness = with_annotation(result.labels, self.annotation), result.hardness
            if hardness is not None:
                if hangs_together(self.annotation):
                    hardness = only_near(hardness, labels)
                if result.probability is not None:
                    said = said_of(labels, self.annotation)
                    hardness = annotated_hardness(hardness, result.probability, said)
            return replace(result, labels=labels, hardness=hardness)

    def _reached(self) -> str:
        """How deep this adaptation goes."""
        if self.asked.depth != "auto":
            return self.asked.depth
        slices = len(self.annotation.confirmed)
        if self.parent is None or slices < _SLICES_FOR_NETWORK:
            return "head"
        if not self.budget.allows(4 * self.budget.expected("look"), _SECONDS_FOR_NETWORK):
            return "head"
        return "all" if slices >= _SLICES_FOR_ALL else "decoder"

    def _deepen(self, patient: Patient, labels: Tensor, held_out: Tensor | None) -> None:
        """Train the network itself, or one that is made for it, and let it see the scan again."""
        standing = self.standing
        if standing.network_trained:
            network, spec = self._begun_network(patient)
        else:
            self._glimpse(patient, labels)
            classes = self.annotation.classes
            if held_out is not None:
                labels = torch.where(held_out == UNLABELLED, labels, UNLABELLED)
            kept, trust = sure_of(patient, labels, classes, self.outputs)
            network, spec = self._begun_network(patient)
            if not standing.network_allowed:
                left = self.budget.left - self.budget.expected("look") - self.budget.restoring
                standing.network_allowed = max(1.0, left * _SHARE_OF_NETWORK)
            painted = Painted(patient.volume[0], labels, kept, trust, classes, patient.spacing_mm)
            self._train(patient, network, spec, painted)
        with self.budget.timed("look"):
            patient.look(network, spec, self.asked.device, self.progress)

    def _begun_network(self, patient: Patient) -> tuple[nn.Module, NetworkSpec]:
        """The network as it was when the checkpoint was written, or as it begins."""
        if self.parent is None:
            spec, network, took = scratch_network(patient, self.outputs, self.asked.seed)
            self.budget.note("look", took)
        else:
            network, spec = deepcopy(self.looking[0]), self.looking[1]
        known = self.checkpoint.part("network.")
        if known:
            try:
                network.load_state_dict(known)
            except RuntimeError as error:
                raise self.checkpoint.damaged(error) from error
        return network, spec

    def _train(
        self, patient: Patient, network: nn.Module, spec: NetworkSpec, painted: Painted
    ) -> None:
        standing = self.standing
        labels = patient.labels(self.annotation)

        def between(begun: Begun) -> bool:
            standing.network_step, standing.network_seconds = begun.step, begun.seconds
            if self.checkpoint.due:
                self._keep_network(network, begun)
            cost = self.budget.expected("look") + self.budget.expected("glimpse")
            if not self.previews.due(cost):
                return False
            network.eval()
            self._glimpse(patient, labels, lambda: self._look_again(patient, network, spec))
            return True

        torch.manual_seed(self.asked.seed)
        trained = train_network(
            network,
            painted,
            decoder_only=standing.depth == "decoder",
            afresh=self.parent is None,
            patch=patch_sides(painted.labels.shape, painted.spacing_mm, network.multiples()),  # type: ignore[operator]
            seed=self.asked.seed,
            seconds=standing.network_allowed,
            iterations=self.asked.iterations,
            device=pick_device(self.asked.device),
            told=lambda step, loss: self._tell(0, "network", step, loss),
            begin=Begun(
                standing.network_step, standing.network_seconds, self.checkpoint.part("optimizer.")
            ),
            between=between,
            enough=self.enough,
        )
        standing.network_step, standing.network_seconds = trained.step, trained.seconds
        standing.network_trained = True
        self._keep_network(network, None)

    def _keep_network(self, network: nn.Module, begun: Begun | None) -> None:
        """In the checkpoint; with the moments while it is trained."""
        self.checkpoint.put("network.", network.state_dict())
        self.checkpoint.put("optimizer.", {} if begun is None else begun.moments)
        self.checkpoint.save(self.budget.used)

    def _look_again(self, patient: Patient, network: nn.Module, spec: NetworkSpec) -> None:
        with self.budget.timed("look"):
            patient.look(network, spec, self.asked.device, ignore_progress)

    def _glimpse(
        self, patient: Patient, labels: Tensor, look: Callable[[], None] = lambda: None
    ) -> None:
        """Show what a head of one classifier says of the scan, with the network as it is now."""
        restoring = self.budget.restoring
        if not self.previews.due(restoring):
            return

        def make() -> Segmentation:
            end = time.monotonic() + self.previews.most - restoring
            look()
            with self.budget.timed("glimpse"), torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.asked.seed)
                features = 0 if patient.seen is None else patient.features
                head = PatientHead(
                    patient.volume.shape[1], features, self.outputs, patient.spacing_mm, rounds=1
                )
                head = with_one_member(head)
                classes, seed = self.annotation.classes, self.asked.seed
                learner = Learner(patient, head, labels, None, classes, seed)
                pupil = Pupil(head, learner, seed, self.asked.iterations)
                pupil.learn(0, end - time.monotonic(), lambda *_: None)
                learner.keep()
                model = Model(self.model.path, self._card(self._arguments(patient), 1))
                return self._result(patient, model, learner.probabilities(1))

        self.previews.show(make)

    def _arguments(self, patient: Patient) -> dict[str, Any]:
        spec = patient.spec
        return {
            "in_channels": patient.volume.shape[1],
            "out_channels": self.outputs,
            "spacing_mm": patient.spacing_mm,
            "base": None if spec is None else {"name": spec.name, "kwargs": dict(spec.kwargs)},
            "rounds": ROUNDS,
        }

    def _network(self, patient: Patient) -> AdaptedNetwork:
        self.arguments = self._arguments(patient)
        # The same after an interruption, and whatever was shown on the way.
        torch.manual_seed(self.asked.seed)
        network = AdaptedNetwork(**self.arguments)
        if patient.network is not None:
            assert network.base is not None
            network.base.load_state_dict(patient.network.state_dict())
        return network.eval()

    def _rounds(
        self, patient: Patient, head: PatientHead, labels: Tensor, held_out: Tensor | None
    ) -> Tensor:
        """Train the head round by round; what the best one says of the scan."""
        rounds = Rounds(
            patient,
            head,
            labels,
            held_out,
            self.annotation.classes,
            self.asked.seed,
            self.asked.iterations,
            self.budget,
            self.checkpoint,
        )

        def shown() -> None:
            cost = self.budget.restoring + rounds.found_seconds()
            if self.previews.due(cost) and not self.enough():
                so_far = Model(self.model.path, self._card(self.arguments, rounds.kept))
                self.previews.show(lambda: self._result(patient, so_far, rounds.found()))

        def told(number: int, stage: str, step: int, loss: float) -> None:
            self._tell(number, f"{stage} {number + 1}", step, loss)
            if rounds.kept and self.enough():
                raise Cancelled

        rounds.run(told, shown, self.enough)
        found = rounds.found()
        head.rounds = head.rounds[: rounds.kept]
        return found

    def _tell(self, number: int, stage: str, step: int, loss: float) -> None:
        now = time.monotonic()
        if step % _SHOWN_EVERY and now < self.told + _SECONDS_BETWEEN:
            return
        self.told = now
        dice, deep = self.standing.dice, self.standing.depth != "head"
        # What is kept does not depend on how fast it went.
        if not step % _SHOWN_EVERY and not stage.startswith("judging"):
            self.standing.history.append((self.budget.used, stage, loss, dice))
        metrics, message = {"loss": loss}, f"{stage}: loss {loss:.3f}"
        if dice is not None:
            metrics["held_out_dice"] = dice
            message += f", held-out Dice {dice:.3f}"
        done = number + (deep and stage != "network")
        self.progress(ProgressEvent("finetune", done, ROUNDS + deep, message, metrics))

    def _child(self, network: AdaptedNetwork) -> Model:
        child = Model(self.model.path, self._card(self.arguments, len(network.head.rounds)))
        child.networks = (network.eval(),)
        return child

    def _card(self, arguments: Mapping[str, Any], rounds: int) -> ModelCard:
        standing, dice = self.standing, self.standing.dice
        adaptation = Adaptation(
            **origin(self.parent, self.annotation),
            depth=standing.depth,
            seed=self.asked.seed,
            seconds=round(self.budget.used, 2),
            held_out_dice=None if dice is None else round(dice, 4),
        )
        return adapted_card(self.model.card, {**arguments, "rounds": rounds}, adaptation)
