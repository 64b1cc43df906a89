"""What a model says of a patch: probability, and the maps that were asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations
from typing import cast

import torch
from torch import Tensor, nn

from imbalanceseg.errors import InputError, ModelError
from imbalanceseg.inference.hardness import HARDNESS_KINDS, disagreement
from imbalanceseg.inference.pruning import pruned_copy
from imbalanceseg.models.bundle import Model
from imbalanceseg.models.card import HardnessKind, ModelCard, output_channels
from imbalanceseg.networks.features import features_and_logits
from imbalanceseg.networks.wingsnet import WingsNet

MAPS = ("attention", "attention-levels", "hardness")
"""Names of maps. ``attention`` is the mean of the levels, finest last."""

Seen = Callable[[Tensor], Tensor]
"""From a patch ``[B, C, ...]`` to what :class:`MappedNetwork` says of it."""


@dataclass(frozen=True)
class MapRequest:
    """Which maps to make of a model, and from how many copies of a patch.

    Attributes:
        classes: channels of probability; one of a single segment.
        levels: of attention; 0 where none is asked for.
        attention: ask for their mean.
        attention_levels: ask for each of them.
        hardness: its kind, or None.
        features: what the network sees of a voxel last, and its logits; 0 where not asked for.
        mirrored: axes of ``[B, C, ...]`` along which each copy is mirrored, the plain one first.
        averaged: how many of those copies the probability is the mean of; the others serve the
            hardness map alone.
    """

    classes: int
    levels: int = 0
    attention: bool = False
    attention_levels: bool = False
    hardness: HardnessKind | None = None
    features: int = 0
    mirrored: tuple[tuple[int, ...], ...] = ((),)
    averaged: int = 1

    @property
    def names(self) -> list[str]:
        """What the channels behind the probabilities are."""
        return [
            *(["attention"] if self.attention else []),
            *([f"attention {n + 1}" for n in range(self.levels)] if self.attention_levels else []),
            *[f"feature {n + 1}" for n in range(self.features)],
            *(["hardness"] if self.hardness not in (None, "entropy") else []),
        ]

    @property
    def made(self) -> list[str]:
        """All maps in the end: entropy follows from the probabilities."""
        return [*self.names, *(["hardness"] if self.hardness == "entropy" else [])]


def map_request(
    model: Model, maps: Sequence[str], kind: HardnessKind | None, tta: bool
) -> tuple[MapRequest, list[str]]:
    """What to make for the maps asked for, and notes on what cannot be made.

    Args:
        model: its card says which hardness is meant where ``kind`` is None.
        maps: some of :data:`MAPS`.
        kind: of hardness.
        tta: average over copies mirrored along the axes of the card.

    Raises:
        InputError: ``map-unknown`` or ``hardness-unknown``.
        ModelError: ``model-outputs``.
    """
    for name in maps:
        if isinstance(maps, str) or name not in MAPS:
            wrong = maps if isinstance(maps, str) else name
            raise InputError(
                "map-unknown", f"There is no map named {wrong!r}.", f"Maps are {', '.join(MAPS)}."
            )
    if kind is not None and kind not in HARDNESS_KINDS:
        raise InputError(
            "hardness-unknown",
            f"There is no hardness of the kind {kind!r}.",
            f"Kinds are {', '.join(HARDNESS_KINDS)}.",
        )
    notes = []
    asked = "attention" in maps or "attention-levels" in maps
    levels = attention_count(model.network) if asked else 0
    if asked and not levels:
        notes.append(f"The {model.name} model has no attention map.")
    hardness = (kind or model.card.hardness.kind) if "hardness" in maps else None
    mirrored = _mirrored(model.card) if tta or hardness == "tta" else [()]
    if hardness == "ensemble" and len(model.networks) == 1:
        notes.append(f"The {model.name} model is a single network, which has no ensemble hardness.")
        hardness = None
    if hardness == "tta" and len(mirrored) == 1:
        notes.append(f"The {model.name} model knows no mirrored copies, so no tta hardness.")
        hardness = None
    # One mirrored copy is enough to disagree with, at the price of one more pass.
    copies = mirrored if tta else [mirrored[0], mirrored[-1]] if hardness == "tta" else [()]
    return MapRequest(
        classes=_classes(model),
        levels=levels,
        attention="attention" in maps and levels > 0,
        attention_levels="attention-levels" in maps and levels > 0,
        hardness=hardness,
        mirrored=tuple(copies),
        averaged=len(copies) if tta else 1,
    ), notes


def attention_count(network: nn.Module) -> int:
    """How many attention maps a network has to show."""
    if isinstance(network, WingsNet):
        return len(network.decoder)
    offered = getattr(network, "attention", None)
    if not hasattr(network, "forward_with_attention") or not isinstance(offered, nn.ModuleList):
        return 0
    levels = sum(not isinstance(m, nn.Identity) for m in offered)
    return levels + (getattr(network, "before_bottom", None) is not None)


class MappedNetwork(nn.Module):
    """A network that gives its probabilities and, behind them, its maps.

    Args:
        network: in evaluation mode; it is used, not copied.
        request: which maps.
        sparsity: of the copy that the pruning hardness compares with.
    """

    def __init__(self, network: nn.Module, request: MapRequest, sparsity: float) -> None:
        super().__init__()
        self.network = network
        self.levels, self.features = request.levels, request.features
        pruning = request.hardness == "pruning"
        self.weakened = pruned_copy(network, sparsity) if pruning else None

    def forward(self, patch: Tensor) -> Tensor:
        """Probabilities, attention levels and pruning hardness of a patch, ``[B, M, ...]``."""
        behind = []
        if self.levels:
            logits, attention = cast(WingsNet, self.network).forward_with_attention(patch)
            behind.append(attention.float())
        elif self.features:
            seen, logits = features_and_logits(self.network, patch)
            behind += [seen.float(), logits.float()]
        else:
            logits = self.network(patch)
        dense = probability(logits.float())
        if self.weakened is not None:
            behind.append(disagreement([dense, probability(self.weakened(patch).float())]))
        return torch.cat([dense, *behind], dim=1) if behind else dense


def maps_of_tile(networks: Sequence[Seen], request: MapRequest, patch: Tensor) -> Tensor:
    """Probabilities and maps of a patch, averaged over networks and mirrored copies.

    Args:
        networks: each as :class:`MappedNetwork`.
        request: the same as theirs.
        patch: ``[B, C, ...]``.

    Returns:
        ``[B, M, ...]``: probabilities, then ``request.names``.
    """
    seen = [
        [mirrored_back(network, patch, axes) for axes in request.mirrored] for network in networks
    ]
    averaged = [one for copies in seen for one in copies[: request.averaged]]
    mean = averaged[0] if len(averaged) == 1 else torch.stack(averaged).mean(0)
    classes, levels, features = request.classes, request.levels, request.features
    found = [mean[:, :classes]]
    attention = mean[:, classes : classes + levels]
    if request.attention:
        found.append(attention.mean(1, keepdim=True))
    if request.attention_levels:
        found.append(attention)
    if features:
        found.append(mean[:, classes + levels : classes + levels + features])
    if request.hardness == "pruning":
        found.append(mean[:, classes + levels + features :])
    elif request.hardness == "tta":
        each = [disagreement([one[:, :classes] for one in copies]) for copies in seen]
        found.append(torch.stack(each).mean(0))
    elif request.hardness == "ensemble":
        found.append(
            disagreement(
                [
                    torch.stack([one[:, :classes] for one in copies[: request.averaged]]).mean(0)
                    for copies in seen
                ]
            )
        )
    return torch.cat(found, dim=1)


def mirrored_back(network: Seen, patch: Tensor, axes: tuple[int, ...]) -> Tensor:
    """What a network says of a mirrored patch, mirrored back; axes of ``[B, C, ...]``."""
    return network(patch.flip(axes)).flip(axes) if axes else network(patch)


def probability(logits: Tensor) -> Tensor:
    """Sigmoid of one channel of logits, softmax of several; ``[B, C, ...]``."""
    return torch.sigmoid(logits) if logits.shape[1] == 1 else torch.softmax(logits, 1)


def _mirrored(card: ModelCard) -> list[tuple[int, ...]]:
    axes = [axis + 2 for axis in card.mirrored_axes]
    return list(chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1)))


def _classes(model: Model) -> int:
    segments = len(model.segments)
    declared = output_channels(model.card)
    if declared == segments + 1 or declared == segments == 1:
        return declared
    raise ModelError(
        "model-outputs",
        f"The network of the {model.name} model has {declared} channels of logits, and its card "
        f"names {segments} segment(s).",
        "A network gives background and every segment, or one channel for a single segment.",
    )
