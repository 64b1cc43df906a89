"""Which names the panel's Slicer widgets have.

    python extract_widget_api.py SLICER_API.json

writes ``widget_api.json`` beside this file: what a running Slicer has listed of every class in the
panel that is not Qt's own. The stand-ins of the tests have these names and no others.
"""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

_UI_FILE = Path(__file__).parents[2] / "ImbalanceSeg" / "Resources" / "UI" / "ImbalanceSeg.ui"
_KINDS = ("properties", "signals", "methods")


def main() -> None:
    api = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    widgets = ElementTree.parse(_UI_FILE).iter("widget")
    names = sorted({widget.attrib["class"] for widget in widgets} & set(api["widgets"]))
    found = {"QWidget": api["qwidget"], **{name: api["widgets"][name] for name in names}}
    lines = [
        f'"{name}": ' + json.dumps({kind: sorted(members[kind]) for kind in _KINDS})
        for name, members in found.items()
    ]
    target = Path(__file__).with_name("widget_api.json")
    target.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
