"""``imbalanceseg segment`` of a folder of cases: a table on the way and at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imbalanceseg.cli.console import ProgressStyle, print_json, print_table, show_progress

if TYPE_CHECKING:
    from imbalanceseg.cohort import CaseRow


def segment_folder(
    folder: Path,
    model_name: str,
    output: Path,
    settings: Mapping[str, Any],
    *,
    device: str,
    dicom_seg: bool,
    style: ProgressStyle,
) -> bool:
    """Segment all cases of a folder and print what became of them; whether none failed."""
    from imbalanceseg.cohort import find_cases, segment_cohort
    from imbalanceseg.cohort_table import FAILED, TABLE_FILE
    from imbalanceseg.models.bundle import load_model

    start = time.perf_counter()
    model = load_model(model_name)
    with show_progress(style) as tell:
        cases = find_cases(folder, model, output, progress=tell)
        rows = segment_cohort(
            cases, model, output, settings, device=device, dicom_seg=dicom_seg, progress=tell
        )
    seconds = time.perf_counter() - start
    if style is ProgressStyle.JSON:
        print_json(_summary(rows, output / TABLE_FILE, seconds))
    else:
        _print_rows(rows, output / TABLE_FILE, seconds)
    return all(row.status != FAILED for row in rows)


def _summary(rows: Sequence[CaseRow], table: Path, seconds: float) -> dict[str, Any]:
    return {
        "stage": "finished",
        "done": len(rows),
        "total": len(rows),
        "counts": _counts(rows),
        "cases": [asdict(row) for row in rows],
        "table": str(table),
        "seconds": seconds,
    }


def _counts(rows: Sequence[CaseRow]) -> dict[str, int]:
    found = Counter(row.status for row in rows)
    return {status: found[status] for status in ("done", "failed", "skipped")}


def _print_rows(rows: Sequence[CaseRow], table: Path, seconds: float) -> None:
    from imbalanceseg.reporting.report import NOT_FOR_CLINICAL_USE

    segments = list(dict.fromkeys(name for row in rows for name in row.volume_ml))
    lines = [("case", "status", "time", *segments, "what was wrong")]
    for row in rows:
        volumes = [f"{row.volume_ml[s]:.2f} ml" if s in row.volume_ml else "" for s in segments]
        wrong = f"{row.code}: {row.message}" if row.code else ""
        lines.append((row.case, row.status, f"{row.seconds:.1f} s", *volumes, wrong))
    print_table(lines)
    counted = ", ".join(f"{count} {status}" for status, count in _counts(rows).items())
    print(f"\n{len(rows)} cases in {seconds:.1f} s: {counted}. The table:\n  {table}")
    print(f"\n{NOT_FOR_CLINICAL_USE}")
