"""Looks at all training cases now and then, so that a training attends to what is hard.

What the network misses of thin structures, and on which cases it and weakened copies of it
disagree, decides from where patches are drawn from then on, and how much they count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from imbalanceseg.inference.pruning import pruned_copy
from imbalanceseg.networks.blocks import FixedNorm
from imbalanceseg.planning.prepare import PreparedCase
from imbalanceseg.training.checkpoint import TrainingState
from imbalanceseg.training.hard_samples import disagreement, sample_weights
from imbalanceseg.training.hard_skeleton import missed_centreline
from imbalanceseg.training.patches import PatchSource
from imbalanceseg.training.recipe import Recipe
from imbalanceseg.training.split import Split
from imbalanceseg.training.validation import case_probability, labels_of

_ROUNDING = 1e-9
_SEEN_AT_ONCE = 4


class HardLooks:
    """What is hard, as it was found last; it lies in the state, so that a training goes on with it.

    Args:
        state: of the training, whose averaged network looks.
        recipe: says what is looked for, and when.
        split: cases to look at.
        source: of labelled patches; draws them by what was found.
        pairs: of unlabelled ones; None where there are none.
        device: to look on.
    """

    def __init__(
        self,
        state: TrainingState,
        recipe: Recipe,
        split: Split,
        source: PatchSource,
        pairs: PatchSource | None,
        device: torch.device,
    ) -> None:
        self._state, self._recipe, self._split = state, recipe, split
        self._source, self._pairs, self._device = source, pairs, device
        self._source.hard_places = state.hard_places
        self._attend()

    def look(self, share: float) -> bool:
        """Look, where it is time to, and say whether patches are drawn in another way now.

        Args:
            share: of the budget that is used up.
        """
        places, cases = self._places_are_due(), self._cases_are_due(share)
        if not (places or cases):
            return False
        self._state.average.eval()
        if places:
            self._look_for_places()
        if cases:
            self._look_for_cases()
        self._state.network.train()
        return True

    def _places_are_due(self) -> bool:
        iteration, every = self._state.standing.iteration, self._recipe.hard_skeleton_every
        wanted = self._source.sampling.hard_skeleton > 0
        return wanted and iteration > 0 and iteration % every == 0

    def _cases_are_due(self, share: float) -> bool:
        hard, looks = self._recipe.attended, self._state.standing.looks
        return hard is not None and share >= hard.after + looks * hard.every - _ROUNDING

    def _look_for_places(self) -> None:
        network, found = self._state.average, {}
        # Of an image that is only known to show something no centreline is known.
        for case in (one for one in self._split.training if one.shows is None):
            tile = look_tile(network, case.shape, self._source.patch)
            predicted = labels_of(case_probability([network], case, tile, self._device))
            found[case.name] = missed_centreline(case.label(), predicted)
        self._state.hard_places = self._source.hard_places = found

    def _look_for_cases(self) -> None:
        hard, standing = self._recipe.attended, self._state.standing
        assert hard is not None
        copies = [pruned_copy(self._state.average, sparsity) for sparsity in hard.sparsities]
        standing.case_weights = self._weights(self._split.training, copies, hard.strength)
        if self._pairs is not None:
            standing.unlabelled_weights = self._weights(
                self._split.unlabelled, copies, hard.strength
            )
        standing.looks += 1
        self._attend()

    def _weights(
        self, cases: Sequence[PreparedCase], copies: Sequence[nn.Module], strength: float
    ) -> dict[str, float]:
        found = []
        for case in cases:
            dense, *weakened = (
                labels_of(case_probability([one], case, self._source.patch, self._device))
                for one in (self._state.average, *copies)
            )
            found.append(disagreement(dense, weakened))
        weights = sample_weights(found, strength).tolist()
        return dict(zip([case.name for case in cases], weights, strict=True))

    def _attend(self) -> None:
        hard, standing = self._recipe.attended, self._state.standing
        if hard is None:
            return
        if hard.use in ("sampling", "both"):
            self._source.case_weights = standing.case_weights
        if hard.use in ("loss", "both"):
            self._source.importances = standing.case_weights
        if self._pairs is not None:
            self._pairs.importances = standing.unlabelled_weights


def look_tile(network: nn.Module, shape: Sequence[int], patch: Sequence[int]) -> tuple[int, ...]:
    """Sides of the tiles in which a case is looked at while training.

    A network that says the same in every tile sees a small case at once, which takes less than half
    the time of overlapping tiles; another one sees patches, as it is trained on.

    Args:
        network: with ``multiples()``.
        shape: of the case.
        patch: of the training.
    """
    same_everywhere = any(isinstance(module, FixedNorm) for module in network.modules())
    multiples: tuple[int, ...] = network.multiples()  # type: ignore[operator]
    whole = tuple(-(-n // m) * m for n, m in zip(shape, multiples, strict=True))
    small = math.prod(whole) <= _SEEN_AT_ONCE * math.prod(patch)
    return whole if same_everywhere and small else tuple(patch)
