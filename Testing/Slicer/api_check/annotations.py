"""What annotations of the code stand for."""

from __future__ import annotations

import ast

from api_check.kinds import NONE, Kinds, either, one
from api_check.own_code import OwnClass, OwnCode, OwnModule
from api_check.tables import BASES, BY_NAME
from api_check.truth import Truth

_LISTS = {"list", "tuple", "set", "Sequence", "Iterable", "Iterator", "Collection", "frozenset"}
_MAPPINGS = {"dict", "Mapping"}


class Annotations:
    """Reads annotations.

    Args:
        truth: what Slicer has.
        own: the repository's code.
    """

    def __init__(self, truth: Truth, own: OwnCode) -> None:
        self._truth, self._own = truth, own

    def kinds(self, node: ast.expr, module: OwnModule) -> Kinds:
        """What an object so annotated can be."""
        if isinstance(node, ast.Constant):
            if node.value is None:
                return NONE
            return self.kinds(_parsed(node.value), module) if isinstance(node.value, str) else None
        if isinstance(node, ast.BinOp):
            return either(self.kinds(node.left, module), self.kinds(node.right, module))
        if isinstance(node, ast.Subscript):
            return self._subscript(node, module)
        return self._class(ast.unparse(node), module)

    def argument(self, argument: ast.arg, module: OwnModule) -> Kinds:
        """What an argument can be; one that says nothing goes by its name."""
        annotation = argument.annotation
        if annotation is None or ast.unparse(annotation).removesuffix(" | None") == "Any":
            return BY_NAME.get(argument.arg)
        return self.kinds(annotation, module)

    def findings(self, node: ast.expr, module: OwnModule) -> list[str]:
        """Classes of Slicer that an annotation names and that Slicer does not have."""
        found = []
        for part in ast.walk(node):
            if not isinstance(part, ast.Attribute) or not isinstance(part.value, ast.Name):
                continue
            if part.value.id != "slicer" or not part.attr.startswith(("vtk", "qMRML", "qSlicer")):
                continue
            if not self._truth.has_vtk(part.attr) and self._truth.qt_class(part.attr) is None:
                found.append(f"slicer has no {part.attr}")
        return found

    def _subscript(self, node: ast.Subscript, module: OwnModule) -> Kinds:
        name = ast.unparse(node.value).split(".")[-1]
        inside = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name == "Optional":
            return either(self.kinds(inside[0], module), NONE)
        if name in ("Union", "Annotated"):
            wanted = inside[:1] if name == "Annotated" else inside
            return either(*(self.kinds(part, module) for part in wanted))
        if name in _LISTS:
            parts = [part for part in inside if not _is_dots(part)]
            return one("list", item=either(*(self.kinds(part, module) for part in parts)))
        if name in _MAPPINGS:
            return one("list", item=self.kinds(inside[1], module)) and None
        return None

    def _class(self, name: str, module: OwnModule) -> Kinds:
        found = self._own.resolved(module, name)
        if isinstance(found, OwnClass):
            return one("own", found.name, exact=False)
        origin, _, last = found.rpartition(".")
        if origin == "slicer" and self._truth.has_vtk(last):
            return one("vtk", last, exact=last not in BASES)
        if origin == "vtk":
            return one("plain", last)
        if origin in ("qt", "ctk", "slicer") and self._truth.qt_class(last) is not None:
            return one("qt", last)
        return None


def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        return ast.Constant(...)


def _is_dots(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...
