"""The tree parser on every real airway mask: what it finds, how long it takes, and a picture.

    python Testing/Benchmarks/airway_trees.py --data FOLDER
    python Testing/Benchmarks/airway_trees.py --data FOLDER --picture airway_generations.png

FOLDER holds airway_medmpd_masks and airway_atm22_masks. Each mask is parsed in a process of its
own, one after another, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from imbalanceseg.atomic import atomic_path
from imbalanceseg.io import read_image
from imbalanceseg.metrics.airway_tree import AirwayTree, Branch, parse_airway_tree

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from imbalanceseg.labels import SegmentInfo

# An adult's trachea is 10 to 12 cm long; a scan of the chest shows the lower half or more.
_TRACHEA_HEIGHT_MM = 50.0
_NAMES = {0: "trachea", 1: "main bronchi", 2: "lobar, intermediate"}
# Neighbours differ in hue, because relief changes how light a colour looks.
_COLORS = (
    (196, 203, 210),
    (78, 121, 255),
    (53, 198, 232),
    (63, 191, 79),
    (242, 213, 60),
    (242, 140, 40),
    (232, 65, 59),
    (224, 92, 200),
    (143, 99, 224),
    (168, 118, 74),
    (159, 227, 160),
    (247, 182, 200),
    (28, 150, 140),
    (255, 244, 190),
)
_MARGIN_MM = 12.0


@dataclass(frozen=True)
class Row:
    """What the parser makes of one mask.

    Attributes:
        case: name of the mask.
        seconds: wall time from the file to the tree.
        cpu_seconds: processor time of the same.
        peak_mib: largest resident memory of the process, in MiB; NaN where the system does not say.
        trachea_found: generation 0 is at least 5 cm high.
        main_bronchi_found: generation 1 is two branches that divide, one on each side.
        branches: how many.
        generations: branches of generation 0, 1, 2 and so on.
        length_mm: of the whole centreline.
        trachea_height_mm: extent of generation 0 from head to foot.
        right_mm: length of the right main bronchus; NaN when not found.
        left_mm: length of the left main bronchus; NaN when not found.
    """

    case: str
    seconds: float
    cpu_seconds: float
    peak_mib: float
    trachea_found: bool
    main_bronchi_found: bool
    branches: int
    generations: tuple[int, ...]
    length_mm: float
    trachea_height_mm: float
    right_mm: float
    left_mm: float

    @property
    def highest_generation(self) -> int:
        """Of any branch."""
        return len(self.generations) - 1


def masks_in(data: Path) -> list[Path]:
    """Every mask of an airway tree below the data folder."""
    medmpd = sorted((data / "airway_medmpd_masks").glob("*_bronchial_tree.nii.gz"))
    return medmpd + sorted((data / "airway_atm22_masks").glob("*.nii.gz"))


def parsed_alone(path: Path) -> Row:
    """:func:`examined` in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(examined, path).result()


def examined(path: Path) -> Row:
    """Parse a mask in this process."""
    began, cpu_began = time.perf_counter(), time.process_time()
    tree = parse_airway_tree(read_image(path))
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    height = trachea_height_mm(tree)
    right, left = main_bronchi(tree) or (None, None)
    return Row(
        case=path.name.removesuffix(".nii.gz"),
        seconds=round(seconds, 2),
        cpu_seconds=round(cpu_seconds, 2),
        peak_mib=round(_peak_mib()),
        trachea_found=height >= _TRACHEA_HEIGHT_MM,
        main_bronchi_found=right is not None,
        branches=len(tree.branches),
        generations=tuple(np.bincount([b.generation for b in tree.branches]).tolist()),
        length_mm=round(sum(b.length_mm for b in tree.branches), 1),
        trachea_height_mm=round(height, 1),
        right_mm=round(right.length_mm, 1) if right else float("nan"),
        left_mm=round(left.length_mm, 1) if left else float("nan"),
    )


def trachea_height_mm(tree: AirwayTree) -> float:
    """Extent of the trachea from head to foot; holes in its wall do not lengthen it."""
    slices = np.flatnonzero((tree.regions == tree.trachea.number).any(axis=(1, 2)))
    return float(slices[-1] - slices[0] + 1) * tree.grid.spacing_mm[2]


def main_bronchi(tree: AirwayTree) -> tuple[Branch, Branch] | None:
    """The right and the left main bronchus; None unless two branches that divide lie apart."""
    children = [tree.branches[n - 1] for n in tree.trachea.children]
    if len(children) != 2 or not all(child.children for child in children):
        return None
    carina = tree.carina_mm[0]
    right, left = sorted(children, key=lambda child: _middle_mm(tree, child.number)[0])
    apart = _middle_mm(tree, right.number)[0] < carina < _middle_mm(tree, left.number)[0]
    return (right, left) if apart else None


def _middle_mm(tree: AirwayTree, number: int) -> np.ndarray:
    """LPS position of the middle of a branch's centreline, in mm."""
    voxels = tree.centreline.voxels[tree.point_branches == number]
    return tree.grid.index_to_physical(voxels.mean(axis=0)[::-1])


def _peak_mib() -> float:
    # Not `getrusage`: its figure of a new process begins with that of the process it came from.
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    kib = [float(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return kib[0] / 1024 if kib else float("nan")


def table(rows: list[Row]) -> Table:
    """The rows for people."""
    result = Table(title="Airway masks taken apart")
    result.add_column("case")
    for heading in (
        "wall\ns",
        "CPU\ns",
        "peak\nMiB",
        "trachea\nmm high",
        "right main\nbronchus mm",
        "left main\nbronchus mm",
        "branches",
        "highest\ngeneration",
        "length\nmm",
    ):
        result.add_column(heading, justify="right")
    result.add_column("branches of generation 0, 1, 2, ...")
    for row in rows:
        result.add_row(
            row.case,
            f"{row.seconds:.1f}",
            f"{row.cpu_seconds:.1f}",
            f"{row.peak_mib:.0f}",
            f"{row.trachea_height_mm:.0f}" if row.trachea_found else "not found",
            f"{row.right_mm:.0f}" if row.main_bronchi_found else "not found",
            f"{row.left_mm:.0f}" if row.main_bronchi_found else "not found",
            str(row.branches),
            str(row.highest_generation),
            f"{row.length_mm:.0f}",
            " ".join(str(count) for count in row.generations),
        )
    return result


def write_picture(tree: AirwayTree, path: Path) -> None:
    """Draw a tree from the front, each generation in a colour, and write it as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from imbalanceseg.reporting.canvas import BACKGROUND, DPI, HEIGHT_PX, WIDTH_PX
    from imbalanceseg.reporting.projection import FRONT, draw_relief
    from imbalanceseg.reporting.scene import Scene

    generations = np.array([-1, *(b.generation for b in tree.branches)])[tree.regions] + 1
    margin = [round(_MARGIN_MM / s) for s in reversed(tree.grid.spacing_mm)]
    labels = np.pad(generations, [(m, m) for m in margin])
    scene = Scene(
        image=np.zeros(labels.shape, np.float32),
        labels=labels,
        heat=None,
        heat_name="",
        spacing_mm=tree.grid.spacing_mm,
        cosines=tree.grid.matrix,
        window=(0.0, 1.0),
        focus=(0, 0, 0),
    )
    segments = generation_segments(int(labels.max()))
    figure = Figure(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI, facecolor=BACKGROUND)
    view = figure.add_axes((0.01, 0.015, 0.74, 0.97), facecolor="black")
    draw_relief(view, scene, segments, FRONT)
    legend = figure.add_axes((0.76, 0.015, 0.23, 0.97), facecolor=BACKGROUND)
    draw_legend(legend, tree, segments)
    for axes in (view, legend):
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))


def generation_segments(count: int) -> tuple[SegmentInfo, ...]:
    """One label a generation, ``label == generation + 1``; colours return after 13."""
    from imbalanceseg.labels import AIRWAY_TREE, SegmentInfo

    return tuple(
        SegmentInfo(
            label=n + 1,
            name=f"{n} {_NAMES.get(n, '')}".strip(),
            category=AIRWAY_TREE.category,
            type=AIRWAY_TREE.type,
            color=_COLORS[n] if n < len(_COLORS) else _COLORS[1 + (n - 1) % (len(_COLORS) - 1)],
        )
        for n in range(count)
    )


def draw_legend(axes: Axes, tree: AirwayTree, segments: tuple[SegmentInfo, ...]) -> None:
    """Colour, name and number of branches of each generation."""
    from imbalanceseg.reporting.canvas import FAINT, TEXT, rgb

    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.text(0.02, 0.94, "Generation", color="white", fontsize=19, weight="bold", va="center")
    axes.text(0.98, 0.94, "branches", color=FAINT, fontsize=15, va="center", ha="right")
    counts = np.bincount([b.generation for b in tree.branches])
    for n, segment in enumerate(segments):
        y = 0.88 - 0.052 * n
        axes.text(0.02, y, "■", color=rgb(segment), fontsize=24, va="center")
        axes.text(0.15, y, segment.name, color=TEXT, fontsize=17, va="center")
        axes.text(0.98, y, str(counts[n]), color=TEXT, fontsize=17, va="center", ha="right")


def main() -> None:
    """Parse what lies in the folder and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with both sets of masks")
    parser.add_argument("--case", nargs="*", help="only masks whose name holds one of these")
    parser.add_argument("--json", type=Path, help="write the figures here too, one line a case")
    parser.add_argument("--picture", type=Path, help="PNG file to draw one tree into")
    parser.add_argument(
        "--pictured", default="patient2_bronchial_tree", help="whose tree (default %(default)s)"
    )
    arguments = parser.parse_args()
    masks = masks_in(arguments.data)
    chosen = [m for m in masks if any(part in m.name for part in arguments.case or [""])]
    rows = [parsed_alone(path) for path in chosen]
    if rows:
        Console(width=200).print(table(rows))
    if arguments.json:
        lines = "".join(json.dumps(asdict(row)) + "\n" for row in rows)
        with atomic_path(arguments.json) as path:
            path.write_text(lines, encoding="utf-8")
    if arguments.picture:
        mask = next(m for m in masks if m.name.startswith(arguments.pictured))
        write_picture(parse_airway_tree(read_image(mask)), arguments.picture)


if __name__ == "__main__":
    main()
