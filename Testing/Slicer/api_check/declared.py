"""What VTK's wrapping says of its methods: what they return, and how many arguments they take."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import slicer
import vtk

_SIGNATURE = r"^{name}\((?P<arguments>[^)]*(?:\([^)]*\)[^)]*)*)\)\s*->\s*(?P<result>[\w.\[\], ]+)"


@cache
def wrapped_class(name: str) -> Any:
    """A class of slicer-core or VTK; None where neither has it."""
    return getattr(slicer, name, None) or getattr(vtk, name, None)


@cache
def has_member(name: str, member: str, *, or_below: bool) -> bool:
    """Whether a class, or one derived from it, has a member; also where the class is not known."""
    found = wrapped_class(name)
    if found is None or hasattr(found, member):
        return True
    below = found.__subclasses__() if or_below else []
    return any(has_member(kind.__name__, member, or_below=True) for kind in below)


@cache
def returned_class(name: str, method: str) -> str:
    """The class of what a method returns; empty where it is no object, or not known."""
    results = {match["result"].strip() for match in _signatures(name, method)}
    found = {result.split(".")[-1] for result in results}
    (result,) = found if len(found) == 1 else ("",)
    return result if result.startswith("vtk") else ""


@cache
def argument_counts(name: str, method: str) -> frozenset[int] | None:
    """How many arguments a method takes; None where that is not known."""
    counts: set[int] = set()
    for match in _signatures(name, method):
        inside = re.sub(r"\([^()]*\)|\[[^][]*\]", "", match["arguments"].replace("\n", " "))
        arguments = [part.strip() for part in inside.split(",") if part.strip()]
        if any(part.startswith("*") for part in arguments):
            return None
        arguments = [part for part in arguments if part != "self"]
        optional = sum("=" in part for part in arguments)
        counts |= set(range(len(arguments) - optional, len(arguments) + 1))
    return frozenset(counts) or None


def _signatures(name: str, method: str) -> list[re.Match[str]]:
    text = getattr(getattr(wrapped_class(name), method, None), "__doc__", None) or ""
    pattern = _SIGNATURE.format(name=re.escape(method))
    return list(re.finditer(pattern, text, re.MULTILINE))
