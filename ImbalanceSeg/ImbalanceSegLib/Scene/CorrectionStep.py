"""What a click or an adaptation has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ImbalanceSegLib.Engine.EngineResult import EngineResult
from ImbalanceSegLib.Scene.BoxChange import BoxChange
from ImbalanceSegLib.Scene.PackedMap import PackedMap
from ImbalanceSegLib.Scene.SegmentAlgorithms import Algorithm


@dataclass(frozen=True)
class CorrectionStep:
    """What a step has changed.

    Attributes:
        kind: ``"click"`` or ``"adapt"``.
        job: its number at the engine.
        segments: labels of the own segments.
        engine: what the engine says.
        annotation: what was painted and clicked.
        described: whose labels they were before, with the voxels left out; None where that stays.
        algorithms: who had made each of the own segments that were there.
        maps: maps before; None for one that was not there.
    """

    kind: str
    job: str
    segments: BoxChange | None = None
    engine: BoxChange | None = None
    annotation: BoxChange | None = None
    described: EngineResult | None = None
    algorithms: Mapping[str, Algorithm] = field(default_factory=dict)
    maps: Mapping[str, PackedMap | None] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Memory of what is kept."""
        kept = (self.segments, self.engine, self.annotation, *self.maps.values())
        return sum(len(change.packed) for change in kept if change is not None)
