"""The figures of a training over time, as a table and for TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from imbalanceseg.atomic import output_error, write_text

LOG = "log.csv"


class TrainingLog:
    """Rows of ``log.csv``, and the same figures for TensorBoard, where that is installed.

    Args:
        folder: receives ``log.csv`` and ``tensorboard/``.
        classes: foreground classes.
        iteration: where the training goes on; rows beyond it are dropped, since they come again.
        leads: whether this process writes.

    Attributes:
        latest: figures by name, as last logged.
    """

    def __init__(self, folder: Path, classes: int, iteration: int, leads: bool) -> None:
        self.path = folder / LOG
        self.columns = ["iteration", "seconds", "loss", "learning_rate", "dice"]
        self.columns += [f"dice_{value}" for value in range(1, classes + 1)]
        self.latest: dict[str, float] = {}
        self.folder, self.iteration, self.leads = folder, iteration, leads
        self.board: Any = None

    def __enter__(self) -> TrainingLog:
        if self.leads:
            self._forget_rows_to_come()
            self.board = _board(self.folder / "tensorboard", self.iteration)
        return self

    def __exit__(self, *_: object) -> None:
        if self.board is not None:
            # What TensorBoard cannot write is in the table.
            with suppress(OSError):
                self.board.close()

    def row(
        self, iteration: int, seconds: float, loss: float, rate: float, dice: Sequence[float]
    ) -> None:
        """One row; ``dice`` is empty between validations.

        Raises:
            OutputError: it cannot be written.
        """
        figures = dict(zip(self.columns[2:], (loss, rate, *dice), strict=False))
        self.latest |= figures
        cells = [iteration, round(seconds, 1), *(f"{v:.6g}" for v in figures.values())]
        cells += [""] * (len(self.columns) - len(cells))
        try:
            with open(self.path, "a", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow(cells)
        except OSError as error:
            raise output_error(self.path, error) from error
        if self.board is not None:
            with suppress(OSError):
                for name, value in figures.items():
                    self.board.add_scalar(name, value, iteration)

    def _forget_rows_to_come(self) -> None:
        lines = self.path.read_text().split("\n") if self.path.is_file() else [""]
        # What follows the last end of a line is empty, or a row that a killed process began.
        rows = [line for line in lines[1:-1] if line.count(",") == len(self.columns) - 1]
        kept = [row for row in rows if int(row.split(",", 1)[0]) <= self.iteration]
        write_text(self.path, "\n".join([",".join(self.columns), *kept]) + "\n")


def _board(folder: Path, iteration: int) -> Any:
    """TensorBoard's writer; None where it is not installed or cannot write."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    try:
        return SummaryWriter(str(folder), purge_step=iteration + 1 if iteration else None)
    except OSError:
        return None
