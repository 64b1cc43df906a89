"""The training loop: steps, averaged weights, validation, checkpoints.

Plain torch. What a training framework would add is little here, and what it would take is the exact
order of things: every random number follows from the seed and the iteration, so that a training
that was killed goes on as if it had not been.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from imbalanceseg.errors import ModelError
from imbalanceseg.inference.allocator import kept_memory
from imbalanceseg.inference.device import fast_layout, fast_precision
from imbalanceseg.models.bundle import Model
from imbalanceseg.networks.blocks import FixedNorm, set_statistics
from imbalanceseg.planning.imbalance import Sampling
from imbalanceseg.planning.plan import Plan
from imbalanceseg.progress import ProgressCallback, ProgressEvent
from imbalanceseg.reading import require_memory
from imbalanceseg.training.build import (
    build_network,
    build_optimizer,
    chosen_loss,
    class_count,
    training_patch,
)
from imbalanceseg.training.checkpoint import (
    Standing,
    TrainingState,
    load_checkpoint,
    save_checkpoint,
    save_weights,
)
from imbalanceseg.training.distributed import Ranks
from imbalanceseg.training.fresh_patches import FreshPatches
from imbalanceseg.training.hard_looks import HardLooks
from imbalanceseg.training.learning_of import learning_of
from imbalanceseg.training.log import TrainingLog
from imbalanceseg.training.patches import PatchBatch, PatchPair, PatchSource
from imbalanceseg.training.prefetch import Prefetcher
from imbalanceseg.training.recipe import Recipe
from imbalanceseg.training.schedule import Budget, learning_rate
from imbalanceseg.training.split import Split
from imbalanceseg.training.start_from import begin_with
from imbalanceseg.training.supervision import StepLoss
from imbalanceseg.training.unlabelled import Step, average_into
from imbalanceseg.training.validation import mean_by_class, mean_dice, validate
from imbalanceseg.training.weight_gradients import fast_weight_gradients

Batches = Prefetcher[tuple[PatchBatch, PatchPair | None]]

CHECKPOINT, BEST = "checkpoint.safetensors", "best.safetensors"

_LOG_EVERY = 10
_VALIDATIONS = 40
_CHECKPOINT_SECONDS = 120.0
_MOST_WORKERS = 8
_PATCHES_FOR_STATISTICS = 24
_PATCH_BYTES = 4 + 1 + 4 + 4


class Trainer:
    """One network, trained on one split of a dataset.

    Args:
        plan: of the dataset.
        recipe: the rest.
        split: its prepared cases.
        folder: receives checkpoint, best weights, log and TensorBoard's events; what lies there is
            continued.
        budget: how long.
        seed: of everything random.
        device: to train on.
        ranks: of the processes that train together.
        progress: receives an event a step.
        start_from: a model whose weights the network begins with; None for random ones.
        fresh: see :class:`~.patches.PatchSource`.
    """

    def __init__(
        self,
        plan: Plan,
        recipe: Recipe,
        split: Split,
        folder: Path,
        budget: Budget,
        seed: int,
        device: torch.device,
        ranks: Ranks,
        progress: ProgressCallback,
        start_from: Model | None = None,
        fresh: FreshPatches | None = None,
    ) -> None:
        self.plan, self.recipe, self.split = plan, recipe, split
        self.folder, self.budget, self.seed = folder, budget, seed
        self.device, self.ranks, self.progress = device, ranks, progress
        self.classes = class_count(plan)
        self.layout = fast_layout(device, len(plan.patch))
        self.state = self._begun(start_from)
        self.validated = int(self._share() * _VALIDATIONS)
        self.patch = training_patch(plan, recipe, self.state.network)
        # Image, label, components and weight; a network takes many times that, but fits or is told.
        voxels = (recipe.batch or plan.batch) * math.prod(self.patch)
        require_memory(
            _PATCH_BYTES * voxels,
            f"A batch of patches of {' x '.join(map(str, self.patch))} voxels",
            "Give the recipe a smaller patch or batch.",
        )
        self.network = ranks.wrap(self.state.network)
        self.fast = recipe.precision == "auto" and not self._has_tiny_maps()
        loss = chosen_loss(plan, recipe)
        self.loss = StepLoss(loss, recipe.supervision, recipe.image_labels)
        self.source = PatchSource(
            split.training,
            self.patch,
            recipe.sampling or plan.sampling,
            recipe.augmentation,
            plan.spacing_mm,
            plan.anisotropic,
            seed,
            loss.weight,
            fresh,
        )
        self.pairs = self._unlabelled_source()
        self.looks = HardLooks(self.state, recipe, split, self.source, self.pairs, device)
        if self.standing.iteration == 0 and start_from is None:
            self._set_statistics()
        self.log = TrainingLog(folder, self.classes, self.state.standing.iteration, ranks.leads)

    def _unlabelled_source(self) -> PatchSource | None:
        if self.state.learning is None:
            return None
        if self.ranks.world > 1:
            raise ModelError(
                "unlabelled-one-process",
                "Several processes together cannot learn from images without labels.",
                "Train with one process.",
            )
        return PatchSource(
            self.split.unlabelled,
            self.patch,
            Sampling(),
            self.recipe.augmentation,
            self.plan.spacing_mm,
            self.plan.anisotropic,
            # Other numbers than those of the labelled patches.
            self.seed + 1_000_000,
        )

    @property
    def standing(self) -> Standing:
        """Where the training stands."""
        return self.state.standing

    def run(self) -> nn.Module:
        """Train to the end of the budget.

        Returns:
            The network with the weights of the best validation, in evaluation mode.

        Raises:
            ModelError: ``training-diverged`` when the loss is not finite; the last checkpoint was
                made before. ``out-of-memory`` when not even one patch fits.
        """
        before, started = self.standing.seconds, time.monotonic()
        saved = before
        recent: list[Tensor] = []
        workers = self._workers()
        with kept_memory(), Prefetcher(self._batch, workers) as batches, self.log:
            while not self.standing.ended:
                if self.looks.look(self._share()):
                    batches.forget()
                recent.append(self._fitting_step(batches))
                self.standing.iteration += 1
                seconds = self.ranks.agree([before + time.monotonic() - started])[0]
                self.standing.seconds = seconds
                due, last = self._validation_due(), self._share() >= 1
                if due or last or self.standing.iteration % _LOG_EVERY == 0:
                    loss = self._finite_mean(recent)
                    self.standing.add_loss(self.ranks.agree([loss])[0], len(recent))
                    recent = []
                    self._judge(loss, due or last)
                    self.standing.ended = self.standing.ended or self._end(last)
                    late = seconds - saved > _CHECKPOINT_SECONDS
                    if due or late or self.standing.ended:
                        self._save()
                        saved = seconds
                self._tell()
        return self._best()

    def _begun(self, start_from: Model | None) -> TrainingState:
        network = build_network(self.plan, self.recipe, self.seed)
        if start_from is not None:
            begin_with(network, start_from)
        network.to(self.device, memory_format=self.layout)  # type: ignore[call-overload]
        network.train()
        average = network
        if self.recipe.ema:
            average = copy.deepcopy(network).requires_grad_(False).eval()
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            learning = learning_of(self.recipe, network, self.plan)
        optimizer = build_optimizer(network, self.recipe.optimizer, learning)
        batch = self.recipe.batch or self.plan.batch
        standing = Standing(batch=max(batch, self.ranks.world))
        state = TrainingState(network, average, optimizer, standing, learning=learning)
        if (self.folder / CHECKPOINT).is_file():
            load_checkpoint(state, self.folder / CHECKPOINT)
        return state

    @torch.no_grad()
    def _set_statistics(self) -> None:
        """Of fixed norms, from the first patches; the same in all ranks, whose batches differ."""
        state = self.state
        if any(isinstance(module, FixedNorm) for module in state.network.modules()):
            batches = (self.source.batch(n, 1, 0) for n in range(_PATCHES_FOR_STATISTICS))
            images = (b.image.to(self.device, memory_format=self.layout) for b in batches)
            set_statistics(state.network, images)
            state.average.load_state_dict(state.network.state_dict())

    def _has_tiny_maps(self) -> bool:
        """Whether a processor would get bfloat16 gradients of the coarsest features wrong.

        On processors, torch's bfloat16 convolutions of maps with a side of two voxels give weight
        gradients that are not a number, or change from run to run.
        """
        multiples: tuple[int, ...] = self.state.network.multiples()  # type: ignore[operator]
        coarsest = min(n // m for n, m in zip(self.patch, multiples, strict=True))
        return self.device.type == "cpu" and coarsest <= 2

    def _workers(self) -> int:
        if self.device.type == "cpu":
            return 1
        return max(1, min(_MOST_WORKERS, (os.cpu_count() or 1) // self.ranks.world - 1))

    def _batch(self, iteration: int) -> tuple[PatchBatch, PatchPair | None]:
        # The batch is all ranks' together, so that a training may go on with more of them.
        count = -(-self.standing.batch // self.ranks.world)
        batch = self.source.batch(iteration, count, self.ranks.rank)
        pair = None if self.pairs is None else self.pairs.pair(iteration, count)
        if self.device.type == "cuda":
            batch = batch.each(torch.Tensor.pin_memory)
            pair = None if pair is None else pair.each(torch.Tensor.pin_memory)
        return batch, pair

    def _fitting_step(self, batches: Batches) -> Tensor:
        """One step; with half the batch where memory does not hold all of it."""
        while True:
            try:
                return self._step(*batches.take(self.standing.iteration))
            except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                size = self.standing.batch
                if size == 1 or self.ranks.world > 1:
                    raise ModelError(
                        "out-of-memory",
                        f"Memory does not hold {size} patches of "
                        f"{' x '.join(map(str, self.patch))} voxels.",
                        "Plan with a smaller --memory-gb.",
                    ) from error
            # Outside the handler: what the failed step held is free by now.
            self._halve_batch(batches)

    def _halve_batch(self, batches: Batches) -> None:
        self.standing.batch //= 2
        self.standing.notes.append(
            f"Memory ran out at iteration {self.standing.iteration}: the batch was halved to "
            f"{self.standing.batch}."
        )
        self.state.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        batches.forget()
        self._tell()

    def _step(self, batch: PatchBatch, pair: PatchPair | None) -> Tensor:
        """Loss and norm of the gradient."""
        state, recipe, iteration = self.state, self.recipe, self.standing.iteration
        plateau = self.standing.plateau.factor
        rate = learning_rate(recipe.optimizer, recipe.schedule, iteration, self._share(), plateau)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed((self.seed * 1_000_003 + iteration) * 1009 + self.ranks.rank)
        state.optimizer.zero_grad(set_to_none=True)
        batch = batch.each(lambda part: part.to(self.device, non_blocking=True))
        if state.learning is None or pair is None:
            with self._precision():
                output = self.network(batch.image.to(memory_format=self.layout))
            loss = self.loss(output, batch)
        else:
            pair = pair.each(lambda part: part.to(self.device, non_blocking=True))
            step = Step(batch, pair, self._share(), self.loss, self._precision)
            loss = state.learning.loss(self.network, step)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(state.network.parameters(), recipe.gradient_clip)
        state.optimizer.step()
        if state.learning is not None:
            state.learning.after_step(state.network, iteration)
        if recipe.ema:
            decay = min(recipe.ema, (1 + iteration) / (10 + iteration))
            average_into(state.average, state.network, decay)
        return torch.stack([loss.detach(), norm.detach()])

    @contextmanager
    def _precision(self) -> Iterator[None]:
        fast = fast_precision(self.device) if self.fast else nullcontext()
        with fast, fast_weight_gradients(self.device):
            yield

    def _share(self) -> float:
        return self.budget.share(self.standing.iteration, self.standing.seconds)

    def _validation_due(self) -> bool:
        iteration = self.standing.iteration
        if self.recipe.validate_every:
            return iteration % self.recipe.validate_every == 0
        if self.budget.iterations and not self.budget.seconds:
            return iteration % max(1, self.budget.iterations // _VALIDATIONS) == 0
        done = int(self._share() * _VALIDATIONS)
        due, self.validated = done > self.validated, done
        return due

    def _finite_mean(self, recent: Sequence[Tensor]) -> float:
        """Mean loss since the last look.

        Looked at only now and then, because it makes a GPU wait.
        """
        figures = torch.stack(list(recent)).cpu()
        broken = (~torch.isfinite(figures).all(1)).nonzero()
        if len(broken):
            iteration = self.standing.iteration - len(recent) + int(broken[0])
            raise ModelError(
                "training-diverged",
                f"The loss is not finite at iteration {iteration}; the last good checkpoint and "
                "the best weights are kept.",
                "Lower optimizer.learning_rate in the recipe, and start again.",
            )
        return float(figures[:, 0].mean())

    def _judge(self, loss: float, validated: bool) -> None:
        """Log, and at a validation keep the weights that do best."""
        dice: list[float] = []
        if validated and self.ranks.leads:
            dice = self._validate()
        if validated:
            self.standing.plateau.heard(self.standing.take_mean_loss(), self.recipe.schedule)
        if self.ranks.leads:
            rate = self.state.optimizer.param_groups[0]["lr"]
            self.log.row(self.standing.iteration, self.standing.seconds, loss, rate, dice)

    def _validate(self) -> list[float]:
        """Mean Dice and Dice by class; NaN where nothing can be judged."""
        if not self.split.validation:
            save_weights(self.state.average, self.folder / BEST)
            return []
        scores = validate(
            self.state.average, self.split.validation, self.patch, self.classes, self.device
        )
        mean, standing = mean_dice(scores), self.standing
        # While no validation has found anything, or none can, later weights are better ones.
        if mean > standing.best_dice or standing.best_dice <= 0:
            standing.best_dice = max(standing.best_dice, 0.0 if math.isnan(mean) else mean)
            standing.best_iteration = standing.iteration
            standing.validations_without_gain = 0
            save_weights(self.state.average, self.folder / BEST)
        else:
            standing.validations_without_gain += 1
        return [mean, *(math.nan if d is None else d for d in mean_by_class(scores))]

    def _end(self, last: bool) -> str:
        """Why the training is over; empty while it is not."""
        standing, recipe = self.standing, self.recipe
        patience = recipe.early_stopping
        waited = self.ranks.agree([standing.validations_without_gain])[0]
        if last:
            return "the budget is used up"
        if patience and waited >= patience:
            return f"no better Dice in {patience} validations"
        if recipe.schedule.name == "plateau" and standing.plateau.factor < recipe.schedule.lowest:
            return "the learning rate has fallen to its end"
        return ""

    def _save(self) -> None:
        if self.ranks.leads:
            save_checkpoint(self.state, self.folder / CHECKPOINT)
        self.ranks.wait()

    def _tell(self) -> None:
        standing, budget = self.standing, self.budget
        metrics = {"iteration": float(standing.iteration), **self.log.latest}
        if budget.seconds:
            done, total = int(min(standing.seconds, budget.seconds)), int(budget.seconds)
        else:
            done, total = standing.iteration, budget.iterations or 0
        known = {name: value for name, value in metrics.items() if not math.isnan(value)}
        shown = [f"{name} {known[name]:.3f}" for name in ("loss", "dice") if name in known]
        notes = standing.notes[-1:]
        self.progress(ProgressEvent("train", done, total, ", ".join([*shown, *notes]), metrics))

    def _best(self) -> nn.Module:
        self.ranks.wait()
        network = copy.deepcopy(self.state.network).eval()
        network.load_state_dict(load_file(self.folder / BEST))
        return network


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "can't allocate memory" in str(error) or "out of memory" in str(error).lower()
