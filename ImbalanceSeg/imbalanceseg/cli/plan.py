"""``imbalanceseg plan``: what a dataset looks like, and how a network would be trained on it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imbalanceseg.cli.console import ProgressStyle, print_json, print_table, show_progress
from imbalanceseg.cli.models import JsonOption
from imbalanceseg.cli.segment import ProgressOption

if TYPE_CHECKING:
    from imbalanceseg.planning.fingerprint import Fingerprint
    from imbalanceseg.planning.plan import Plan

DatasetArgument = Annotated[
    Path,
    typer.Argument(
        metavar="DATASET",
        help="nnU-Net v2 folder, folder with images and labels, or MONAI datalist.",
    ),
]


class Preset(StrEnum):
    """Whose rules make the plan."""

    V2 = "v2"
    EARLY = "early"


def plan(
    dataset: DatasetArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Also write fingerprint.json and plan.json."
        ),
    ] = None,
    instances: Annotated[
        bool, typer.Option("--instances", help="Label values number instances of one class.")
    ] = False,
    memory: Annotated[
        float, typer.Option("--memory-gb", min=1, metavar="GB", help="Memory for training.")
    ] = 8.0,
    preset: Annotated[
        Preset, typer.Option("--preset", help="nnU-Net's rules of today, or its first ones.")
    ] = Preset.V2,
    as_json: JsonOption = False,
    progress: ProgressOption = ProgressStyle.BAR,
) -> None:
    """Measure a dataset and plan the training, with the reason for each decision.

    All that is wrong with the dataset is listed at once.
    """
    from imbalanceseg.io import write_text
    from imbalanceseg.planning.dataset import open_dataset
    from imbalanceseg.planning.fingerprint import fingerprint
    from imbalanceseg.planning.plan import decisions, make_plan
    from imbalanceseg.session import output_folder

    described = open_dataset(dataset, instances)
    with show_progress(progress) as tell:
        found = fingerprint(described, progress=tell)
    made = make_plan(described, found, memory, preset.value)
    if output is not None:
        with output_folder(output):
            write_text(output / "fingerprint.json", found.model_dump_json(indent=2) + "\n")
            write_text(output / "plan.json", made.model_dump_json(indent=2) + "\n")
    if as_json:
        print_json(made.model_dump(mode="json"))
        return
    if found.classes:
        _print_classes(found, made)
    if found.image_labelled:
        print(
            f"Of {found.image_labelled} more cases"
            if found.classes
            else f"Of all {found.image_labelled} cases",
            "only the classes that they show are known.",
        )
    print()
    for decision, value in decisions(made).items():
        print(f"{decision}: {value}")
        print(f"    {made.reasons[decision]}")


def _print_classes(found: Fingerprint, made: Plan) -> None:
    unit = "px" if found.spatial_dims == 2 else "mm3"
    sizes = f"10/50/90 % size, {unit}"
    rows = [("class", "cases", "share", "components", sizes, "local share", "compactness")]
    for value, one in found.classes.items():
        sizes = " / ".join(_size(size) for size in one.component_size)
        rows.append(
            (
                made.labels.get(value, str(value)),
                f"{one.cases} of {found.cases}",
                f"{one.voxel_share:.3%}",
                f"{one.components_a_case:g}",
                sizes,
                f"{one.local_share:.2f}",
                f"{one.compactness:.2f}",
            )
        )
    print_table(rows)


def _size(size: float) -> str:
    return f"{size:,.0f}" if size >= 100 else f"{size:.3g}"
