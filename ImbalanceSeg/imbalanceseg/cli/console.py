"""What commands print: progress on the way, tables and files at the end."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from imbalanceseg.progress import ProgressCallback, ProgressEvent, ignore_progress

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_SECONDS_A_LINE = 30.0
_CASES = "cases"


class ProgressStyle(StrEnum):
    """How progress is shown."""

    BAR = "bar"
    JSON = "json"
    NONE = "none"


@contextmanager
def show_progress(style: ProgressStyle) -> Iterator[ProgressCallback]:
    """A callback that shows progress while the block runs.

    ``bar`` draws on standard error, as one line a stage where that is no terminal; ``json`` prints
    one JSON object an event on standard output.
    """
    if style is ProgressStyle.NONE:
        yield ignore_progress
    elif style is ProgressStyle.JSON:
        yield _print_json_event
    elif not sys.stderr.isatty():
        yield _StageLines()
    else:
        with _rich_progress() as progress:
            yield _Bars(progress)


def print_json(value: Any) -> None:
    """One JSON value on one line; NaN and infinity become null."""
    print(json.dumps(_finite(value), ensure_ascii=False, allow_nan=False), flush=True)


def print_table(rows: Sequence[Sequence[str]], indent: str = "") -> None:
    """Rows of text in aligned columns, never wrapped."""
    if not rows:
        return
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print((indent + "  ".join(cells)).rstrip())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not (float("-inf") < value < float("inf")):
        return None
    return value


def _print_json_event(event: ProgressEvent) -> None:
    print_json(
        {
            "stage": event.stage,
            "done": event.done,
            "total": event.total,
            "message": event.message,
            "metrics": dict(event.metrics),
        }
    )


class _StageLines:
    """One line whenever a new stage begins, and now and then one with the figures known so far."""

    def __init__(self) -> None:
        self._stage = ""
        self._told = time.monotonic()

    def __call__(self, event: ProgressEvent) -> None:
        now = time.monotonic()
        if event.stage == _CASES and event.done < event.total:
            self._stage, self._told = event.stage, now
            which = f"case {event.done + 1} of {event.total}: {event.message}"
            print(which, file=sys.stderr, flush=True)
        elif event.stage != self._stage and event.stage != _CASES:
            self._stage, self._told = event.stage, now
            print(f"{event.stage} ...", file=sys.stderr, flush=True)
        elif event.metrics and event.message and now - self._told > _SECONDS_A_LINE:
            self._told = now
            where = f"{event.done} of {event.total}" if event.total else f"{event.done}"
            print(f"{event.stage} {where}: {event.message}", file=sys.stderr, flush=True)


class _Bars:
    """One bar for each stage; a bar is full when the next stage begins.

    The bar of the stage ``cases`` stays, and those of a case go when the next case begins.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._stage = ""
        self._task: TaskID | None = None
        self._cases: TaskID | None = None

    def __call__(self, event: ProgressEvent) -> None:
        if event.stage == _CASES:
            self._next_case(event)
            return
        if event.stage != self._stage:
            self._finish()
            self._stage = event.stage
            self._task = self._progress.add_task(event.stage, message="", total=None)
        assert self._task is not None
        self._progress.update(
            self._task, completed=event.done, total=event.total or None, message=event.message
        )

    def _next_case(self, event: ProgressEvent) -> None:
        for task in self._progress.task_ids:
            if task != self._cases:
                self._progress.remove_task(task)
        self._stage, self._task = "", None
        if self._cases is None:
            self._cases = self._progress.add_task(_CASES, message="", total=None)
        self._progress.update(
            self._cases, completed=event.done, total=event.total, message=event.message
        )

    def _finish(self) -> None:
        if self._task is not None:
            total = self._progress.tasks[self._progress.task_ids.index(self._task)].total or 1
            self._progress.update(self._task, completed=total, total=total, message="")


def _rich_progress() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description:<12}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[message]}", markup=False),
        console=Console(stderr=True),
    )
