"""``imbalanceseg finetune``: teach a model this patient from what was painted."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from imbalanceseg.cli.console import ProgressStyle, show_progress
from imbalanceseg.cli.segment import (
    ChannelOption,
    DeviceOption,
    MemoryOption,
    OutputOption,
    ProgressOption,
    SeriesOption,
    print_result,
)
from imbalanceseg.progress import ProgressEvent

FROM_SCRATCH = "none"


class DepthName(StrEnum):
    """How deep a model is trained."""

    AUTO = "auto"
    HEAD = "head"
    DECODER = "decoder"
    ALL = "all"


def finetune(
    scan: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="The scan: an image file or a DICOM folder.")
    ],
    annotation: Annotated[
        Path,
        typer.Argument(
            metavar="ANNOTATION",
            help="Labels on the scan's grid, 255 where nothing is said; confirmed slices stand in "
            "the header.",
        ),
    ],
    output: OutputOption,
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", metavar="M", help=f"What to start from; {FROM_SCRATCH} for nothing."
        ),
    ],
    seconds: Annotated[
        float, typer.Option(metavar="N", help="Wall time, until the segmentation is there.")
    ] = 60.0,
    depth: Annotated[DepthName, typer.Option(help="How deep the model is trained.")] = (
        DepthName.AUTO
    ),
    seed: Annotated[int, typer.Option(metavar="N", help="Of everything random.")] = 0,
    device: DeviceOption = "auto",
    series: SeriesOption = None,
    channel: ChannelOption = None,
    memory_gb: MemoryOption = None,
    progress: ProgressOption = ProgressStyle.BAR,
) -> None:
    """Adapt a model to a scan from some painted slices, and segment the scan with it.

    DIR receives what `imbalanceseg segment` writes, and the adapted model in DIR/model, which
    --model takes. The model it was adapted from stays as it is.
    """
    from imbalanceseg.annotation.files import load_annotation
    from imbalanceseg.models.bundle import load_model
    from imbalanceseg.session import Session, output_folder

    start = time.perf_counter()
    parent = None if model == FROM_SCRATCH else load_model(model)
    if parent is not None:
        parent.verify()
    with show_progress(progress) as tell:
        tell(ProgressEvent("read", 0, 1, scan.name))
        session = Session.open(scan, series, channel or (), parent)
        session.annotation = load_annotation(annotation, session.image)
        tell(ProgressEvent("read", 1, 1, scan.name))
        with output_folder(output):
            tuned = session.finetune(
                parent,
                device,
                tell,
                depth=depth.value,
                seconds=seconds,
                seed=seed,
                memory_gb=memory_gb,
            )
            session.model = tuned.save(output / "model")
            files = session.write(output, progress=tell)
    print_result(session, files, time.perf_counter() - start, progress, dicom_seg=False)
