"""The rounds of a patient's head: taught on all that is painted, judged by a slice held out.

Beside the head that is wanted a smaller one learns the same without that slice. It says after how
many rounds the slice is segmented best; what it costs is nothing but time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn

from imbalanceseg.annotation.annotation import Annotation
from imbalanceseg.errors import Cancelled
from imbalanceseg.networks.adapted import PatientHead
from imbalanceseg.networks.voxel_classifier import VoxelClassifier
from imbalanceseg.training.finetune_checkpoint import AdaptationCheckpoint
from imbalanceseg.training.finetune_clock import TimeBudget
from imbalanceseg.training.learner import Learner
from imbalanceseg.training.painted_rows import teach
from imbalanceseg.training.patient import Patient

FOREGROUND_TO_JUDGE_BY = 300
_NOISE_OF_DICE = 0.1
"""Of one slice: a round that is worse by less is not worse."""
_WORSE_ROUNDS = 2
_MARGIN = 1.5
"""Rounds that come later may take so much longer before judging costs one of them."""

Told = Callable[[int, str, int, float], None]
"""Receives number of the round, what is done in it, step and loss."""


class Pupil:
    """A head and what it learns from.

    Args:
        head: to teach.
        learner: of the head.
        seed: of the voxels that are drawn.
        iterations: steps of a round; as many as are usual when None.
        stage: what its training is called, ``"round"`` say.
    """

    def __init__(
        self,
        head: PatientHead,
        learner: Learner,
        seed: int,
        iterations: int | None,
        stage: str = "round",
    ) -> None:
        self.head, self.learner, self.stage = head, learner, stage
        self.generator = torch.Generator().manual_seed(seed)
        self._steps = {} if iterations is None else {"steps": iterations}

    def learn(self, number: int, seconds: float, told: Told) -> bool:
        """Go through a round; False when time has ended it.

        Args:
            number: of the round, from 0.
            seconds: that the teaching may take.
            told: receives steps and losses.
        """
        until = time.monotonic() + seconds
        lesson = self.learner.lesson(number)
        members = cast(nn.ModuleList, self.head.rounds[number])
        for count, classifier in enumerate(members):
            now = time.monotonic()
            teach(
                cast(VoxelClassifier, classifier),
                lesson,
                self.generator,
                **self._steps,
                # Whoever comes last gets a share, too.
                deadline=now + (until - now) / (len(members) - count),
                told=lambda step, loss: told(number, self.stage, step, loss),
            )
        in_time = time.monotonic() <= until
        self.learner.advance(number)
        return in_time


class Rounds:
    """Teaches a head round by round, as long as that helps and time is left.

    Args:
        patient: the scan.
        head: to teach; changed in place.
        labels: uint8 on the working grid, 255 unlabelled.
        held_out: the same of the slice that judges, or None.
        classes: that were looked for, or None for all.
        seed: of everything random.
        iterations: see :class:`Pupil`.
        budget: of time.
        checkpoint: rounds that it holds are not taught again.

    Attributes:
        kept: how many rounds are best.
        dice: of the held-out slice after these, or None.
    """

    def __init__(
        self,
        patient: Patient,
        head: PatientHead,
        labels: Tensor,
        held_out: Tensor | None,
        classes: Sequence[int] | None,
        seed: int,
        iterations: int | None,
        budget: TimeBudget,
        checkpoint: AdaptationCheckpoint,
    ) -> None:
        self._budget, self._checkpoint = budget, checkpoint
        self._standing = checkpoint.standing
        learner = Learner(patient, head, labels, None, classes, seed)
        # Once for all rounds, so it must not count as what a round takes.
        learner.look()
        self._pupil = Pupil(head, learner, seed, iterations)
        self._judge: Pupil | None = None
        if held_out is not None and self._standing.judging:
            smaller = with_one_member(head)
            without = Learner(patient, smaller, labels, held_out, classes, seed, learner)
            self._judge = Pupil(smaller, without, seed, iterations, "judging round")
        if self._standing.rounds:
            self._restore()

    @property
    def kept(self) -> int:
        """How many rounds are best."""
        return self._standing.kept

    @property
    def dice(self) -> float | None:
        """Of the held-out slice after these."""
        return self._standing.dice

    def found(self) -> Tensor:
        """What the rounds that are kept say of the scan, ``[K, ...]``."""
        return self._pupil.learner.probabilities(self.kept)

    def found_seconds(self) -> float:
        """What :meth:`found` will take."""
        return self._pupil.learner.probabilities_seconds(self.kept)

    def run(
        self, told: Told, shown: Callable[[], None], enough: Callable[[], bool] = lambda: False
    ) -> None:
        """Teach what is left to teach.

        Args:
            told: receives steps and losses. Where it raises :class:`Cancelled` after the first
                round, the best so far is kept.
            shown: called when the rounds kept say something new and more will follow.
            enough: no round but the first is begun once this says yes.
        """
        first, total = self._standing.rounds, len(self._pupil.head.rounds)
        for number in range(first, total):
            if number and not self._budget.allows(*self._another(number)):
                return
            if number - self.kept >= _WORSE_ROUNDS or (number and enough()):
                return
            try:
                if self.kept == number and (number > 1 or number == first > 0):
                    shown()
                if not self._round(number, told, shown):
                    return
            except Cancelled:
                if not self.kept:
                    raise
                return

    def _another(self, number: int) -> tuple[float, ...]:
        """Seconds of one more round, and from it to the segmentation."""
        learner = self._pupil.learner
        one = self._budget.expected("round") + learner.longer_seconds
        return one, learner.probabilities_seconds(number + 1), self._budget.restoring

    @property
    def _ending(self) -> float:
        """Seconds from the last round to the segmentation."""
        return self.found_seconds() + self._budget.restoring

    def _round(self, number: int, told: Told, shown: Callable[[], None]) -> bool:
        """Whether the round was taught as it should be."""
        with self._budget.timed("round"):
            in_time = self._pupil.learn(number, self._budget.left - self._ending, told)
        if number and not in_time:
            # Half of its schedule leaves a classifier worse than the round before.
            return False
        if not number:
            self._keep(1, None)
            shown()
        dice = self._judged(number, told)
        standing = self._standing
        if dice is None or dice >= standing.best_dice - _NOISE_OF_DICE:
            standing.best_dice = max(standing.best_dice, -1.0 if dice is None else dice)
            self._keep(number + 1, dice)
        standing.rounds = number + 1
        self._save()
        return True

    def _judged(self, number: int, told: Told) -> float | None:
        """Dice of the held-out slice, while there is time to ask it."""
        if self._judge is None:
            return None
        each = self._budget.expected("round")
        rest = _MARGIN * each * (len(self._pupil.head.rounds) - number - 1)
        cost = self._budget.expected("judging", each)
        if not self._budget.allows(rest, cost, self._ending):
            # Rounds are worth more than knowing which of them is best.
            self._stop_judging()
            return None
        with self._budget.timed("judging"):
            in_time = self._judge.learn(number, self._budget.left - rest - self._ending, told)
        if not in_time:
            self._stop_judging()
            return None
        return self._judge.learner.held_out_dice(number)

    def _stop_judging(self) -> None:
        self._judge = None
        self._standing.judging = False

    def _keep(self, rounds: int, dice: float | None) -> None:
        self._standing.kept, self._standing.dice = rounds, dice
        self._pupil.learner.keep()

    def _save(self) -> None:
        for name, pupil in (("head.", self._pupil), ("judge.", self._judge)):
            kept = {}
            if pupil is not None:
                kept = {f"weights.{k}": v for k, v in pupil.head.state_dict().items()}
                kept["random"] = pupil.generator.get_state()
            self._checkpoint.put(name, kept)
        self._checkpoint.save(self._budget.used)

    def _restore(self) -> None:
        """Think again what the rounds that are done have thought."""
        for name, pupil in (("head.", self._pupil), ("judge.", self._judge)):
            if pupil is None:
                continue
            try:
                pupil.head.load_state_dict(self._checkpoint.part(f"{name}weights."))
                pupil.generator.set_state(self._checkpoint.tensors[f"{name}random"])
            except (KeyError, RuntimeError, TypeError) as error:
                raise self._checkpoint.damaged(error) from error
            pupil.head.eval()
            for number in range(self._standing.rounds):
                pupil.learner.advance(number)
                if number + 1 == self.kept:
                    pupil.learner.keep()


def with_one_member(head: PatientHead) -> PatientHead:
    """A copy that asks a single classifier a round."""
    smaller = deepcopy(head)
    smaller.rounds = nn.ModuleList(
        nn.ModuleList([cast(nn.ModuleList, members)[0]]) for members in smaller.rounds
    )
    return smaller


def held_out_labels(annotation: Annotation, patient: Patient, slices: int) -> Tensor | None:
    """The labels of one confirmed slice alone, where one can be spared and shows enough.

    Args:
        annotation: of the scan.
        patient: the scan.
        slices: that must be confirmed for one to be spared.

    Returns:
        uint8 on the working grid, 255 elsewhere; None where none can.
    """
    confirmed = sorted(annotation.confirmed)
    if len(confirmed) < slices:
        return None
    one = confirmed[len(confirmed) // 2]
    plane = annotation.plane(one.axis, one.index)
    if int((plane > 0).sum()) < FOREGROUND_TO_JUDGE_BY:
        return None
    alone = Annotation(annotation.grid)
    alone.paint_slice(one.axis, one.index, plane)
    return patient.labels(alone)
