"""Routes of MONAI Label's datastore and sessions."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import IO, Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse

from imbalanceseg.errors import InputError
from imbalanceseg.server.http_errors import ERRORS
from imbalanceseg.server.monai_label.forms import file_response
from imbalanceseg.server.monai_label.label_files import LabelForm
from imbalanceseg.server.monai_label.requests import (
    FINAL,
    Desk,
    ImageName,
    SomeImageName,
    Tag,
    received_form,
)
from imbalanceseg.server.monai_label.routes import FORM
from imbalanceseg.server.monai_label.views import (
    datastore_stats,
    datastore_view,
    image_info,
    label_info,
    session_info,
)

router = APIRouter(tags=["MONAI Label"], responses=ERRORS)

SessionNumber = Annotated[str, Path(max_length=64)]
_NRRD = "application/octet-stream"
_MOST_NAMES = 254
_LONGEST_NAME = 128


@router.get("/datastore/")
def datastore(desk: Desk, output: Literal["all", "stats", "train"] = "stats") -> Any:
    """How many images and labels there are, or which."""
    if output == "stats":
        return datastore_stats(desk)
    if output == "all":
        return datastore_view(desk)
    images = desk.catalogue.images()
    return [{"image": name, "label": name} for name, image in images.items() if image.labels]


@router.put("/datastore/", openapi_extra=FORM)
@router.put("/datastore/image", openapi_extra=FORM)
async def add_image(request: Request, desk: Desk, image: ImageName) -> dict[str, str]:
    """Take an image under a name that the client chooses."""
    async with received_form(request, desk, "file") as form:
        case = await run_in_threadpool(desk.keep_image, form.file("file"))
    await run_in_threadpool(desk.catalogue.add_image, image, case)
    return {"image": image}


@router.head("/datastore/image")
def has_image(desk: Desk, image: ImageName) -> Response:
    """Whether an image is here."""
    desk.catalogue.image(image)
    return Response()


@router.get("/datastore/image", response_class=FileResponse)
def get_image(desk: Desk, image: ImageName) -> FileResponse:
    """An image, as NRRD; the first channel where there are several."""
    case = desk.service.library.case(desk.catalogue.image(image).case)
    path = desk.service.store.case_folder(case.id) / "channel_0.nrrd"
    return FileResponse(path, media_type=_NRRD, filename="image.nrrd")


@router.get("/datastore/image/info")
def get_image_info(desk: Desk, image: ImageName) -> dict[str, Any]:
    """What is known of an image."""
    return image_info(image, desk.catalogue.image(image))


@router.delete("/datastore/")
@router.delete("/datastore/image")
def remove_image(desk: Desk, id: ImageName) -> dict[str, Any]:  # noqa: A002
    """Delete an image, its labels, and the results of it."""
    desk.remove_image(id)
    return {}


@router.put("/datastore/label", openapi_extra=FORM)
async def save_label(
    request: Request, desk: Desk, image: ImageName, tag: Tag = FINAL
) -> dict[str, str]:
    """Take a label map of an image; slices in which something is labelled count as finished.

    `label_info` of `params` says what its values stand for.
    """
    tag = tag or FINAL
    await run_in_threadpool(desk.catalogue.image, image)
    async with received_form(request, desk, "label") as form:
        names = _names(form.params)
        await run_in_threadpool(desk.keep_label, image, tag, form.file("label"), names)
    return {"image": image, "label": image}


@router.head("/datastore/label")
def has_label(
    desk: Desk, tag: Tag, label: SomeImageName = "", image: SomeImageName = ""
) -> Response:
    """Whether an image has a label."""
    desk.catalogue.label(label or image, tag)
    return Response()


@router.get("/datastore/label", response_class=Response)
def get_label(desk: Desk, label: ImageName, tag: Tag) -> Response:
    """A label map, as NRRD; what is unlabelled is background in it."""
    found = desk.catalogue.label(label, tag)
    case = desk.catalogue.image(label).case
    kept = desk.service.library.annotation(case, found.annotation)
    file: IO[bytes] = tempfile.TemporaryFile(dir=desk.service.store.work)  # noqa: SIM115
    try:
        LabelForm(".nrrd").write(desk.service.store.annotation_file(case, kept.id), file)
        return file_response("label.nrrd", file, _NRRD)
    except BaseException:
        file.close()
        raise


@router.get("/datastore/label/info")
def get_label_info(desk: Desk, label: ImageName, tag: Tag) -> dict[str, Any]:
    """What is known of a label."""
    desk.catalogue.label(label, tag)
    return label_info(label, desk.catalogue.image(label), tag)


@router.delete("/datastore/label")
def remove_label(desk: Desk, id: ImageName, tag: Tag) -> dict[str, Any]:  # noqa: A002
    """Delete a label."""
    desk.remove_label(id, tag)
    return {}


@router.put("/session/", openapi_extra=FORM)
async def create_session(
    request: Request, desk: Desk, expiry: Annotated[int, Query(ge=0, le=10**9)] = 0
) -> dict[str, Any]:
    """Take an image, as `files`, to work on without a name."""
    async with received_form(request, desk, "files") as form:
        case = await run_in_threadpool(desk.keep_image, form.file("files"))
    number = await run_in_threadpool(desk.catalogue.add_session, case, expiry)
    session = desk.catalogue.session(number)
    return {"session_id": number, "session_info": session_info(number, session)}


@router.get("/session/{session}")
def get_session(session: SessionNumber, desk: Desk) -> dict[str, Any]:
    """A session that goes on."""
    return session_info(session, desk.catalogue.session(session))


@router.delete("/session/{session}")
def remove_session(session: SessionNumber, desk: Desk) -> dict[str, Any]:
    """End a session; its image goes when the room is needed."""
    return session_info(session, desk.catalogue.remove_session(session))


def _names(params: Mapping[str, Any]) -> dict[str, int]:
    """What label values stand for, of ``label_info``: a list of names with their ``idx``.

    Raises:
        InputError: ``label-info``.
    """
    listed = params.get("label_info") or []
    names: dict[str, int] = {}
    try:
        for one in listed:
            # A client that only tells colours says nothing of values.
            if one.get("idx") is not None:
                names[str(one["name"])] = int(one["idx"])
        sound = all(len(n) <= _LONGEST_NAME and 0 <= i <= _MOST_NAMES for n, i in names.items())
    except (AttributeError, TypeError, KeyError, ValueError, OverflowError):
        sound = False
    if not sound or len(names) > _MOST_NAMES:
        raise InputError(
            "label-info",
            "What label_info says of the label values is not usable.",
            "Give a list of names with their values from 1 to 254 as idx.",
        )
    return {name: index for name, index in names.items() if index}
