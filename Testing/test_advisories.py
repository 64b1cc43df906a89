"""Holes known of the packages that the engine stands on: none of them is let in.

`make audit` asks the Python advisory database, where it can be reached; this table needs no
network. It holds what touches what we use: reading strangers' files, and serving requests.
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
ENGINE = ROOT / "ImbalanceSeg" / "imbalanceseg"


class Advisory(NamedTuple):
    """The first version without a hole, and its name in the databases."""

    package: str
    fixed: str
    identifier: str


ADVISORIES = (
    Advisory("fastapi", "0.133", "none of its own; older ones forbid a mended starlette"),
    Advisory("jinja2", "3.1.6", "CVE-2025-27516"),
    Advisory("monai", "1.5.1", "GHSA-x6ww-pf9m-m73m, GHSA-6vm5-6jv9-rjpj, GHSA-p8cm-mm2v-gwjm"),
    Advisory("monai", "1.6.0", "GHSA-89gg-p5r5-q6r4, GHSA-qxq5-qhx6-94qw, GHSA-rghg-q7wp-9767"),
    Advisory("pydicom", "3.0.2", "CVE-2026-32711"),
    Advisory("python-multipart", "0.0.22", "CVE-2026-24486"),
    Advisory("python-multipart", "0.0.26", "CVE-2026-40347"),
    Advisory("python-multipart", "0.0.27", "CVE-2026-42561"),
    Advisory("pyyaml", "5.4", "CVE-2020-14343"),
    Advisory("requests", "2.32.4", "CVE-2024-47081"),
    Advisory("starlette", "0.49.1", "CVE-2025-62727"),
    Advisory("starlette", "1.0.1", "CVE-2026-48710"),
    Advisory("starlette", "1.3.0", "PYSEC-2026-248"),
    Advisory("torch", "2.6.0", "CVE-2025-32434"),
)
UNMENDED = {"CVE-2026-56445": r"\bqrscp\b"}
"""Holes that no version has mended, and what a program would have to use to be open to them."""


def declared_floors() -> dict[str, Version]:
    """The lowest version that pyproject.toml allows, of each package it names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    floors = {}
    for requirement in map(Requirement, wanted):
        lowest = [Version(s.version) for s in requirement.specifier if s.operator == ">="]
        if lowest:
            floors[canonicalize_name(requirement.name)] = lowest[0]
    return floors


@pytest.mark.parametrize("advisory", ADVISORIES, ids=lambda a: f"{a.package}-{a.fixed}")
class TestKnownHoles:
    def test_no_version_with_the_hole_is_allowed(self, advisory):
        floor = declared_floors().get(advisory.package)
        if floor is None:
            pytest.skip("comes with another package")
        assert floor >= Version(advisory.fixed), advisory.identifier

    def test_no_version_with_the_hole_is_installed(self, advisory):
        try:
            installed = version(advisory.package)
        except PackageNotFoundError:
            pytest.skip("not installed")
        assert Version(installed) >= Version(advisory.fixed), advisory.identifier


@pytest.mark.parametrize("identifier", UNMENDED)
def test_what_is_not_mended_is_not_used(identifier):
    assert not files_with(UNMENDED[identifier])
    ignored = re.findall(r"--ignore-vuln (\S+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert sorted(ignored) == sorted(UNMENDED)


def test_nothing_unpickles():
    assert not files_with(r"\bimport (c?pickle|dill|joblib)\b|\btorch\.load\(|allow_pickle=True")


def files_with(pattern: str) -> list[str]:
    return [
        file.name
        for file in ENGINE.rglob("*.py")
        if re.search(pattern, file.read_text(encoding="utf-8"))
    ]
