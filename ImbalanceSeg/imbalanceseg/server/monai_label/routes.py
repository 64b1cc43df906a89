"""Routes of MONAI Label that ask for work: what there is, segment, train, and what comes next."""

from __future__ import annotations

import asyncio
import hmac
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Annotated, Any, Literal
from urllib.parse import parse_qs

from fastapi import APIRouter, Body, HTTPException, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse

from imbalanceseg.errors import InputError
from imbalanceseg.server.http_errors import ERRORS
from imbalanceseg.server.monai_label.clicks import (
    SUFFIX,
    Click,
    clicked_class,
    clicks_of,
    grid_of,
    labels_after,
    submit_click,
)
from imbalanceseg.server.monai_label.desk import MonaiLabelDesk, label_names, require_done
from imbalanceseg.server.monai_label.forms import file_response, form_response
from imbalanceseg.server.monai_label.label_files import LabelForm, centroids
from imbalanceseg.server.monai_label.requests import Desk, Form, SomeImageName, received_form
from imbalanceseg.server.monai_label.views import app_info, image_info, training_view
from imbalanceseg.server.records import Job
from imbalanceseg.server.requests import ModelName

router = APIRouter(tags=["MONAI Label"], responses=ERRORS)

FORM: dict[str, Any] = {
    "requestBody": {
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "params": {"type": "string", "example": "{}"},
                        "file": {"type": "string", "format": "binary"},
                    },
                }
            }
        }
    }
}
_SECONDS_OF_LOOK = 1.0
_SECONDS_TO_STOP = 5.0
Params = Annotated[dict[str, Any] | None, Body(examples=[{}])]
Model = Annotated[ModelName, Path(description="Name of the model.")]


@router.get("/auth/")
def is_guarded() -> dict[str, Any]:
    """Whether a token is needed: always."""
    return {"enabled": True, "client_id": None, "realm": None}


@router.post("/auth/token")
async def log_in(request: Request) -> dict[str, str]:
    """The token for whoever gives it as the password, so that clients with a login can show it."""
    given = parse_qs((await request.body()).decode("utf-8", "replace")).get("password", [""])[0]
    token: str = request.app.state.token
    if not hmac.compare_digest(given.encode("utf-8"), token.encode("utf-8")):
        detail = {
            "code": "token-wrong",
            "message": "The password is not the token of the engine.",
            "hint": "Any user name will do; the engine says where its token lies.",
        }
        raise HTTPException(401, detail)
    return {"access_token": token, "token_type": "bearer"}


@router.get("/auth/token/valid")
def is_valid() -> dict[str, Any]:
    """Whether the token is right: whoever gets here has shown it."""
    return {"username": "user", "email": None, "name": None, "roles": []}


@router.get("/info/")
def info(desk: Desk) -> dict[str, Any]:
    """Models, trainers, strategies and the state of the datastore."""
    return app_info(desk)


@router.post("/infer/{model}", response_class=Response, openapi_extra=FORM)
async def infer(
    model: Model,
    request: Request,
    desk: Desk,
    image: SomeImageName = "",
    session_id: Annotated[str, Query(max_length=64)] = "",
    output: Literal["image", "json", "all", "dicom_seg"] = "all",
) -> Response:
    """Segment an image of the datastore, of a session, or one that is sent along as `file`.

    The answer is a form with `params` and the label map, or one of both. A client that goes away
    cancels the job.
    """
    async with received_form(request, desk, "file") as form:
        params = form.params
        asked = LabelForm.of(params)
        case = await run_in_threadpool(_case_of, desk, form, image, session_id)
    only = None
    if model.endswith(SUFFIX):
        model = model.removesuffix(SUFFIX)
        only, clicks = await run_in_threadpool(_points, desk, model, case, params)
        jobs = await _clicked(request, desk, model, case, params, clicks)
    else:
        job = await run_in_threadpool(desk.segment, model, case, params.get("client_id"))
        jobs = [await _over(request, desk, job)]
    if output == "dicom_seg":
        job = await _over(request, desk, await run_in_threadpool(desk.dicom_seg, jobs[-1]))
        path = desk.service.result_file(job.id, "segmentation.dcm")
        return FileResponse(path, media_type="application/dicom", filename=path.name)
    return await run_in_threadpool(_answer, desk, jobs, asked, output, only)


@router.post("/activelearning/{strategy}")
def next_sample(
    strategy: Annotated[str, Path(max_length=64)], desk: Desk, params: Params = None
) -> dict[str, Any]:
    """The image that should be labelled next; an empty object where all are."""
    found = desk.next_image(strategy)
    if found is None:
        return {}
    name, told = found
    return {"id": name} | told | image_info(name, desk.catalogue.image(name))


@router.post("/train/{model}")
def train(model: Model, desk: Desk, params: Params = None, enqueue: bool = False) -> dict[str, Any]:
    """Adapt a model to the image that was labelled last; `seconds` of `params` says how long."""
    if desk.running_training() and not enqueue:
        detail = {
            "code": "training-runs",
            "message": "A training runs already.",
            "hint": "Wait for it, stop it, or ask with enqueue=true.",
        }
        raise HTTPException(429, detail)
    return training_view(desk, desk.train(model, params or {}))


@router.post("/train/")
def train_all(desk: Desk, params: Params = None) -> dict[str, Any]:
    """Adapt all models that know a class of the label saved last, one after another."""
    given = params or {}
    answer = {}
    for model in desk.trainable():
        own = given.get(model)
        job = desk.train(model, given | own if isinstance(own, dict) else given)
        answer[model] = {"result": training_view(desk, job), "detail": None}
    return answer


@router.get("/train/")
def train_status(
    desk: Desk,
    all: bool = False,  # noqa: A002
    check_if_running: bool = False,
) -> Any:
    """How the latest training stands, all of them, or the one that runs; 404 without one."""
    if all:
        return [training_view(desk, job) for job in reversed(desk.trainings())]
    running = desk.running_training()
    job = running if check_if_running else next(iter(desk.trainings()), None)
    if job is None:
        raise InputError("training-unknown", "There is no such training.", "Start one.")
    return training_view(desk, job)


@router.delete("/train/")
async def train_stop(desk: Desk) -> Any:
    """Stop the trainings that such clients have asked for; null where there is none."""
    job = await run_in_threadpool(desk.stop_trainings)
    if job is None:
        return None
    loop = asyncio.get_running_loop()
    until = loop.time() + _SECONDS_TO_STOP
    while loop.time() < until and not desk.service.jobs.job(job.id).state.is_final:
        await asyncio.sleep(0.05)
    return training_view(desk, desk.service.jobs.job(job.id))


def _case_of(desk: MonaiLabelDesk, form: Form, image: str, session: str) -> str:
    if session:
        return desk.catalogue.session(session).case
    if "file" in form.files:
        return desk.keep_image(form.file("file"))
    if image:
        return desk.catalogue.image(image).case
    raise InputError(
        "image-needed", "Nothing says what to segment.", "Name an image or a session, or send one."
    )


async def _over(request: Request, desk: MonaiLabelDesk, job: Job) -> Job:
    """A job once it is done."""
    jobs = desk.service.jobs
    loop, news = asyncio.get_running_loop(), asyncio.Event()
    leave = jobs.log(job.id).listen(lambda: loop.call_soon_threadsafe(news.set))
    try:
        while not (job := jobs.job(job.id)).state.is_final:
            if desk.service.stopping:
                raise InputError("stopping", "The engine is about to stop.", "Try again later.")
            if await request.is_disconnected():
                jobs.cancel(job.id)
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), _SECONDS_OF_LOOK)
            news.clear()
    finally:
        leave()
    require_done(job)
    return job


def _points(
    desk: MonaiLabelDesk, model: str, case: str, params: Mapping[str, Any]
) -> tuple[str, list[Click]]:
    """The class that the points of a request are about, and the points as clicks."""
    desk.service.shelf.place(model)
    names = label_names(desk.models()[model])
    only = clicked_class(params, names)
    return only, clicks_of(params, names[only], grid_of(desk.service, case))


async def _clicked(
    request: Request,
    desk: MonaiLabelDesk,
    model: str,
    case: str,
    params: Mapping[str, Any],
    clicks: Sequence[Click],
) -> list[Job]:
    """A segmentation and the clicks that lead on from it, all done."""
    root = await run_in_threadpool(desk.root, model, case, params.get("client_id"))
    jobs = [await _over(request, desk, root)]
    for click in clicks:
        job = await run_in_threadpool(submit_click, desk.service, jobs[-1], click)
        jobs.append(await _over(request, desk, job))
    return jobs


def _answer(
    desk: MonaiLabelDesk,
    jobs: Sequence[Job],
    asked: LabelForm,
    output: str,
    only: str | None = None,
) -> Response:
    """What a segmentation, and clicks on it, have led to; of one class alone where one is named."""
    names = label_names(desk.models()[jobs[0].parameters["model"]])
    # Without a name, so that it goes with the answer, whatever becomes of that.
    file: IO[bytes] = tempfile.TemporaryFile(dir=desk.service.store.work)  # noqa: SIM115
    try:
        with labels_after(desk.service, jobs) as labels:
            told = {only: names[only]} if only is not None else names
            params: dict[str, Any] = {"centroids": centroids(labels, told)}
            asked.write(labels, file, None if only is None else names[only])
        params["label_names"] = names if only is None else {only: 1}
        params["latencies"] = {"total": jobs[-1].outcome.get("total_seconds")}
        name = f"labels{asked.extension}"
        if output == "json":
            file.close()
            return JSONResponse(params)
        if output == "image":
            return file_response(name, file, "application/octet-stream")
        return form_response(json.dumps(params), name, file)
    except BaseException:
        file.close()
        raise
