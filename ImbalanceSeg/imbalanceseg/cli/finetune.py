"""``imbalanceseg finetune``: teach a model this patient from what was painted."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
from imbalanceseg.privacy import case_title
from imbalanceseg.progress import ProgressEvent

FROM_SCRATCH = "none"
CHECKPOINT = "checkpoint.safetensors"


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
    iterations: Annotated[
        int | None, typer.Option(metavar="N", help="Steps a round, instead of what time allows.")
    ] = None,
    depth: Annotated[DepthName, typer.Option(help="How deep the model is trained.")] = (
        DepthName.AUTO
    ),
    seed: Annotated[int, typer.Option(metavar="N", help="Of everything random.")] = 0,
    device: DeviceOption = "auto",
    series: SeriesOption = None,
    channel: ChannelOption = None,
    memory_gb: MemoryOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the adaptation in DIR that was stopped.")
    ] = False,
    progress: ProgressOption = ProgressStyle.BAR,
) -> None:
    """Adapt a model to a scan from some painted slices, and segment the scan with it.

    DIR receives what `imbalanceseg segment` writes, and the adapted model in DIR/model, which
    --model takes. The model it was adapted from stays as it is. What was stopped goes on with
    --resume and the same arguments.
    """
    from imbalanceseg.annotation.files import load_annotation
    from imbalanceseg.models.bundle import load_model
    from imbalanceseg.session import Session, output_folder

    start = time.perf_counter()
    parent = None if model == FROM_SCRATCH else load_model(model)
    if parent is not None:
        parent.verify()
    with show_progress(progress) as tell:
        tell(ProgressEvent("read", 0, 1, case_title(scan.name)))
        session = Session.open(scan, series, channel or (), parent)
        session.annotation = load_annotation(annotation, session.image)
        tell(ProgressEvent("read", 1, 1, session.name))
        with output_folder(output), _resumable(output / CHECKPOINT):
            tuned = session.finetune(
                parent,
                device,
                tell,
                depth=depth.value,
                seconds=seconds,
                iterations=iterations,
                seed=seed,
                memory_gb=memory_gb,
                checkpoint=output / CHECKPOINT,
                resume=resume,
                seconds_used=time.perf_counter() - start,
            )
            session.model = tuned.save(output / "model")
            files = session.write(output, progress=tell)
            (output / CHECKPOINT).unlink()
    print_result(session, files, time.perf_counter() - start, progress, dicom_seg=False)


@contextmanager
def _resumable(checkpoint: Path) -> Iterator[None]:
    """Whoever stops an adaptation is told that nothing is lost."""
    try:
        yield
    except Exception:
        raise
    except BaseException:
        if checkpoint.exists():
            print("The last checkpoint is kept: go on with --resume.", file=sys.stderr)
        raise
