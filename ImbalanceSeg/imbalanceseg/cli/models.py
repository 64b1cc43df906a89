"""``imbalanceseg models``: the models at hand, their cards, their integrity, and copies of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imbalanceseg.cli.console import print_json, print_table
from imbalanceseg.errors import ImbalanceSegError, OutputError

if TYPE_CHECKING:
    from imbalanceseg.models.bundle import Model

app = typer.Typer(
    help="List, show, verify and export models.", no_args_is_help=True, rich_markup_mode=None
)

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Name or folder of a model.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_command(as_json: JsonOption = False) -> None:
    """List the models that came with the software."""
    from imbalanceseg.models.bundle import list_models, load_model

    found = [load_model(name) for name in list_models()]
    if as_json:
        print_json([_brief(model) for model in found])
        return
    rows = [("model", "version", "segments")]
    rows += [(m.name, m.version, ", ".join(s.name for s in m.segments)) for m in found]
    print_table(rows)


@app.command()
def show(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Show the card of a model: data, licence, measured figures, limits."""
    from imbalanceseg.models.bundle import load_model

    loaded = load_model(model)
    card = loaded.card.model_dump(mode="json")
    if as_json:
        print_json(_brief(loaded) | {"card": card})
        return
    print(f"{loaded.name} {loaded.version}  ({loaded.path})\n")
    _print_card(card)


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL]...", help="All models when left out.")
    ] = None,
) -> None:
    """Compare the weights of models with their checksums."""
    from imbalanceseg.models.bundle import list_models, load_model

    failures: list[ImbalanceSegError] = []
    rows: list[tuple[str, str]] = []
    for name in names or list_models():
        try:
            load_model(name).verify()
            rows.append((name, "ok"))
        except ImbalanceSegError as error:
            failures.append(error)
            rows.append((name, error.code))
    print_table(rows)
    if failures:
        raise failures[0]


@app.command()
def export(
    model: ModelArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder that gets the copy.")
    ],
) -> None:
    """Copy a model, a MONAI Bundle, to DIR/NAME."""
    from imbalanceseg.models.bundle import load_model
    from imbalanceseg.session import output_folder

    loaded = load_model(model)
    loaded.verify()
    target = output / loaded.name
    if target.exists():
        raise OutputError(
            "output-exists", f"{target} exists already.", "Choose another folder or remove it."
        )
    with output_folder(output):
        _copy_whole(loaded.path, target)
    print(target)


def _copy_whole(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.partial")
    try:
        shutil.copytree(source, temporary, ignore=shutil.ignore_patterns("__pycache__"))
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _brief(model: Model) -> dict[str, Any]:
    segments = [{"label": s.label, "name": s.name} for s in model.segments]
    return {
        "name": model.name,
        "version": model.version,
        "path": str(model.path),
        "segments": segments,
    }


def _print_card(card: dict[str, Any], indent: str = "") -> None:
    for key, value in card.items():
        if value is None or value in ("", [], {}):
            continue
        if isinstance(value, dict):
            print(f"{indent}{key}:")
            _print_card(value, indent + "  ")
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            print(f"{indent}{key}:")
            for item in value:
                _print_card(item if isinstance(item, dict) else {"-": item}, indent + "  ")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else value
            print(f"{indent}{key}: {text}")
