"""Our training loop beside MONAI's and nnU-Net's: patches a second, waiting for data, memory.

    python Testing/Benchmarks/training_step.py FOLDER
    python Testing/Benchmarks/training_step.py FOLDER --nnunet-python NNUNET/bin/python --json FILE

FOLDER is a dataset of 3D images that a training takes. All loops have the network, deep
supervision, patch, batch, optimiser and data that plan and recipe ask for, and Dice with cross
entropy; none validates or writes checkpoints.

- ours: patches of the trainer, prefetched, and its step with all that the recipe wants of it
  (averaged weights, clipped gradients); "auto" is the precision that it chooses by itself.
- MONAI: as in its tutorials, CacheDataset, dictionary transforms, DataLoader and a plain loop with
  tensors that carry metadata; random transforms of the same kinds, as often as in ours. What does
  not change is cached. With 0 and 2 workers, of which the better is shown.
- nnU-Net v2: nnUNetTrainer's loader and train_step, in the interpreter of an environment with
  ``pip install nnunetv2``. Its network is PlainConvUNet of the same sizes, its augmentation its
  own, its optimiser the recipe's. On processors it computes in float32 alone.

Every loop lives in a process of its own. They take turns: a few steps that do not count, so that
what was made ahead during the pause is used up, then some that do, then quiet. A ratio is the
median of those within the rounds. Waiting is the time from asking for a batch to having it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, median
from time import perf_counter, sleep

import psutil
from rich.console import Console
from rich.table import Table
from training_loops import MONAI, NNUNET, OURS, Loop, describe, described

from imbalanceseg.atomic import write_json
from imbalanceseg.inference.device import cpu_has_bf16, gpu_has_bf16

_MONAI_WORKERS = (0, 2)
_QUIET_CORES, _QUIET_AFTER, _QUIET_AT_MOST = 0.1, 0.2, 20.0


@dataclass(frozen=True)
class Round:
    """Some steps of one loop.

    Attributes:
        seconds: of all steps.
        waited: seconds of these, for data.
        cpu_seconds: of all processes of the loop.
        gpu_busy: share of the time that the GPU computed; None without one.
    """

    seconds: float
    waited: float
    cpu_seconds: float
    gpu_busy: float | None


@dataclass(frozen=True)
class Row:
    """One loop measured; medians of the rounds.

    Attributes:
        loop: which.
        patches_a_second: trained on.
        ratio: patches a second over those of MONAI's loop in float32.
        waits: share of the time.
        cpu_busy: share of all cores.
        gpu_busy: share of the time; None without a GPU.
        peak_mib: largest resident memory of the loop's process, and what its workers hold for
            themselves.
        gpu_mib: largest memory held by torch on the GPU; 0 on a CPU.
        seconds_a_step: of every round.
    """

    loop: Loop
    patches_a_second: float
    ratio: float
    waits: float
    cpu_busy: float
    gpu_busy: float | None
    peak_mib: float
    gpu_mib: float
    seconds_a_step: list[float]


@dataclass
class Child:
    """The process of a loop, seen from outside.

    Attributes:
        loop: which.
        process: of Python.
        rounds: measured so far.
        workers_mib: most that its workers have held for themselves.
        gpu_mib: see :class:`Row`.
    """

    loop: Loop
    process: subprocess.Popen[str]
    rounds: list[Round] = field(default_factory=list)
    workers_mib: float = 0.0
    gpu_mib: float = 0.0

    def answer(self) -> dict[str, float]:
        """What the process says next."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"The loop {self.loop} has ended by itself; see above.")
        found: dict[str, float] = json.loads(line)
        return found

    def steps(self, count: int) -> dict[str, float]:
        """Let it do some steps."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return self.answer()

    def measure(self, warm_up: int, count: int, device: str) -> None:
        """One round."""
        self.steps(warm_up)
        before = self.cpu_seconds()
        with GpuWatch(device) as watch:
            answer = self.steps(count)
        used = self.cpu_seconds() - before
        self.rounds.append(Round(answer["seconds"], answer["waited"], used, watch.busy))
        self.gpu_mib = answer["gpu_mib"]
        own = [process.memory_full_info().uss for process in self.family()[1:]]
        self.workers_mib = max(self.workers_mib, sum(own) / 2**20)
        self.settle()

    def settle(self) -> None:
        """Wait until no batch is being made, so that the next loop has the machine to itself."""
        began = perf_counter()
        while perf_counter() - began < _QUIET_AT_MOST:
            before = self.cpu_seconds()
            sleep(_QUIET_AFTER)
            if self.cpu_seconds() - before < _QUIET_CORES * _QUIET_AFTER:
                return

    def family(self) -> list[psutil.Process]:
        """The process, and those that it started."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """Of the whole family so far, those that have ended included."""
        total = 0.0
        for process in self.family():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system + times.children_user + times.children_system
        return total

    def peak_mib(self) -> float:
        """See :class:`Row`; NaN where the system does not say."""
        # Not `getrusage`: its figure of a new process begins with that of the one it came from.
        status = Path(f"/proc/{self.process.pid}/status")
        lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
        kib = [float(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
        return kib[0] / 1024 + self.workers_mib if kib else float("nan")

    def end(self) -> None:
        """Stop it and its workers."""
        for process in reversed(self.family()):
            process.kill()
        self.process.wait()


class GpuWatch:
    """How busy the GPU is within a block, as its driver says; None on a CPU."""

    def __init__(self, device: str) -> None:
        self.busy: float | None = None
        self._process: subprocess.Popen[str] | None = None
        self._watches = device != "cpu"

    def __enter__(self) -> GpuWatch:
        if self._watches:
            query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
            command = ["nvidia-smi", *query, "--loop-ms=100", "--id=0"]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            lines = self._process.communicate()[0].split()
            self.busy = mean(float(line) / 100 for line in lines) if lines else None


def begun(work: Path, loop: Loop, device: str, python: Path) -> Child:
    """Start the process of a loop."""
    program = Path(__file__).with_name("training_loops.py")
    command = [python, program, work, json.dumps(asdict(loop)), device]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )
    return Child(loop, process)


def loops(device: str, nnunet: bool) -> list[Loop]:
    """All that can be measured here."""
    fast = cpu_has_bf16() if device == "cpu" else gpu_has_bf16()
    precisions = ["float32", "bfloat16"] if fast else ["float32"]
    found = [Loop(MONAI, p, workers) for p in precisions for workers in _MONAI_WORKERS]
    if nnunet:
        found.append(Loop(NNUNET, "float32" if device == "cpu" else "float16"))
    return [*found, Loop(OURS, "float32"), Loop(OURS, "auto")]


def measured(
    work: Path, chosen: Sequence[Loop], arguments: argparse.Namespace, batch: int
) -> list[Row]:
    """Every loop, in turns; the better of those that differ in their workers alone."""
    children: list[Child] = []
    try:
        for loop in chosen:
            python = arguments.nnunet_python if loop.name == NNUNET else Path(sys.executable)
            children.append(begun(work, loop, arguments.device, python))
            # One after another: each reads and caches in peace.
            children[-1].answer()
            children[-1].settle()
        for _ in range(arguments.rounds):
            for child in children:
                child.measure(arguments.warm_up, arguments.steps, arguments.device)
        best: dict[tuple[str, str], Child] = {}
        for child in children:
            key = (child.loop.name, child.loop.precision)
            if key not in best or _seconds(child) < _seconds(best[key]):
                best[key] = child
        base = best[MONAI, "float32"]
        return [_row(child, base, arguments.steps, batch) for child in best.values()]
    finally:
        for child in children:
            child.end()


def _seconds(child: Child) -> float:
    return median(r.seconds for r in child.rounds)


def _row(child: Child, base: Child, steps: int, batch: int) -> Row:
    rounds, cores = child.rounds, os.cpu_count() or 1
    busy = [r.gpu_busy for r in rounds if r.gpu_busy is not None]
    return Row(
        loop=child.loop,
        patches_a_second=batch * steps / _seconds(child),
        ratio=median(b.seconds / r.seconds for b, r in zip(base.rounds, rounds, strict=True)),
        waits=median(r.waited / r.seconds for r in rounds),
        cpu_busy=median(r.cpu_seconds / r.seconds / cores for r in rounds),
        gpu_busy=median(busy) if busy else None,
        peak_mib=child.peak_mib(),
        gpu_mib=child.gpu_mib,
        seconds_a_step=[round(r.seconds / steps, 4) for r in rounds],
    )


def table(rows: Sequence[Row], title: str) -> Table:
    """The rows for people."""
    result = Table(title=title)
    for heading in ("loop", "precision"):
        result.add_column(heading)
    for heading in (
        "patches\n/ s",
        "of MONAI\nfloat32",
        "waits for\ndata",
        "CPU\nbusy",
        "GPU\nbusy",
        "peak\nMiB",
        "GPU\nMiB",
    ):
        result.add_column(heading, justify="right")
    for row in rows:
        workers = "" if row.loop.workers is None else f", {row.loop.workers} workers"
        result.add_row(
            f"{row.loop.name}{workers}",
            row.loop.precision,
            f"{row.patches_a_second:.2f}",
            f"{row.ratio:.2f}x",
            f"{row.waits:.1%}",
            f"{row.cpu_busy:.0%}",
            "" if row.gpu_busy is None else f"{row.gpu_busy:.0%}",
            f"{row.peak_mib:.0f}",
            f"{row.gpu_mib:.0f}" if row.gpu_mib else "",
        )
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="dataset of 3D images")
    parser.add_argument("--recipe", default="default", help="name or file")
    parser.add_argument("--memory-gb", type=float, default=8.0, help="of the plan")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8, help="measured, a loop and round")
    parser.add_argument("--warm-up", type=int, default=4, help="steps before them")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--nnunet-python", type=Path, help="interpreter that has nnunetv2")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        title = describe(work, arguments.data, arguments.recipe, arguments.memory_gb)
        plan, recipe = described(work)
        chosen = loops(arguments.device, arguments.nnunet_python is not None)
        rows = measured(work, chosen, arguments, recipe.batch or plan.batch)
    Console(width=110).print(table(rows, title))
    if arguments.json:
        write_json(arguments.json, {"measured": title, "rows": [asdict(row) for row in rows]})


if __name__ == "__main__":
    main()
