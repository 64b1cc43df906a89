"""What an expression of the code can stand for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """One possibility.

    Attributes:
        family: ``"vtk"`` (an object of a Slicer class), ``"qt"`` (a widget or another Qt object),
            ``"plain"`` (an object of a class of VTK itself), ``"own"`` (an object of a class of
            this repository); each with ``" class"`` for the class itself; ``"module"`` (``slicer``
            and what is under it), ``"own module"``, ``"function"`` (of Slicer's Python),
            ``"own function"``, ``"method"``, ``"ui"``, ``"list"``, ``"none"``.
        name: of the class, module or function.
        exact: whether it is of this very class; else of this or of one derived from it.
        item: what a list holds, or the object that a method belongs to.
    """

    family: str
    name: str = ""
    exact: bool = True
    item: Kinds = None


Kinds = frozenset[Kind] | None
"""All possibilities; None where nothing is known."""

NONE = frozenset({Kind("none")})


def one(family: str, name: str = "", exact: bool = True, item: Kinds = None) -> Kinds:
    """A single possibility."""
    return frozenset({Kind(family, name, exact, item)})


def either(*kinds: Kinds) -> Kinds:
    """All possibilities of several expressions; unknown where one of them is."""
    if any(kind is None for kind in kinds):
        return None
    found = frozenset().union(*(kind for kind in kinds if kind is not None))
    return (found - NONE) or (NONE if found else None)
