"""Image-level labels: of some cases it is only known which classes they show, not where."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from imbalanceseg.errors import InputError
from imbalanceseg.labels import BACKGROUND
from imbalanceseg.planning.case_table import read_case_table

IMAGE_LABELS_FILE = "image_labels.csv"

_HINT = "Give a column named case, and one for each class with 1 where an image shows it, else 0."


def read_image_labels(path: Path, labels: Mapping[int, str]) -> dict[str, tuple[int, ...]]:
    """Values of the classes that each case of a table shows.

    Args:
        path: CSV with a column ``case`` and one a class, whose cells are 0 or 1.
        labels: class name by value, background 0 included.

    Raises:
        InputError: ``case-table-unreadable``, or ``image-labels`` where columns are not the
            classes or a cell is neither 0 nor 1.
    """
    wanted = {name: value for value, name in labels.items() if value != BACKGROUND}
    shown: dict[str, tuple[int, ...]] = {}
    for case, cells in read_case_table(path).items():
        if cells.keys() != wanted.keys():
            raise InputError(
                "image-labels",
                f"{path} has the columns {', '.join(cells)}; the dataset's classes are "
                f"{', '.join(wanted) or 'not named'}.",
                _HINT if wanted else "Name the classes in dataset.json.",
            )
        odd = next((name for name, cell in cells.items() if cell not in ("0", "1")), None)
        if odd is not None:
            raise InputError(
                "image-labels",
                f"{path} says {cells[odd] or 'nothing'} of {odd} in the case {case}.",
                _HINT,
            )
        shown[case] = tuple(sorted(wanted[name] for name, cell in cells.items() if cell == "1"))
    return shown
