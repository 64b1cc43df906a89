"""Follows the objects through a file, and says which of their members Slicer does not have.

What is not known is let pass: every finding is one. Objects are followed through assignments,
annotations, attributes of classes, calls and loops.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from api_check.annotations import Annotations
from api_check.kinds import NONE, Kind, Kinds, either, one
from api_check.members import Members
from api_check.own_code import Function, OwnClass, OwnCode, OwnModule
from api_check.tables import BY_NAME
from api_check.truth import Truth
from api_check.ui_file import UiFile

Names = dict[str, Kinds]
_KEEP_ITEMS = ("list", "sorted", "tuple", "reversed")


class Check:
    """Checks files.

    Args:
        truth: what Slicer has.
        own: the repository's code.
        ui: the panel that ``self.ui`` stands for.
    """

    def __init__(self, truth: Truth, own: OwnCode, ui: UiFile | None) -> None:
        self.own = own
        self.annotations = Annotations(truth, own)
        self.members = Members(truth, own, ui, self)
        self._known: dict[tuple[str, str], Kinds] = {}
        self._asked: set[tuple[str, str]] = set()

    def findings(self, path: Path) -> list[str]:
        """Sentences with line numbers, sorted."""
        return self.findings_in(self.own.of_file(path))

    def findings_in(self, module: OwnModule) -> list[str]:
        """The same of a module that was read."""
        walk = _Walk(self, module, None, quiet=False)
        walk.block(module.tree.body, {})
        return [f"line {line}: {text}" for line, text in sorted(walk.found)]

    def member_of(self, own: OwnClass, name: str) -> Kinds:
        """What an attribute of an object of the repository stands for."""
        return self._remembered((own.name, name), lambda: self._member_of(own, name))

    def result_of(self, function: Function, module: OwnModule, own: OwnClass | None) -> Kinds:
        """What a function of the repository returns."""
        if function.returns is not None:
            return self.annotations.kinds(function.returns, module)
        key = (own.name if own else module.name, f"{function.name}:{function.lineno}()")
        return self._remembered(key, lambda: self._returned(function, module, own))

    def _remembered(self, key: tuple[str, str], ask) -> Kinds:  # type: ignore[no-untyped-def]
        if key not in self._known:
            if key in self._asked:
                return None
            self._asked.add(key)
            self._known[key] = ask()
        return self._known[key]

    def _member_of(self, own: OwnClass, name: str) -> Kinds:
        holder = self.own.holder(own, name)
        if holder is None:
            return None
        module = holder.module
        if name in holder.functions:
            if holder.is_property(name):
                return self.result_of(holder.functions[name], module, holder)
            return one("method", name, item=one("own", own.name))
        annotated = holder.values.get(name)
        if isinstance(annotated, ast.AnnAssign):
            return self.annotations.kinds(annotated.annotation, module)
        found = []
        for function, statement in holder.assigned.get(name, ()):
            if isinstance(statement, ast.AnnAssign):
                return self.annotations.kinds(statement.annotation, module)
            if not isinstance(statement, ast.Assign):
                return None
            found.append(self._value_in(statement, function, module, holder))
        return either(*found) if found else None

    def _value_in(
        self, statement: ast.Assign, function: Function, module: OwnModule, own: OwnClass
    ) -> Kinds:
        walk = _Walk(self, module, own, quiet=True)
        names = walk.arguments(function)
        for before in _statements_before(function, statement):
            walk.statement(before, names)
        return walk.value(statement.value, names)

    def _returned(self, function: Function, module: OwnModule, own: OwnClass | None) -> Kinds:
        walk = _Walk(self, module, own, quiet=True)
        names = walk.arguments(function)
        walk.block(function.body, names)
        return either(*walk.returned) if walk.returned else NONE


def _statements_before(function: Function, statement: ast.stmt) -> Iterator[ast.stmt]:
    for item in function.body:
        if item is statement or any(part is statement for part in ast.walk(item)):
            return
        yield item


class _Walk:
    """One way through the statements of a module or function."""

    def __init__(
        self, check: Check, module: OwnModule, own: OwnClass | None, *, quiet: bool
    ) -> None:
        self._check, self._module, self._own, self._quiet = check, module, own, quiet
        self.found: set[tuple[int, str]] = set()
        self.returned: list[Kinds] = []

    def say(self, node: ast.AST, text: str) -> None:
        if text and not self._quiet:
            self.found.add((getattr(node, "lineno", 0), text))

    # statements

    def block(self, statements: list[ast.stmt], names: Names) -> None:
        for statement in statements:
            self.statement(statement, names)

    def statement(self, node: ast.stmt, names: Names) -> None:
        if isinstance(node, Function):
            self._function(node, names)
        elif isinstance(node, ast.ClassDef):
            self._class(node, names)
        elif isinstance(node, ast.Assign):
            value = self.value(node.value, names)
            for target in node.targets:
                self._bind(target, value, names)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self.value(node.value, names)
            self._bind(node.target, self._annotated(node.annotation), names)
        elif isinstance(node, ast.For):
            self._bind(node.target, _items(self.value(node.iter, names)), names)
            self._either([node.body, node.orelse], names)
        elif isinstance(node, ast.If | ast.While):
            self.value(node.test, names)
            self._either([node.body, node.orelse], names)
        elif isinstance(node, ast.With):
            for item in node.items:
                value = self.value(item.context_expr, names)
                if item.optional_vars is not None:
                    self._bind(item.optional_vars, value, names)
            self.block(node.body, names)
        elif isinstance(node, ast.Try):
            self.block(node.body, names)
            self._either([*(handler.body for handler in node.handlers), node.orelse], names)
            self.block(node.finalbody, names)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            self._import(node, names)
        elif isinstance(node, ast.Return):
            self.returned.append(NONE if node.value is None else self.value(node.value, names))
        else:
            for part in ast.iter_child_nodes(node):
                if isinstance(part, ast.expr):
                    self.value(part, names)

    def arguments(self, function: Function) -> Names:
        names: Names = {}
        arguments = function.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            names[argument.arg] = self._check.annotations.argument(argument, self._module)
        if self._own is not None and arguments.args:
            decorators = self._own.decorators(function.name)
            if "staticmethod" not in decorators:
                family = "own class" if "classmethod" in decorators else "own"
                names[arguments.args[0].arg] = one(family, self._own.name)
        for argument in (arguments.vararg, arguments.kwarg):
            if argument is not None:
                names[argument.arg] = None
        return names

    def _function(self, node: Function, names: Names) -> None:
        for default in (*node.args.defaults, *node.args.kw_defaults, *node.decorator_list):
            if default is not None:
                self.value(default, names)
        for annotation in _annotations_of(node):
            for text in self._check.annotations.findings(annotation, self._module):
                self.say(annotation, text)
        names[node.name] = None
        if self._module.functions.get(node.name) is node:
            names[node.name] = one("own function", f"{self._module.name}:{node.name}")
        method = self._own is not None and node in self._own.functions.values()
        inner = _Walk(self._check, self._module, self._own if method else None, quiet=self._quiet)
        inner.found = self.found
        inner.block(node.body, {**names, **inner.arguments(node)})

    def _class(self, node: ast.ClassDef, names: Names) -> None:
        for base in (*node.bases, *node.decorator_list):
            self.value(base, names)
        own = self._module.classes.get(node.name)
        own = own if own and own.node is node else None
        inner = _Walk(self._check, self._module, own, quiet=self._quiet)
        inner.found = self.found
        inner.block(node.body, dict(names))
        names[node.name] = one("own class", own.name) if own else None

    def _import(self, node: ast.Import | ast.ImportFrom, names: Names) -> None:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                kinds, text = self._check.members.imported(str(node.module), alias.name)
                self.say(node, text and f"{name}: {text}")
                names[alias.asname or alias.name] = kinds
            return
        for alias in node.names:
            first = alias.name.partition(".")[0]
            name = alias.name if alias.asname else first
            names[alias.asname or first] = self._check.members.module(name)

    def _either(self, blocks: list[list[ast.stmt]], names: Names) -> None:
        before, ends = dict(names), []
        for block in blocks:
            end = dict(before)
            self.block(block, end)
            if not (block and isinstance(block[-1], ast.Return | ast.Raise | ast.Continue)):
                ends.append(end)
        names.clear()
        for name in {name for end in ends for name in end}:
            names[name] = either(*(end.get(name) for end in ends))
        if not ends:
            names.update(before)

    def _bind(self, target: ast.expr, value: Kinds, names: Names) -> None:
        if isinstance(target, ast.Name):
            names[target.id] = value
        elif isinstance(target, ast.Attribute):
            self.say(
                target,
                self._check.members.why_not_set(self.value(target.value, names), target.attr),
            )
        elif isinstance(target, ast.Tuple | ast.List):
            for part in target.elts:
                inner = part.value if isinstance(part, ast.Starred) else part
                self._bind(inner, None, names)
        elif isinstance(target, ast.Subscript):
            self.value(target.value, names)
            self.value(target.slice, names)

    def _annotated(self, annotation: ast.expr) -> Kinds:
        return self._check.annotations.kinds(annotation, self._module)

    # expressions

    def value(self, node: ast.expr, names: Names) -> Kinds:
        """What an expression stands for; says what is wrong inside it."""
        if isinstance(node, ast.Name):
            return self._name(node.id, names)
        if isinstance(node, ast.Attribute):
            return self._attribute(node, names)
        if isinstance(node, ast.Call):
            return self._call(node, names)
        if isinstance(node, ast.Constant):
            return NONE if node.value is None else None
        if isinstance(node, ast.IfExp):
            self.value(node.test, names)
            return either(self.value(node.body, names), self.value(node.orelse, names))
        if isinstance(node, ast.BoolOp):
            return either(*[self.value(part, names) for part in node.values])
        if isinstance(node, ast.NamedExpr):
            value = self.value(node.value, names)
            self._bind(node.target, value, names)
            return value
        if isinstance(node, ast.Subscript):
            self.value(node.slice, names)
            return _items(self.value(node.value, names))
        if isinstance(node, ast.Lambda):
            inner = {**names, **dict.fromkeys((a.arg for a in node.args.args), None)}
            self.value(node.body, inner)
            return None
        if isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
            return self._comprehension(node, names)
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            parts = [self.value(part, names) for part in node.elts]
            return one("list", item=either(*parts)) if parts else None
        for part in ast.iter_child_nodes(node):
            if isinstance(part, ast.expr):
                self.value(part, names)
        return None

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, names: Names
    ) -> Kinds:
        inner = dict(names)
        for loop in node.generators:
            self._bind(loop.target, _items(self.value(loop.iter, inner)), inner)
            for test in loop.ifs:
                self.value(test, inner)
        if isinstance(node, ast.DictComp):
            self.value(node.key, inner)
            self.value(node.value, inner)
            return None
        return one("list", item=self.value(node.elt, inner))

    def _name(self, name: str, names: Names) -> Kinds:
        if name in names:
            return names[name]
        module = self._module
        if name in module.classes:
            return one("own class", module.classes[name].name)
        if name in module.functions:
            return one("own function", f"{module.name}:{name}")
        if name in module.imports:
            origin, thing = module.imports[name]
            if thing:
                return self._check.members.imported(origin, thing)[0]
            return self._check.members.module(origin)
        return None

    def _attribute(self, node: ast.Attribute, names: Names) -> Kinds:
        holder = self.value(node.value, names)
        found, text = self._check.members.read(holder, node.attr)
        is_unknown = holder is None and not self._is_foreign(node.value)
        if is_unknown and not self._check.members.is_somewhere(node.attr):
            text = f"nothing has {node.attr}"
        if found is None and not text and _is_own(holder):
            found = BY_NAME.get(node.attr)
        self.say(node, text)
        return found

    def _is_foreign(self, node: ast.expr) -> bool:
        """Whether it is a module, or something in a module, that nobody here knows."""
        while isinstance(node, ast.Attribute):
            node = node.value
        return isinstance(node, ast.Name) and node.id in self._module.imports

    def _call(self, node: ast.Call, names: Names) -> Kinds:
        called = self.value(node.func, names)
        arguments = [self.value(part, names) for part in node.args]
        for keyword in node.keywords:
            self.value(keyword.value, names)
        if isinstance(node.func, ast.Name) and node.func.id in _KEEP_ITEMS:
            return arguments[0] if arguments else None
        result, texts = self._check.members.call(called, node)
        for text in texts:
            self.say(node, text)
        return result


def _is_own(kinds: Kinds) -> bool:
    return kinds is not None and {kind.family for kind in kinds} == {"own"}


def _items(kinds: Kinds) -> Kinds:
    if kinds is None:
        return None
    lists: list[Kind] = [kind for kind in kinds if kind.family == "list"]
    return either(*(kind.item for kind in lists)) if lists else None


def _annotations_of(node: Function) -> list[ast.expr]:
    arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    given = [argument.annotation for argument in arguments]
    return [annotation for annotation in (*given, node.returns) if annotation is not None]
