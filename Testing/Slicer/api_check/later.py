"""Names that not every supported Slicer has, and whether the code asks before it uses them."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from api_check.own_code import Function

_ASKING = ("hasattr", "getattr", "find_spec")


@dataclass(frozen=True)
class LaterName:
    """Something that came with a later version.

    Attributes:
        name: a member, a keyword argument as ``function(keyword)``, or a module.
        since: the first version that has it.
    """

    name: str
    since: str


LATER_NAMES = (
    LaterName("slicer.packaging", "5.12"),
    LaterName("DICOMSegmentationPlugin", "5.12"),
    LaterName("highdicom", "5.12"),
    LaterName("dcmqi", "5.12"),
    LaterName("launchConsoleProcess(blocking)", "5.12"),
    LaterName("launchConsoleProcess(logCallback)", "5.12"),
    LaterName("launchConsoleProcess(completedCallback)", "5.12"),
    LaterName("executePythonModule", "5.12"),
    LaterName("longPath", "5.12"),
    LaterName("LazyImport", "5.12"),
    LaterName("SetNthLayerVolumeID", "5.10"),
    LaterName("GetNthLayerVolumeID", "5.10"),
    LaterName("SetNthLayerOpacity", "5.10"),
    LaterName("GetNthLayerOpacity", "5.10"),
    LaterName("AddLayer", "5.10"),
)


@dataclass(frozen=True)
class LaterUse:
    """A use of such a name.

    Attributes:
        line: where.
        later: what.
        guarded: whether the code asks first, or goes on without it.
    """

    line: int
    later: LaterName
    guarded: bool


def later_uses(tree: ast.Module) -> list[LaterUse]:
    """Every use in a file.

    One is guarded inside ``try`` with ``except ImportError`` (or ``ModuleNotFoundError``,
    ``AttributeError``, ``TypeError``), or in a function that asks with ``hasattr``, ``getattr`` or
    ``find_spec`` for it, that reads a function or property of the same file that does, or that
    only such functions of the file call.
    """
    found = []
    for later in LATER_NAMES:
        askers = _askers(tree, later)
        for node, parents in _with_parents(tree, ()):
            if _is_use(node, later):
                guarded = _in_try(node, parents) or _asked(parents, later, askers)
                found.append(LaterUse(getattr(node, "lineno", 0), later, guarded))
    return found


def _with_parents(node: ast.AST, parents: tuple[ast.AST, ...]):  # type: ignore[no-untyped-def]
    yield node, parents
    for child in ast.iter_child_nodes(node):
        yield from _with_parents(child, (*parents, node))


def _is_use(node: ast.AST, later: LaterName) -> bool:
    function, _, keyword = later.name.rstrip(")").partition("(")
    if keyword:
        return (
            isinstance(node, ast.Call)
            and _last_name(node.func) == function
            and any(one.arg == keyword for one in node.keywords)
        )
    if isinstance(node, ast.Import):
        return any(_is_of(alias.name, later.name) for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        return any(_is_of(name, later.name) for name in (str(node.module), *names))
    if isinstance(node, ast.Attribute):
        return later.name in (node.attr, ast.unparse(node))
    return False


def _is_of(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def _in_try(node: ast.AST, parents: tuple[ast.AST, ...]) -> bool:
    for parent, child in zip(parents, (*parents[1:], node), strict=True):
        if isinstance(parent, ast.Try) and child in parent.body:
            caught = {
                name.id
                for handler in parent.handlers
                for name in ast.walk(handler.type or ast.Name("Exception"))
                if isinstance(name, ast.Name)
            }
            if caught & {"ImportError", "ModuleNotFoundError", "AttributeError", "TypeError"}:
                return True
    return False


def _asked(parents: tuple[ast.AST, ...], later: LaterName, askers: set[str]) -> bool:
    functions = [parent for parent in parents if isinstance(parent, Function)]
    return any(
        _asks(function, later) or _is_behind(function, parents[0], askers) for function in functions
    )


def _is_behind(function: Function, tree: ast.AST, askers: set[str]) -> bool:
    """Whether a function reads one that asks, or is used in such a one only."""
    if {_last_name(part) for part in ast.walk(function)} & askers:
        return True
    uses = [
        {parent.name for parent in parents if isinstance(parent, Function)}
        for node, parents in _with_parents(tree, ())
        if _last_name(node) == function.name
    ]
    return bool(uses) and all(names & askers for names in uses)


def _askers(tree: ast.Module, later: LaterName) -> set[str]:
    """Names of functions of the file that ask for it."""
    functions = [node for node in ast.walk(tree) if isinstance(node, Function)]
    return {function.name for function in functions if _asks(function, later)}


def _asks(function: Function, later: LaterName) -> bool:
    wanted = later.name.partition("(")[0]
    for node in ast.walk(function):
        if not isinstance(node, ast.Call) or _last_name(node.func) not in _ASKING:
            continue
        texts = [part.value for part in node.args if isinstance(part, ast.Constant)]
        if any(isinstance(text, str) and text in (wanted, _PROXIES.get(wanted)) for text in texts):
            return True
    return False


# What came in the same change, and is asked for in its place.
_PROXIES = {
    "launchConsoleProcess": "slicer.packaging",
    "executePythonModule": "slicer.packaging",
    "GetNthLayerOpacity": "SetNthLayerVolumeID",
    "GetNthLayerVolumeID": "SetNthLayerVolumeID",
    "SetNthLayerOpacity": "SetNthLayerVolumeID",
}


def _last_name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
