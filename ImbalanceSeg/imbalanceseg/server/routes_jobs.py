"""Routes of jobs: start one, follow it, get its results, stop it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Path, Query, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, StreamingResponse

from imbalanceseg.server.http_errors import ERRORS
from imbalanceseg.server.records import JobState
from imbalanceseg.server.requests import JobId, JobRequest, ModelName
from imbalanceseg.server.responses import InfoView, JobView
from imbalanceseg.server.routes_cases import Service
from imbalanceseg.server.service import EngineService

router = APIRouter(prefix="/v1", responses=ERRORS)

HEARTBEAT_SECONDS = 1.0
"""A comment comes so often on a stream of events on which nothing else comes."""

_MEDIA_TYPES = {".json": "application/json", ".dcm": "application/dicom"}
_CASE = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_JOB = "0123456789abcdef0123456789abcdef"
_EXAMPLES: dict[str, Any] = {
    "segment": {"kind": "segment", "case": _CASE, "parameters": {"model": "airway"}},
    "finetune": {
        "kind": "finetune",
        "case": _CASE,
        "parameters": {"model": "airway", "annotation": _CASE, "seconds": 60, "preview": True},
    },
    "click": {
        "kind": "click",
        "case": _CASE,
        "parameters": {"base": _JOB, "point_mm": [12.5, -40.0, 118.0], "label": 1},
    },
    "suggest": {
        "kind": "suggest",
        "case": _CASE,
        "parameters": {"base": _JOB, "annotation": _CASE, "n": 5},
    },
    "evaluate": {
        "kind": "evaluate",
        "case": _CASE,
        "parameters": {"base": _JOB, "reference": _CASE, "metrics": ["dice", "hd95_mm"]},
    },
    "dicom-seg": {"kind": "dicom-seg", "case": _CASE, "parameters": {"base": _JOB}},
}
_BODY = Body(openapi_examples={name: {"value": value} for name, value in _EXAMPLES.items()})


def _binary(media_type: str, description: str) -> dict[int | str, dict[str, Any]]:
    """An answer that is a file, for the OpenAPI document."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    return {200: {"content": content, "description": description}}


Client = Annotated[
    str,
    Header(
        alias="X-Client",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Whoever takes turns with others; random, and no name of a person.",
    ),
]
JobNumber = Annotated[JobId, Path(description="Number of the job.")]


@router.get("/info", tags=["engine"])
def info(service: Service) -> InfoView:
    """Versions, protocol, device, models, limits."""
    return InfoView.model_validate(service.info())


@router.get(
    "/models/{model}",
    tags=["engine"],
    response_class=StreamingResponse,
    responses=_binary("application/zip", "The bundle: `configs`, `models`, `docs`, `LICENSE`."),
)
def get_model(model: ModelName, service: Service) -> StreamingResponse:
    """A model that was adapted here, as a zip of its bundle, to be kept or taken elsewhere."""
    headers = {"Content-Disposition": f'attachment; filename="{model}.zip"'}
    pieces = service.model_archive(model)
    return StreamingResponse(pieces, media_type="application/zip", headers=headers)


@router.delete("/models/{model}", status_code=204, tags=["engine"])
def delete_model(model: ModelName, service: Service) -> None:
    """Delete a model that was adapted here."""
    service.delete_model(model)


@router.post("/jobs", status_code=202, tags=["jobs"])
async def start_job(
    request: Annotated[JobRequest, _BODY],
    service: Service,
    client: Client = "anonymous",
    wait: Annotated[
        float, Query(ge=0, le=60, description="Seconds to wait for the end of the job.")
    ] = 0,
) -> JobView:
    """Ask for a job.

    Clients take turns. Clicks and suggestions do not wait for long jobs. With `wait` the answer
    comes when the job is over, or after so many seconds.
    """
    job = await run_in_threadpool(service.jobs.submit, client, request)
    if wait:
        await _wait(service, job.id, wait)
    return JobView.model_validate(service.jobs.view(service.jobs.job(job.id)))


@router.get("/jobs", tags=["jobs"])
def all_jobs(
    service: Service,
    case: Annotated[str | None, Query(pattern=r"^[0-9a-f]{64}$")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[JobView]:
    """Jobs, the latest first."""
    found = (
        service.store.jobs(limit=limit)
        if case is None
        else service.store.jobs('"case" = ?', case, limit=limit)
    )
    return [JobView.model_validate(service.jobs.view(job)) for job in found]


@router.get("/jobs/{job}", tags=["jobs"])
def get_job(job: JobNumber, service: Service) -> JobView:
    """A job as it stands."""
    return JobView.model_validate(service.jobs.view(service.jobs.job(job)))


@router.delete("/jobs/{job}", tags=["jobs"])
def delete_job(job: JobNumber, service: Service) -> Response:
    """Stop a job (202), or delete one that is over, with its results (204).

    A job that is stopped has no result; to keep that of an adaptation, finish it.
    """
    if service.jobs.job(job).state.is_final:
        service.jobs.forget(job)
        return Response(status_code=204)
    service.jobs.cancel(job)
    return Response(status_code=202)


@router.post("/jobs/{job}/finish", status_code=202, tags=["jobs"])
def finish_job(job: JobNumber, service: Service) -> JobView:
    """Have an adaptation end soon, with the best it has found so far as its result.

    One that has not come to the end of its first round goes through that. Nothing happens where
    the job is over.
    """
    return JobView.model_validate(service.jobs.view(service.jobs.finish(job)))


@router.get(
    "/jobs/{job}/preview",
    tags=["jobs"],
    response_class=Response,
    responses=_binary("application/octet-stream", "Labels on the grid of the case, as NRRD."),
)
def preview(job: JobNumber, service: Service) -> Response:
    """The labels that an adaptation has shown last, while it runs.

    There are some where `preview` was asked for, from the moment of the first event of that name.
    """
    return Response(service.jobs.preview(job), media_type="application/octet-stream")


@router.get(
    "/jobs/{job}/events",
    tags=["jobs"],
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": 'id: 7\ndata: {"event": "progress", "stage": "tiles", "done": 3, '
                    '"total": 12, "message": "", "metrics": {}}\n\n',
                }
            },
            "description": "Server-sent events, one JSON object each, until the job is over.",
        }
    },
)
async def events(
    job: JobNumber,
    service: Service,
    last_event_id: Annotated[
        int, Header(alias="Last-Event-ID", ge=0, le=10**12, description="Go on after this one.")
    ] = 0,
) -> StreamingResponse:
    """What happens to a job, while it happens.

    `{"event": "state", "job": {...}}` at every change of state, the last one included, and
    `{"event": "progress", "stage", "done", "total", "message", "metrics"}` in between. Where
    previews were asked for, `{"event": "preview", "number"}` says that there is a newer one.
    """
    await run_in_threadpool(service.jobs.job, job)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    stream = _stream(service, job, last_event_id)
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


@router.get("/jobs/{job}/results/{name}", tags=["jobs"], response_class=FileResponse)
def result(
    job: JobNumber, name: Annotated[str, Path(max_length=64)], service: Service
) -> FileResponse:
    """A file of the results, by a name that the job tells in `files`."""
    path = service.result_file(job, name)
    media_type = _MEDIA_TYPES.get(path.suffix, "application/octet-stream")
    return FileResponse(path, media_type=media_type, filename=path.name)


async def _stream(service: EngineService, job: str, after: int) -> AsyncIterator[str]:
    loop, news = asyncio.get_running_loop(), asyncio.Event()
    leave = service.jobs.log(job).listen(lambda: loop.call_soon_threadsafe(news.set))
    try:
        while True:
            news.clear()
            for event in service.jobs.events(job, after):
                after = event.number
                yield f"id: {event.number}\ndata: {json.dumps(event.data)}\n\n"
                if _is_last(event.data):
                    return
            if service.stopping:
                return
            try:
                await asyncio.wait_for(news.wait(), HEARTBEAT_SECONDS)
            except TimeoutError:
                yield ": still here\n\n"
    finally:
        leave()


async def _wait(service: EngineService, job: str, seconds: float) -> None:
    loop, news = asyncio.get_running_loop(), asyncio.Event()
    leave = service.jobs.log(job).listen(lambda: loop.call_soon_threadsafe(news.set))
    until = loop.time() + seconds
    try:
        while not service.jobs.job(job).state.is_final and not service.stopping:
            left = until - loop.time()
            if left <= 0:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), min(HEARTBEAT_SECONDS, left))
            news.clear()
    finally:
        leave()


def _is_last(data: Any) -> bool:
    return data["event"] == "state" and JobState(data["job"]["state"]).is_final
