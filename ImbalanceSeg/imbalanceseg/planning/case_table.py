"""Tables of what is known of cases, as spreadsheets write them."""

from __future__ import annotations

import csv
from pathlib import Path

from imbalanceseg.errors import InputError
from imbalanceseg.privacy import case_title


def read_case_table(path: Path) -> dict[str, dict[str, str]]:
    """CSV whose column ``case``, or else the first, names the cases.

    Returns:
        By case, or its pseudonym, and column.

    Raises:
        InputError: ``case-table-unreadable``.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            names = list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            "case-table-unreadable",
            f"The table {path} cannot be read ({error}).",
            "Give a CSV file with a column named case.",
        ) from error
    if len(names) < 2:
        raise InputError(
            "case-table-unreadable",
            f"The table {path} has fewer than two columns.",
            "Give a CSV file with a column named case and one for each thing known.",
        )
    key = "case" if "case" in names else names[0]
    rest = [name for name in names if name != key]
    return {
        case_title(row[key] or ""): {name: (row[name] or "").strip() for name in rest}
        for row in rows
    }
