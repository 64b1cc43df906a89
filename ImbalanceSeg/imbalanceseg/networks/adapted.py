"""A network and, behind it, what one patient's annotation has taught.

The cheap part of an adaptation is a classifier of voxels. It sees the network's last features and
logits and, like ilastik, intensity at several scales; and it sees what it thought of the
neighbourhood the round before (auto-context: Tu and Bai, IEEE TPAMI 32(10), 2010). Without a
network it works from intensity alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from imbalanceseg.networks.factory import create_network
from imbalanceseg.networks.features import feature_channels, features_and_logits
from imbalanceseg.networks.scale_space import STRUCTURE_MAPS, local_structure, pooling, smoothed
from imbalanceseg.networks.sizes import require_multiples
from imbalanceseg.networks.voxel_classifier import VoxelClassifier

_SCALES = (0.7, 1.0, 1.6, 3.5, 5.0)
_CONTEXT_SCALES = (1.0, 2.0, 4.0, 8.0)
"""Both in units of the finest spacing."""


class PatientHead(nn.Module):
    """Rounds of voxel classifiers, each of which sees what the one before thought.

    Args:
        in_channels: image channels.
        features: channels of the network's last features; 0 where there is no network.
        out_channels: of the logits, as the network has: 1 is binary.
        spacing_mm: of the grid along Z, Y and X.
        rounds: how often the neighbourhood is asked, and once more.
        members: classifiers of a round, whose logits are averaged.
        hidden: channels within a classifier.
    """

    def __init__(
        self,
        in_channels: int,
        features: int,
        out_channels: int,
        spacing_mm: Sequence[float],
        rounds: int = 5,
        members: int = 3,
        hidden: int = 32,
    ) -> None:
        super().__init__()
        self.in_channels, self.features, self.out_channels = in_channels, features, out_channels
        self.spacing_mm = tuple(float(step) for step in spacing_mm)
        finest = min(self.spacing_mm)
        self.scales_mm = [scale * finest for scale in _SCALES]
        self.context_mm = [scale * finest for scale in _CONTEXT_SCALES]
        own = in_channels * (1 + STRUCTURE_MAPS * len(_SCALES))
        own += features + out_channels if features else 0
        self.own_channels = own
        context = max(1, out_channels - 1) * len(_CONTEXT_SCALES)
        self.bytes_per_voxel = 4 * (2 * own + 2 * context + 2 * hidden + 4 * out_channels)
        self.rounds = nn.ModuleList(
            nn.ModuleList(
                VoxelClassifier(
                    own + (context if n else 0), out_channels, hidden, from_zero=features > 0
                )
                for _ in range(members)
            )
            for n in range(rounds)
        )

    def forward(self, image: Tensor, seen: Tensor | None = None) -> Tensor:
        """Logits ``[B, out_channels, Z, Y, X]``.

        Args:
            image: ``[B, in_channels, Z, Y, X]``, sides multiples of :meth:`multiples`.
            seen: the network's features and then its logits, ``[B, features + out_channels, ...]``.
        """
        return self.logits(self.columns(image, seen), self.start(seen), len(self.rounds))

    def logits(self, columns: Tensor, start: Tensor | None, rounds: int) -> Tensor:
        """Logits after the first of the rounds, of what the first classifier sees."""
        logits = None
        for number in range(rounds):
            logits = self.answered(number, columns, logits, start)
        assert logits is not None
        return logits

    def answered(
        self, number: int, columns: Tensor, logits: Tensor | None, start: Tensor | None
    ) -> Tensor:
        """Logits of one round.

        Args:
            number: of the round, from 0.
            columns: what the first classifier sees.
            logits: of the round before, or None.
            start: the network's logits, or None.
        """
        members = self.rounds[number]
        assert isinstance(members, nn.ModuleList)
        seen = self.with_context(columns, logits)
        each = [self.answer(one, seen, start) for one in members]
        return torch.stack(each).mean(0) if len(each) > 1 else each[0]

    def until(self, rounds: int) -> PatientHead:
        """The same classifiers, without the later rounds."""
        shorter = copy(self)
        shorter._modules = {**self._modules, "rounds": self.rounds[:rounds]}
        return shorter

    def multiples(self) -> tuple[int, ...]:
        """What the sides (Z, Y, X) of an input must be multiples of."""
        wide = max(*self.scales_mm, *self.context_mm)
        return pooling(wide, self.spacing_mm)

    def columns(self, image: Tensor, seen: Tensor | None) -> Tensor:
        """What the first classifier sees, ``[B, C, ...]``."""
        scales = [local_structure(image, sigma, self.spacing_mm) for sigma in self.scales_mm]
        return torch.cat([image, *scales, *([] if seen is None else [seen.to(image.dtype)])], dim=1)

    def with_context(self, columns: Tensor, logits: Tensor | None) -> Tensor:
        """``columns`` and behind them the smoothed foreground probabilities of a round."""
        if logits is None:
            return columns
        binary = self.out_channels == 1
        found = torch.sigmoid(logits) if binary else torch.softmax(logits, 1)[:, 1:]
        around = [smoothed(found, sigma, self.spacing_mm) for sigma in self.context_mm]
        return torch.cat([columns, *around], dim=1)

    def start(self, seen: Tensor | None) -> Tensor | None:
        """The network's logits, which a classifier adds to."""
        return None if seen is None else seen[:, self.features :].float()

    @staticmethod
    def answer(classifier: nn.Module, columns: Tensor, start: Tensor | None) -> Tensor:
        """Logits of a round."""
        change: Tensor = classifier(columns)
        return change if start is None else start + change


class AdaptedNetwork(nn.Module):
    """A network adapted to a patient.

    Before training it says what the network says.

    Args:
        in_channels: image channels.
        out_channels: channels of the logits.
        spacing_mm: of the grid that it works on, along Z, Y and X.
        base: ``{"name": ..., "kwargs": {...}}`` of the network, or None for none.
        rounds: see :class:`PatientHead`.
        members: see :class:`PatientHead`.
        hidden: see :class:`PatientHead`.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
        base: Mapping[str, Any] | None = None,
        rounds: int = 5,
        members: int = 3,
        hidden: int = 32,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.base = None if base is None else create_network(base["name"], **base["kwargs"])
        features = 0 if self.base is None else feature_channels(self.base)
        self.head = PatientHead(
            in_channels, features, out_channels, spacing_mm, rounds, members, hidden
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, out_channels, Z, Y, X]``.

        Raises:
            InputError: ``size-not-multiple``.
        """
        require_multiples(x, self.multiples(), normalised=False)
        found: Tensor = self.head(x, self.seen(x))
        return found

    @property
    def feature_channels(self) -> int:
        """Of :meth:`features_and_logits`."""
        return self.head.features or self.out_channels

    def features_and_logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The features of the network behind, and the adapted logits; without one these twice."""
        seen = self.seen(x)
        logits = self.head(x, seen)
        return logits if seen is None else seen[:, : self.head.features], logits

    def seen(self, x: Tensor) -> Tensor | None:
        """The network's features and logits, ``[B, C, Z, Y, X]``, or None."""
        if self.base is None:
            return None
        features, logits = features_and_logits(self.base, x)
        return torch.cat([features.float(), logits.float()], dim=1)

    def multiples(self) -> tuple[int, ...]:
        """What the sides (Z, Y, X) of an input must be multiples of."""
        own = self.head.multiples()
        known = getattr(self.base, "multiples", None)
        if known is None:
            return own
        return tuple(max(a, b) for a, b in zip(own, known(), strict=True))
