"""YAML as plain values, with the line on which each of them stands."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from imbalanceseg.errors import InputError

Place = tuple[str | int, ...]
"""Keys and indices that lead to a value."""

_MOST_BYTES = 1 << 20
_MOST_VALUES = 10_000
_DEEPEST = 20
_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers and truth values: ``1e-3`` is a number, ``no`` and a date are words."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        self.nodes += 1
        if self.nodes > _MOST_VALUES:
            mark = self.peek_event().start_mark
            problem = f"it holds more than {_MOST_VALUES:,} values"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"(true|false)$", "tf"),
    ("int", r"[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("null", r"(~|null|)$", ["~", "n", ""]),
):
    _Loader.add_implicit_resolver(_TAG + _tag, re.compile(_pattern), list(_first))


@dataclass
class MarkedValues:
    """What a YAML file holds.

    Attributes:
        values: the mapping: text, numbers, truth values, None, lists and mappings with text as
            keys.
        lines: line of each value, from 1; that of its key where it has one.
        faults: ``(line, sentence)`` for what YAML allows and we do not.
        unread: places of values that could not be read, and are None.
    """

    values: dict[str, Any]
    lines: dict[Place, int] = field(default_factory=dict)
    faults: list[tuple[int, str]] = field(default_factory=list)
    unread: set[Place] = field(default_factory=set)

    def line_of(self, place: Place) -> int:
        """Line of a value, or of the nearest thing around it that is in the file."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


def read_marked_yaml(path: str | os.PathLike[str]) -> MarkedValues:
    """Read a YAML file that holds one mapping.

    Args:
        path: of at most 1 MiB, UTF-8.

    Raises:
        InputError: ``yaml-missing``, ``yaml-unreadable``, ``yaml-too-large``, or ``yaml-invalid``
            with the line where YAML breaks off.
    """
    path = Path(path)
    text = _text(path)
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _invalid(path, mark.line + 1 if mark else 1, str(error.problem)) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _invalid(path, line, f"it holds the character U+{ord(text[error.position]):04X}") \
            from error  # fmt: skip
    except RecursionError as error:
        raise _invalid(path, 1, "its brackets are nested too deeply") from error
    except (ValueError, OverflowError) as error:
        # PyYAML lets escapes and directives through that have no character or number.
        raise _invalid(path, 1, "an escaped character or a directive has no meaning") from error
    if not isinstance(node, yaml.MappingNode):
        found = "is empty" if node is None or node.value == "" else f"holds {_kind(node)}"
        raise InputError(
            "yaml-invalid",
            f"{path.name} {found}; a mapping of keys to values is needed.",
            "Write lines of the form 'key: value'.",
        )
    return _Reading(path).mapping(node)


def _text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise InputError(
                "yaml-too-large",
                f"{path.name} has {size:,} bytes, at most {_MOST_BYTES:,} are read.",
                "Give a recipe, not data.",
            )
        return path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            "yaml-missing", f"There is no file {path}.", "Give the path of a YAML file."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            "yaml-invalid", f"{path.name} is not UTF-8 text.", "Save it as UTF-8."
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(
            "yaml-unreadable",
            f"{path.name} cannot be read: {getattr(error, 'strerror', None) or error}.",
            "Give the path of a YAML file that may be read.",
        ) from error


def _invalid(path: Path, line: int, problem: str) -> InputError:
    return InputError(
        "yaml-invalid",
        f"{path.name} line {line} cannot be read: {problem}.",
        "Look at the colons, brackets, quotes and indents there and on the line before.",
    )


def _kind(node: yaml.Node) -> str:
    return "a list" if isinstance(node, yaml.SequenceNode) else "one value"


class _Reading:
    """Turns nodes into values; aliases are followed, within the limits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found = MarkedValues({})
        self.count = 0

    def mapping(self, node: yaml.MappingNode) -> MarkedValues:
        self.found.values = self._value(node, ())
        return self.found

    def _value(self, node: yaml.Node, place: Place) -> Any:
        self.count += 1
        if self.count > _MOST_VALUES or len(place) > _DEEPEST:
            what = f"more than {_MOST_VALUES:,} values, aliases followed"
            if len(place) > _DEEPEST:
                what = f"values nested more than {_DEEPEST} deep, aliases followed"
            raise InputError("yaml-too-large", f"{self.path.name} holds {what}.", "Write less.")
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.found.lines[(*place, index)] = item.start_mark.line + 1
            return [self._value(item, (*place, n)) for n, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._pairs(node, place)
        return self._scalar(node, place)

    def _pairs(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, item in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or not _is_text(key.value):
                where = named(place) or "the recipe"
                self._fault(line, f"{where} has a key that is not a word.")
                continue
            inner = (*place, key.value)
            if key.value in values:
                first = self.found.lines[inner]
                self._fault(line, f"{named(inner)} stands here again, first on line {first}.")
                continue
            self.found.lines[inner] = line
            values[key.value] = self._value(item, inner)
        return values

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        text, tag = node.value, node.tag.removeprefix(_TAG)
        try:
            if tag == "null":
                return None
            if tag == "bool":
                return text == "true"
            if tag == "int":
                return int(text)
            if tag == "float" and math.isfinite(number := float(text)):
                return number
            if tag == "str" and _is_text(text):
                return text
        except ValueError:
            pass
        self.found.unread.add(place)
        self._fault(
            node.start_mark.line + 1,
            f"{named(place)} is {shown(text)}; allowed: text, finite numbers, true, false, null.",
        )
        return None

    def _fault(self, line: int, sentence: str) -> None:
        self.found.faults.append((line, sentence))


def _is_text(text: str) -> bool:
    """Without halves of characters, which no encoding can write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def named(place: Place) -> str:
    """A place in words: ``zoom_range item 2``."""
    text = ""
    for step in place:
        if isinstance(step, int):
            text += f" item {step + 1}"
        else:
            text += f"{'.' if text else ''}{_short(step)}"
    return text.strip()


def shown(value: Any) -> str:
    """A value as it stands in YAML, cut to a readable length."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return repr(_short(value))
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a number of more than 20 digits"
    return repr(value)


def _short(text: str) -> str:
    text = text.encode("ascii", "backslashreplace").decode() if not text.isprintable() else text
    return text if len(text) <= 40 else f"{text[:37]}..."
