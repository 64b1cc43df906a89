"""``imbalanceseg doctor``: what this computer has, what it lacks, and the command that fixes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imbalanceseg.cli.console import print_json, print_table
from imbalanceseg.cli.models import JsonOption


def doctor(
    as_json: JsonOption = False,
    folder: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder whose disk is looked at.")
    ] = Path("."),
) -> None:
    """Check this installation: versions, device, memory, disk, models.

    Exits with 0 when it is usable and with 1 when something needed is missing.
    """
    from imbalanceseg.reporting.checks import State, run_checks

    checks = run_checks(folder)
    usable = all(check.state is not State.MISSING for check in checks)
    if as_json:
        print_json({"usable": usable, "checks": [check.as_dict() for check in checks]})
    else:
        print_table([(check.state.value, check.name, check.value) for check in checks])
        fixes = [check for check in checks if check.fix]
        if fixes:
            print("\nWhat to do:")
            print_table([(check.name, check.fix) for check in fixes], indent="  ")
        print("\nImbalanceSeg is usable here." if usable else "\nSomething needed is missing.")
    if not usable:
        raise typer.Exit(1)
