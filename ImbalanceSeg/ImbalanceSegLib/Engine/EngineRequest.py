"""What the engine is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class EngineRequest:
    """One image to segment.

    Attributes:
        scanPath: image file.
        outputFolder: folder that receives the result.
        model: name of a shipped model, or the folder of a model bundle.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        maps: names of the maps wanted beside the labels.
    """

    scanPath: Path
    outputFolder: Path
    model: str
    device: str = "auto"
    maps: tuple[str, ...] = ("hardness",)

    def arguments(self) -> list[str]:
        """The request as arguments of the engine's command line."""
        arguments = [
            "segment",
            str(self.scanPath),
            "--model",
            self.model,
            "-o",
            str(self.outputFolder),
            "--device",
            self.device,
        ]
        for name in self.maps or ("none",):
            arguments += ["--maps", name]
        return [*arguments, "--progress", "json"]
