"""The table of a cohort, ``cases.csv``: what became of every case, and from what."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imbalanceseg.atomic import write_text
from imbalanceseg.errors import OutputError

TABLE_FILE = "cases.csv"
DONE, FAILED, SKIPPED, STARTED = "done", "failed", "skipped", "started"

_BEFORE = ("case", "input", "status", "seconds")
_AFTER = (
    "code",
    "message",
    "model",
    "model_version",
    "model_sha",
    "settings",
    "input_fingerprint",
)
_FIGURE = re.compile(r"(volume_ml|components)\[(.+)\]")


@dataclass(frozen=True)
class CaseRow:
    """What became of one case.

    Attributes:
        case: its name, which is also the folder of its results.
        input: where it lay in the folder that was searched.
        status: ``"done"``; ``"failed"``; ``"started"``, begun and never finished; or, never in
            the file, ``"skipped"``, done in an earlier run.
        seconds: wall time from reading to writing.
        volume_ml: volume of every segment by its name, in millilitres.
        components: number of 26-connected pieces of every segment by its name.
        code: of the error of a failed case; ``"unexpected"`` where it is none of the engine's own.
        message: what was wrong, one line.
        model: name of the model.
        model_version: its version.
        model_sha: SHA-256 of its weights.
        settings: digits that change with the settings.
        input_fingerprint: digits that change with the input.
    """

    case: str
    input: str
    status: str
    seconds: float = 0.0
    volume_ml: Mapping[str, float] = field(default_factory=dict)
    components: Mapping[str, int] = field(default_factory=dict)
    code: str = ""
    message: str = ""
    model: str = ""
    model_version: str = ""
    model_sha: str = ""
    settings: str = ""
    input_fingerprint: str = ""

    def same_work(self, other: CaseRow) -> bool:
        """Whether both rows tell of one input, one model and the same settings."""
        parts = ("case", "input", *_AFTER[2:])
        return all(getattr(self, name) == getattr(other, name) for name in parts)


class CaseTable:
    """The rows of ``cases.csv``, by case; the file is rewritten with every change, as a whole.

    Attributes:
        path: the file.
        rows: by the name of the case, those of earlier runs included.
    """

    def __init__(self, path: Path) -> None:
        """Read the table where there is one.

        Raises:
            OutputError: ``table-unknown``, what lies there is no such table or cannot be read.
        """
        self.path = path
        self.rows = {row.case: row for row in _read(path)}

    def put(self, row: CaseRow) -> None:
        """Take a row in, in the place of an earlier one of the case, and write the table.

        Raises:
            OutputError: it cannot be written.
        """
        self.rows[row.case] = row
        rows = sorted(self.rows.values(), key=lambda one: one.case.casefold())
        figures = _figure_columns(rows)
        text = io.StringIO()
        writer = csv.DictWriter(text, (*_BEFORE, *figures, *_AFTER), "", lineterminator="\n")
        writer.writeheader()
        writer.writerows(_cells(row) for row in rows)
        write_text(self.path, text.getvalue())


def _figure_columns(rows: Sequence[CaseRow]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row.volume_ml)
    return [f"{figure}[{name}]" for name in names for figure in ("volume_ml", "components")]


def _cells(row: CaseRow) -> dict[str, object]:
    cells: dict[str, object] = {name: getattr(row, name) for name in (*_BEFORE, *_AFTER)}
    for figure, values in (("volume_ml", row.volume_ml), ("components", row.components)):
        cells |= {f"{figure}[{name}]": value for name, value in values.items()}
    return cells


def _read(path: Path) -> list[CaseRow]:
    try:
        # Spreadsheet programs put a byte order mark before what they save.
        with open(path, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            if not {*_BEFORE, *_AFTER} <= set(reader.fieldnames or ()):
                raise ValueError("columns are missing")
            return [_row(cells) for cells in reader]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        raise OutputError(
            "table-unknown",
            f"The file {path} is not a table of cases, or cannot be read, and is not overwritten.",
            "Choose another folder for the results, or move the file away.",
        ) from error


def _row(cells: Mapping[str | None, str | None]) -> CaseRow:
    texts = {name: cells.get(name) or "" for name in (*_BEFORE, *_AFTER)}
    figures: dict[str, dict[str, float]] = {"volume_ml": {}, "components": {}}
    for column, text in cells.items():
        match = _FIGURE.fullmatch(column or "")
        if match and text:
            figures[match[1]][match[2]] = float(text)
    return CaseRow(
        **{name: text for name, text in texts.items() if name != "seconds"},
        seconds=float(texts["seconds"] or 0),
        volume_ml=figures["volume_ml"],
        components={name: int(value) for name, value in figures["components"].items()},
    )
