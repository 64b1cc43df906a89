"""Time and memory of every loss, forward and backward, beside MONAI's counterpart.

    python Testing/Benchmarks/losses.py --side 128 --channels 1 2
    python Testing/Benchmarks/losses.py --blobs 1 10 100 400

Both sides of a row are timed in turns in the same run, and only their ratio means something on a
machine that does other work. The second table compares blob loss in one scatter with the loop over
instances of its definition.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from imbalanceseg.atomic import atomic_path
from imbalanceseg.losses import create_loss, label_components, loss_names

Step = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Row:
    """One loss, ours and the peer's; seconds are medians.

    Attributes:
        name: of the loss.
        channels: of the logits.
        seconds: of forward and backward.
        peak_mib: the most that tensors of a pass hold at once.
        peer: what it is compared with; empty where there is nothing.
        peer_seconds: of the peer.
        peer_peak_mib: of the peer.
    """

    name: str
    channels: int
    seconds: float
    peak_mib: float
    peer: str = ""
    peer_seconds: float = float("nan")
    peer_peak_mib: float = float("nan")

    @property
    def ratio(self) -> float:
        """Our time over the peer's."""
        return self.seconds / self.peer_seconds


def loss_rows(side: int, channels: int, device: str, repeats: int) -> list[Row]:
    """Every loss on random logits and one ball of foreground in each of eight places."""
    logits, target = problem(side, channels, device)
    maps = maps_once(logits, target)
    rows = []
    for name in loss_names():
        if name == "general_union" and channels > 1:
            continue
        loss = create_loss(name)
        given = {key: maps[key] for key in _MAPS.get(name, ()) if key in maps}

        def ours(z: Tensor, loss: torch.nn.Module = loss, given: dict = given) -> Tensor:
            return loss(z, target, **given)

        peer = monai_peer(name, channels, target)
        rows.append(compared(name, logits, ours, "MONAI" if peer else "", peer, repeats))
    return rows


def blob_rows(side: int, counts: list[int], device: str, repeats: int) -> list[Row]:
    """blob loss of Dice: one scatter against a pass an instance."""
    rows = []
    loss = create_loss("blob")
    for count in counts:
        target = cubes(side, count).to(device)
        logits = torch.randn(target.shape, device=device)
        components = label_components(target)
        assert int(components.max()) == count

        def ours(z: Tensor, t: Tensor = target, c: Tensor = components) -> Tensor:
            return loss(z, t, components=c)

        def looped(z: Tensor, c: Tensor = components) -> Tensor:
            return blob_by_definition(z, c)

        torch.testing.assert_close(ours(logits), looped(logits), atol=1e-4, rtol=1e-4)
        rows.append(compared(f"blob, {count} instances", logits, ours, "loop", looped, repeats))
    return rows


def blob_by_definition(logits: Tensor, components: Tensor) -> Tensor:
    """The loop of the paper: every instance hides the others and is scored on what is left."""
    p = torch.sigmoid(logits)
    terms = []
    for n in range(1, int(components.max()) + 1):
        seen = (components == 0) | (components == n)
        terms.append(_dice(p * seen, (components == n).to(p)))
    return 2 * _dice(p, (components > 0).to(p)) + torch.stack(terms).mean()


def _dice(p: Tensor, g: Tensor) -> Tensor:
    return 1 - (2 * (p * g).sum() + 1e-5) / (p.sum() + g.sum() + 1e-5)


def problem(side: int, channels: int, device: str) -> tuple[Tensor, Tensor]:
    """Logits ``[1, channels, side, side, side]`` and a label with every class in it."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((1, channels, side, side, side), generator=generator)
    target = cubes(side, 8)
    numbered = label_components(target)
    classes = max(1, channels - 1)
    target = torch.where(numbered > 0, (numbered - 1) % classes + 1, 0).to(torch.uint8)
    return logits.to(device), target.to(device)


def cubes(side: int, count: int) -> Tensor:
    """Label ``[1, 1, side, side, side]`` with ``count`` separate cubes on a regular lattice."""
    per_axis = max(1, round(count ** (1 / 3) + 0.499))
    while per_axis**3 < count:
        per_axis += 1
    pitch = side // per_axis
    width = max(1, pitch // 3)
    label = torch.zeros(1, 1, side, side, side, dtype=torch.uint8)
    for n in range(count):
        z, y, x = (n // per_axis**2, n // per_axis % per_axis, n % per_axis)
        corner = [pitch * k + width for k in (z, y, x)]
        box = tuple(slice(c, c + width) for c in corner)
        label[(0, 0, *box)] = 1
    return label


_MAPS = {
    "boundary": ("distance",),
    "hausdorff_dt": ("distance",),
    "mse_heatmap": ("heatmap",),
    "blob": ("components",),
    "general_union": ("weight",),
    "weighted_ce": ("weight",),
}


def maps_once(logits: Tensor, target: Tensor) -> dict[str, Tensor]:
    """What a data loader would have computed before: it is no part of a training step."""
    foreground = max(1, logits.shape[1] - 1)
    field = torch.rand((1, foreground, *logits.shape[2:]), device=logits.device)
    return {
        "distance": 10 * field,
        "heatmap": field,
        "weight": field[:, :1] + 0.1,
        "components": label_components(target, binary=logits.shape[1] == 1),
    }


def monai_peer(name: str, channels: int, target: Tensor) -> Step | None:
    """MONAI's loss of the same meaning on the same target, where it has one."""
    from monai import losses as monai

    act = {"sigmoid": True} if channels == 1 else {"softmax": True, "to_onehot_y": True}
    rest = {"include_background": channels == 1}
    made: dict[str, Callable[[], torch.nn.Module]] = {
        "dice": lambda: monai.DiceLoss(**act, **rest),
        "dice_squared": lambda: monai.DiceLoss(squared_pred=True, **act, **rest),
        "iou": lambda: monai.DiceLoss(jaccard=True, **act, **rest),
        "tversky": lambda: monai.TverskyLoss(alpha=0.3, beta=0.7, **act, **rest),
        "dice_ce": lambda: monai.DiceCELoss(**act, **rest),
        "focal": lambda: monai.FocalLoss(
            use_softmax=channels > 1, to_onehot_y=channels > 1, gamma=2.0
        ),
        "hausdorff_dt": lambda: monai.HausdorffDTLoss(**act, **rest),
    }
    if name not in made:
        return None
    loss, label = made[name](), target.float()
    return lambda z: loss(z, label)


def compared(
    name: str, logits: Tensor, ours: Step, peer: str, theirs: Step | None, repeats: int
) -> Row:
    """Time both in turns, after one run that does not count."""
    steps = [ours] if theirs is None else [ours, theirs]
    seconds: list[list[float]] = [[] for _ in steps]
    peaks = [peak_mib(step, logits) for step in steps]
    for _ in range(repeats):
        for step, times in zip(steps, seconds, strict=True):
            times.append(timed(step, logits))
    figures = [f for s, p in zip(seconds, peaks, strict=True) for f in (median(s), p)]
    mine, others = figures[:2], figures[2:]
    return Row(name, logits.shape[1], *mine, *((peer, *others) if others else ()))


def timed(step: Step, logits: Tensor) -> float:
    """Seconds of one forward and backward pass."""
    began = perf_counter()
    once(step, logits)
    if logits.is_cuda:
        torch.cuda.synchronize()
    return perf_counter() - began


def once(step: Step, logits: Tensor) -> None:
    """Forward and backward."""
    step(logits.detach().clone().requires_grad_()).backward()


def peak_mib(step: Step, logits: Tensor) -> float:
    """Most memory that tensors of one pass hold at once, in MiB; arrays of numpy not counted."""
    if logits.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        once(step, logits)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        once(step, logits)
    events = profile.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(accumulate(size for _, size in changes)) / 2**20


def table(title: str, rows: list[Row]) -> Table:
    """The rows for people."""
    result = Table(title=title)
    for heading in ("loss", "channels"):
        result.add_column(heading)
    for heading in ("ms", "MiB", "beside", "ms", "MiB", "time ratio"):
        result.add_column(heading, justify="right")
    for row in rows:
        peer = [row.peer, f"{1e3 * row.peer_seconds:.0f}", f"{row.peer_peak_mib:.0f}"]
        cells = [*peer, f"{row.ratio:.2f}"] if row.peer else [""] * 4
        result.add_row(
            row.name, str(row.channels), f"{1e3 * row.seconds:.0f}", f"{row.peak_mib:.0f}", *cells
        )
    return result


def main() -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=128, help="voxels along each axis")
    parser.add_argument("--channels", type=int, nargs="*", default=[1, 2], help="of the logits")
    parser.add_argument("--blobs", type=int, nargs="*", default=[1, 10, 100, 400])
    parser.add_argument("--repeats", type=int, default=5, help="timed passes a loss")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    console, side = Console(width=120), arguments.side
    rows: list[Row] = []
    for channels in arguments.channels:
        found = loss_rows(side, channels, arguments.device, arguments.repeats)
        console.print(table(f"Losses at {side} voxels a side, {channels} channel(s)", found))
        rows += found
    if arguments.blobs:
        found = blob_rows(side, arguments.blobs, arguments.device, arguments.repeats)
        console.print(table(f"blob loss at {side} voxels a side", found))
        rows += found
    if arguments.json:
        with atomic_path(arguments.json) as path:
            path.write_text(json.dumps([asdict(r) for r in rows], indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
