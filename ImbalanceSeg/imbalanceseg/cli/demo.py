"""``imbalanceseg demo``: the main job on a phantom made on the spot, nothing to download."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Annotated

import typer

from imbalanceseg.cli.console import ProgressStyle, print_json, show_progress
from imbalanceseg.cli.segment import (
    DeviceOption,
    OutputOption,
    ProgressOption,
    print_result,
    run_segment,
)
from imbalanceseg.progress import ProgressEvent

_MODEL = "airway"
_SPACING_MM = 1.2
_SCALE = 0.75
_DESCRIPTION = "ImbalanceSeg airway phantom"


def demo(
    output: OutputOption = Path("imbalanceseg-demo"),
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same phantom.")] = 0,
    device: DeviceOption = "auto",
    progress: ProgressOption = ProgressStyle.BAR,
) -> None:
    """Make a phantom chest CT, segment its airways, and compare with the truth.

    The phantom is written as a DICOM series to DIR/series and goes the way of a real scan.
    """
    from imbalanceseg.dicom.series import write_dicom_series
    from imbalanceseg.metrics.evaluate import evaluate
    from imbalanceseg.session import output_folder
    from imbalanceseg.synthesis.airway import chest_phantom

    start = time.perf_counter()
    with output_folder(output), show_progress(progress) as tell:
        tell(ProgressEvent("phantom", 0, 1))
        image, truth = chest_phantom(seed, spacing_mm=_SPACING_MM, scale=_SCALE)
        series = output / "series"
        _remove_earlier_phantom(series)
        write_dicom_series(image, series, description=_DESCRIPTION, seed=f"demo {seed}")
        tell(ProgressEvent("phantom", 1, 1))
        session, files = run_segment(
            series, _MODEL, output, {"maps": ("hardness",)},
            device=device, dicom_seg=True, series=None, tell=tell,
        )  # fmt: skip
    seconds = time.perf_counter() - start
    print_result(session, [series, *files], seconds, progress, dicom_seg=True)
    assert session.result is not None
    dice = evaluate(session.result.labels, truth, metrics=("dice",))["dice"]
    if progress is ProgressStyle.JSON:
        print_json({"stage": "compared", "done": 1, "total": 1, "metrics": {"dice": dice}})
    else:
        print(f"This scan is a phantom. Dice with its exact airway tree: {dice:.3f}")


def _remove_earlier_phantom(folder: Path) -> None:
    """Remove the series of an earlier demo, and only that: nothing else may lie in the folder."""
    from imbalanceseg.io import list_series

    if not folder.is_dir() or not any(folder.iterdir()):
        return
    found = list_series(folder)
    files = {file for info in found for file in info.files}
    ours = len(found) == 1 and found[0].description == _DESCRIPTION
    if ours and files == set(folder.iterdir()):
        shutil.rmtree(folder)
