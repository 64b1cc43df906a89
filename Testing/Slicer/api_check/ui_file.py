"""Checks what a panel made in Qt Designer says of its widgets."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from api_check.truth import Truth

# Read by the parameter node wrapper, which sets it as a property of its own.
_OF_PARAMETER_NODE = "SlicerParameterName"
# Read by Qt's own loader, which makes a call of it.
_OF_LOADER = "buddy"


class UiFile:
    """A panel.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ElementTree.parse(path)
        self.classes = {
            widget.attrib["name"]: widget.attrib["class"] for widget in self.tree.iter("widget")
        }
        self.others = {
            item.attrib["name"]
            for kind in ("layout", "action", "spacer")
            for item in self.tree.iter(kind)
            if "name" in item.attrib
        }

    def findings(self, truth: Truth) -> list[str]:
        """Sentences that say what is wrong."""
        return [*self._properties(truth), *self._connections(truth), *self._declarations()]

    def _properties(self, truth: Truth) -> list[str]:
        found = []
        for widget in self.tree.iter("widget"):
            name, kind = widget.attrib["name"], widget.attrib["class"]
            known = truth.qt_class(kind)
            if known is None:
                found.append(f"{name}: there is no class {kind}")
                continue
            for item in widget.findall("property"):
                given = item.attrib["name"]
                if given not in {*known.properties, _OF_PARAMETER_NODE, _OF_LOADER}:
                    found.append(f"{name}: {kind} has no property {given}")
        return found

    def _connections(self, truth: Truth) -> list[str]:
        found = []
        for item in self.tree.iter("connection"):
            text = {part.tag: part.text or "" for part in item}
            for role, what in (("sender", "signal"), ("receiver", "slot")):
                kind = self.classes.get(text[role])
                known = truth.qt_class(kind) if kind else None
                if known is None:
                    found.append(f"there is no widget {text[role]} to connect")
                elif what == "signal" and text[what] not in known.signals:
                    found.append(f"{text[role]}: {kind} has no signal {text[what]}")
                elif what == "slot" and text[what].partition("(")[0] not in known.members:
                    found.append(f"{text[role]}: {kind} has no slot {text[what]}")
        return found

    def _declarations(self) -> list[str]:
        foreign = {kind for kind in self.classes.values() if not kind.startswith("Q")}
        declared = {
            item.findtext("class"): item.findtext("header")
            for item in self.tree.iter("customwidget")
        }
        found = [f"{kind} is not declared as a custom widget" for kind in foreign - set(declared)]
        found += [f"{kind} is declared and not used" for kind in set(declared) - foreign]
        found += [
            f"the header of {kind} is {header}"
            for kind, header in declared.items()
            if header != f"{kind}.h"
        ]
        return found
