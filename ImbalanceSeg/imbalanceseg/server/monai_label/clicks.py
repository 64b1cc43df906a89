"""Points of a client, as clicks that go on from a segmentation.

A client sends all its points every time. A click is numbered by what it is and what it goes on
from, so that only the last of them has to be worked out.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from imbalanceseg.errors import InputError
from imbalanceseg.geometry import Grid
from imbalanceseg.labels import BACKGROUND
from imbalanceseg.server.library import header_of_file
from imbalanceseg.server.records import Job, JobState
from imbalanceseg.server.requests import ClickParameters, ClickRequest
from imbalanceseg.server.result_files import CHANGED_FILE, LABELS_FILE, paste
from imbalanceseg.server.service import EngineService

SUFFIX = "-click"
"""A model of this ending takes points; without it, it is the model that they correct."""

_MOST_POINTS = 200


@dataclass(frozen=True)
class Click:
    """What is at a point.

    Attributes:
        point_mm: LPS.
        label: of the model; 0 is background.
    """

    point_mm: tuple[float, float, float]
    label: int


def clicked_class(params: Mapping[str, Any], names: Mapping[str, int]) -> str:
    """The class that the points are about: ``label`` of a request, or the only one.

    Raises:
        InputError: ``class-unknown``.
    """
    wanted = params.get("label")
    if isinstance(wanted, str) and wanted in names:
        return wanted
    if len(names) == 1:
        return next(iter(names))
    raise InputError(
        "class-unknown",
        "The request names no class of the model.",
        f"Give one of {', '.join(names)} as label.",
    )


def clicks_of(params: Mapping[str, Any], label: int, grid: Grid) -> list[Click]:
    """The clicks of a request.

    Args:
        params: ``foreground`` and ``background`` are lists of points in voxels (i, j, k).
        label: that the foreground has.
        grid: of the scan.

    Raises:
        InputError: ``points-invalid``.
    """
    clicks = []
    for key, value in (("foreground", label), ("background", BACKGROUND)):
        points = params.get(key) or []
        if not isinstance(points, list) or not all(map(_is_point, points)):
            raise InputError(
                "points-invalid",
                f"The field {key} is no list of points.",
                "Give points as three numbers, in voxels.",
            )
        for point in points:
            x, y, z = (float(mm) for mm in grid.index_to_physical(np.asarray(point, np.float64)))
            clicks.append(Click((x, y, z), value))
    if len(clicks) > _MOST_POINTS:
        raise InputError(
            "points-invalid",
            f"There are {len(clicks)} points, {_MOST_POINTS} are taken.",
            "Save what was reached, and begin anew.",
        )
    return clicks


def grid_of(service: EngineService, case: str) -> Grid:
    """Of a case that is here."""
    return header_of_file(service.store.case_folder(case) / "channel_0.nrrd").volume.grid


def latest_segmentation(service: EngineService, model: str, case: str) -> Job | None:
    """One that clicks can go on from, if there is one."""
    found = service.store.jobs(
        "kind = 'segment' AND state = 'done' AND \"case\" = ?"
        " AND json_extract(parameters, '$.model') = ?",
        case,
        model,
        limit=1,
    )
    return found[0] if found and LABELS_FILE in found[0].files else None


def submit_click(service: EngineService, base: Job, click: Click) -> Job:
    """Ask for a click, or find it where it was asked for; errors as :meth:`JobBook.submit`."""
    told = json.dumps([base.id, click.point_mm, click.label])
    number = hashlib.sha256(told.encode("ascii")).hexdigest()[:32]
    known = service.store.job(number)
    is_lost = known is not None and known.state.is_final and known.state is not JobState.DONE
    parameters = ClickParameters(base=base.id, point_mm=click.point_mm, label=click.label)
    request = ClickRequest(
        kind="click",
        case=base.case,
        id=secrets.token_hex(16) if is_lost else number,
        parameters=parameters,
    )
    return service.jobs.submit(base.client, request)


@contextmanager
def labels_after(service: EngineService, jobs: Sequence[Job]) -> Iterator[Path]:
    """The labels that a segmentation and clicks have led to, in a file for as long as it lasts.

    Raises:
        InputError: ``result-gone`` or ``result-unknown``.
    """
    root, *clicks = jobs
    whole = service.result_file(root.id, LABELS_FILE)
    boxes = [
        service.result_file(job.id, CHANGED_FILE)
        for job in clicks
        if job.outcome["start"] is not None
    ]
    if not boxes:
        yield whole
        return
    labels = sitk.ReadImage(str(whole))
    for box in boxes:
        labels = paste(sitk.ReadImage(str(box)), labels)
    path = service.store.work / f"clicked-{secrets.token_hex(8)}.nrrd"
    try:
        sitk.WriteImage(labels, str(path))
        yield path
    finally:
        path.unlink(missing_ok=True)


def _is_point(point: Any) -> bool:
    return (
        isinstance(point, list)
        and len(point) == 3
        and all(isinstance(x, int | float) and not isinstance(x, bool) for x in point)
        and all(abs(x) < 1e6 and math.isfinite(x) for x in point)
    )
