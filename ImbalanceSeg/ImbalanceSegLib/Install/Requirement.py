"""One Python package that the engine needs."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass


@dataclass(frozen=True)
class Requirement:
    """One Python package that the engine needs.

    Attributes:
        name: of the package, as it was written.
        specifier: versions that will do, such as ``">=1.5"``; empty for any.
        megabytes: rough size of the download, with what the package needs in its turn.
    """

    name: str
    specifier: str
    megabytes: int = 1

    @property
    def text(self) -> str:
        """As pip reads it."""
        return f"{self.name}{self.specifier}"

    @property
    def installedVersion(self) -> str:
        """That is installed; empty for none. Nothing is imported."""
        try:
            return importlib.metadata.version(self.name)
        except importlib.metadata.PackageNotFoundError:
            return ""

    @property
    def isInstalled(self) -> bool:
        """Whether a version that will do is installed."""
        version = self.installedVersion
        if not version:
            return False
        return parsed(self.text).specifier.contains(version, prereleases=True)


def parsed(line: str):  # type: ignore[no-untyped-def]
    """A line of a requirements file as ``packaging`` understands it."""
    try:
        from packaging.requirements import Requirement as Parsed
    except ModuleNotFoundError:
        # Older Slicers have it as a part of pip only.
        from pip._vendor.packaging.requirements import Requirement as Parsed
    return Parsed(line)
