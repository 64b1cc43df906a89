"""Where the engine runs and what it may use: preferences of this computer, not of a scene."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

_PREFIX = "ImbalanceSeg/"


class SettingsStore(Protocol):
    """What of ``QSettings`` is needed here."""

    def value(self, key: str) -> Any:
        """What was kept under a key; None for an unknown one."""

    def setValue(self, key: str, value: Any) -> None:
        """Keep a value."""


@dataclass(frozen=True)
class EngineSettings:
    """Where the engine runs and what it may use.

    Attributes:
        place: URL of a server; empty for an engine on this computer.
        token: that the server asks for.
        certificate: file of the authority that signed the server's certificate; empty for one that
            is trusted anyway.
        memoryGb: memory a job may take, in GiB; 0 leaves it to the engine.
        exact: whether the engine computes without shortcuts.
        modelFolders: models of one's own, for an engine on this computer; each is the folder of a
            model, or one in which such folders lie.
        dataFolder: where an engine on this computer keeps scans and results; empty for its own.
    """

    place: str = ""
    token: str = ""
    certificate: str = ""
    memoryGb: float = 0.0
    exact: bool = False
    modelFolders: tuple[str, ...] = ()
    dataFolder: str = ""

    @property
    def isLocal(self) -> bool:
        """Whether the engine runs on this computer, started by the module."""
        return not self.place

    @property
    def connection(self) -> tuple[object, ...]:
        """All that needs another connection when it changes."""
        if self.isLocal:
            return (self.modelFolders, self.dataFolder)
        return (self.place, self.token, self.certificate)

    def jobOptions(self) -> dict[str, Any]:
        """What the settings say of a segmentation, as parameters of the engine."""
        options: dict[str, Any] = self.memoryOptions()
        if self.exact:
            options["exact"] = True
        return options

    def memoryOptions(self) -> dict[str, Any]:
        """What the settings say of the memory of any job, as parameters of the engine."""
        return {"memory_gb": self.memoryGb} if self.memoryGb > 0 else {}

    @classmethod
    def load(cls, settings: SettingsStore) -> EngineSettings:
        """What was saved; defaults where nothing was, or where it cannot be read.

        Args:
            settings: of the application, as ``QSettings``.
        """

        def text(name: str) -> str:
            value = settings.value(_PREFIX + name)
            return "" if value is None else str(value).strip()

        return cls(
            place=text("place"),
            token=text("token"),
            certificate=text("certificate"),
            memoryGb=_number(text("memoryGb")),
            exact=text("exact").lower() in ("true", "1"),
            modelFolders=_texts(text("modelFolders")),
            dataFolder=text("dataFolder"),
        )

    def save(self, settings: SettingsStore) -> None:
        """Keep these settings.

        Args:
            settings: of the application, as ``QSettings``.
        """
        # As text, which every backend of QSettings gives back as it was.
        for name, value in (
            ("place", self.place),
            ("token", self.token),
            ("certificate", self.certificate),
            ("memoryGb", f"{self.memoryGb:g}"),
            ("exact", "true" if self.exact else "false"),
            ("modelFolders", json.dumps(list(self.modelFolders))),
            ("dataFolder", self.dataFolder),
        ):
            settings.setValue(_PREFIX + name, value)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 < value < float("inf") else 0.0


def _texts(text: str) -> tuple[str, ...]:
    try:
        values = json.loads(text) if text else []
    except ValueError:
        return ()
    return tuple(str(value) for value in values) if isinstance(values, list) else ()
