"""``imbalanceseg series``: the DICOM series below a folder, and what would become of each."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from imbalanceseg.cli.console import ProgressStyle, print_json, print_table, show_progress
from imbalanceseg.cli.models import JsonOption


def series(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Searched with all inside it.")],
    modality: Annotated[
        str | None, typer.Option(metavar="CT|MR|...", help="Of this modality only.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the DICOM series of a folder, with size and spacing, or why one makes no volume."""
    from imbalanceseg.dicom_series import index_series

    style = ProgressStyle.NONE if as_json else ProgressStyle.BAR
    with show_progress(style) as tell:
        found = index_series(folder, tell)
    if modality is not None:
        found = [one for one in found if one.modality.casefold() == modality.casefold()]
    if as_json:
        print_json([asdict(one) | {"folder": str(one.folder)} for one in found])
        return
    rows = [("folder", "modality", "description", "images", "volume", "series")]
    for one in found:
        volume = one.problem
        if one.size is not None and one.spacing_mm is not None:
            sides = " x ".join(map(str, one.size))
            volume = f"{sides} at {' x '.join(f'{mm:.3g}' for mm in one.spacing_mm)} mm"
            volume = ". ".join([volume, *(note.rstrip(".") for note in one.notes)])
        shown = str(one.folder.relative_to(folder)) if one.folder != folder else "."
        rows.append((shown, one.modality, one.description, str(one.images), volume, one.uid))
    print_table(rows)
