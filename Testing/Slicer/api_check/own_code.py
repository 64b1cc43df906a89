"""The repository's own modules: which classes and functions they have, and what those have."""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass, field
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class OwnClass:
    """A class of the repository.

    Attributes:
        name: ``module:Class``.
        node: where it is written.
        module: where it stands.
        functions: methods and properties, by name.
        values: annotations or values given in the body of the class.
        assigned: ``self.name = ...`` with the method it stands in.
    """

    name: str
    node: ast.ClassDef
    module: OwnModule
    functions: dict[str, Function] = field(default_factory=dict)
    values: dict[str, ast.AnnAssign | ast.Assign] = field(default_factory=dict)
    assigned: dict[str, list[tuple[Function, ast.AST]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for item in self.node.body:
            if isinstance(item, Function):
                # A property and its setter share a name: the getter says what it is.
                self.functions.setdefault(item.name, item)
                self._assignments_in(item)
            elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                self.values[item.target.id] = item
            elif isinstance(item, ast.Assign):
                for target in item.targets:
                    for name in _names_in(target):
                        self.values[name] = item

    def _assignments_in(self, function: Function) -> None:
        arguments = function.args.args
        if not arguments:
            return
        me = arguments[0].arg
        for statement in ast.walk(function):
            if isinstance(statement, ast.Assign):
                targets = statement.targets
            elif isinstance(statement, ast.AnnAssign | ast.AugAssign | ast.For):
                targets = [statement.target]
            else:
                continue
            for target in targets:
                for part in ast.walk(target):
                    if isinstance(part, ast.Attribute) and _is_name(part.value, me):
                        value = statement if part is target else ast.Constant(...)
                        self.assigned.setdefault(part.attr, []).append((function, value))

    @property
    def members(self) -> set[str]:
        """Names of its own, without those of its bases."""
        nested = {item.name for item in self.node.body if isinstance(item, ast.ClassDef)}
        return {*self.functions, *self.values, *self.assigned, *nested}

    def is_property(self, name: str) -> bool:
        """Whether a method is read without a call."""
        return bool(self.decorators(name) & {"property", "cached_property"})

    def decorators(self, name: str) -> set[str]:
        """Names of what a method is decorated with."""
        found = self.functions[name].decorator_list if name in self.functions else []
        return {ast.unparse(item).split(".")[-1].partition("(")[0] for item in found}

    @property
    def bases(self) -> list[str]:
        """As they are written."""
        return [ast.unparse(base).partition("[")[0] for base in self.node.bases]


@dataclass
class OwnModule:
    """A module of the repository."""

    name: str
    tree: ast.Module
    classes: dict[str, OwnClass] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)
    values: dict[str, ast.stmt] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for item in self.tree.body:
            if isinstance(item, ast.ClassDef):
                self.classes[item.name] = OwnClass(f"{self.name}:{item.name}", item, self)
            elif isinstance(item, Function):
                self.functions[item.name] = item
            elif isinstance(item, ast.Assign | ast.AnnAssign):
                targets = item.targets if isinstance(item, ast.Assign) else [item.target]
                self.values |= {name: item for target in targets for name in _names_in(target)}
        for item in ast.walk(self.tree):
            if isinstance(item, ast.Import):
                for alias in item.names:
                    name = alias.asname or alias.name.partition(".")[0]
                    self.imports[name] = (alias.name if alias.asname else name, "")
            elif isinstance(item, ast.ImportFrom) and item.module and not item.level:
                for alias in item.names:
                    self.imports[alias.asname or alias.name] = (item.module, alias.name)


class OwnCode:
    """Reads modules of the repository when they are asked for.

    Args:
        roots: folders in which packages lie.
    """

    def __init__(self, *roots: Path) -> None:
        self._roots = roots
        self._modules: dict[str, OwnModule | None] = {}

    def module(self, name: str) -> OwnModule | None:
        """A module by its full name; None where it is not of this repository."""
        if name not in self._modules:
            self._modules[name] = self._read(name)
        return self._modules[name]

    def of_file(self, path: Path) -> OwnModule:
        """The module that a file is."""
        for root in self._roots:
            if path.is_relative_to(root):
                name = ".".join(path.relative_to(root).with_suffix("").parts)
                found = self.module(name.removesuffix(".__init__"))
                assert found is not None
                return found
        return OwnModule(path.stem, ast.parse(path.read_text(encoding="utf-8")))

    def own_class(self, name: str) -> OwnClass | None:
        """A class by ``module:Class``."""
        module, _, kind = name.partition(":")
        found = self.module(module)
        return found.classes.get(kind) if found else None

    def bases(self, own: OwnClass) -> list[OwnClass | str]:
        """Its bases: classes of the repository, or full names of others."""
        return [self.resolved(own.module, base) for base in own.bases]

    def resolved(self, module: OwnModule, name: str) -> OwnClass | str:
        """What a name in a module stands for, where it is a class."""
        if name in module.classes:
            return module.classes[name]
        first, _, rest = name.partition(".")
        if first in module.imports:
            origin, thing = module.imports[first]
            found = self.own_class(f"{origin}:{thing}") if thing else None
            return found or ".".join(filter(None, [origin, thing, rest]))
        return name

    def members(self, own: OwnClass) -> set[str] | None:
        """All members with those of its bases; None where a base is not known."""
        found = set(own.members) | set(dir(object)) | {"__dict__", "__name__", "__slots__"}
        for base in self.bases(own):
            if isinstance(base, OwnClass):
                inherited = self.members(base)
            elif isinstance(kind := getattr(builtins, base, None), type):
                inherited = set(dir(kind))
            elif base in ("typing.Protocol", "abc.ABC"):
                inherited = set()
            elif base.startswith("enum."):
                inherited = {"name", "value"}
            else:
                inherited = None
            if inherited is None:
                return None
            found |= inherited
        return found

    def holder(self, own: OwnClass, member: str) -> OwnClass | None:
        """The class, it or one of its bases, in which a member stands."""
        if member in own.members:
            return own
        for base in self.bases(own):
            if isinstance(base, OwnClass) and (found := self.holder(base, member)):
                return found
        return None

    def _read(self, name: str) -> OwnModule | None:
        for root in self._roots:
            place = root.joinpath(*name.split("."))
            for path in (place.with_suffix(".py"), place / "__init__.py"):
                if path.is_file():
                    return OwnModule(name, ast.parse(path.read_text(encoding="utf-8")))
        return None


def _names_in(target: ast.AST) -> list[str]:
    return [part.id for part in ast.walk(target) if isinstance(part, ast.Name)]


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name
