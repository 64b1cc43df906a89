"""What a request holds: names that are keys and nothing else, and forms with files."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import Depends, Query, Request
from fastapi.concurrency import run_in_threadpool

from imbalanceseg.errors import InputError
from imbalanceseg.server.http_errors import too_large
from imbalanceseg.server.limits import GIB
from imbalanceseg.server.monai_label.desk import MonaiLabelDesk
from imbalanceseg.server.monai_label.forms import FORM_TYPE, FormReader
from imbalanceseg.server.monai_label.images import ImageSink
from imbalanceseg.server.request_body import pieces, receiving

NAME = r"^[^/\\\x00-\x1f\x7f]{1,200}$"
ImageName = Annotated[str, Query(pattern=NAME, description="Name of an image; no path.")]
SomeImageName = Annotated[str, Query(pattern=r"^[^/\\\x00-\x1f\x7f]{0,200}$")]
Tag = Annotated[str, Query(pattern=r"^[A-Za-z0-9._-]{0,64}$", description="Kind of the label.")]
FINAL = "final"
"""The tag of a label that a person has finished."""


def the_desk(request: Request) -> MonaiLabelDesk:
    """The desk behind the app."""
    desk: MonaiLabelDesk = request.app.state.monai_label
    return desk


Desk = Annotated[MonaiLabelDesk, Depends(the_desk)]


@dataclass
class Form:
    """A form that has arrived.

    Attributes:
        fields: those that are no files.
        files: images by the names of their fields, until the form is closed.
    """

    fields: dict[str, str] = field(default_factory=dict)
    files: dict[str, ImageSink] = field(default_factory=dict)

    @property
    def params(self) -> dict[str, Any]:
        """The field ``params``, which is a JSON object.

        Raises:
            InputError: ``params-invalid``.
        """
        try:
            params = json.loads(self.fields.get("params") or "{}")
        except (ValueError, RecursionError):
            params = None
        if not isinstance(params, dict):
            raise InputError("params-invalid", "The field params is no JSON object.")
        return params

    def file(self, name: str) -> ImageSink:
        """A file.

        Raises:
            InputError: ``file-missing``.
        """
        if name not in self.files:
            raise InputError(
                "file-missing", f"The form has no file {name}.", "Send an image in that field."
            )
        return self.files[name]


@asynccontextmanager
async def received_form(
    request: Request, desk: MonaiLabelDesk, *accepted: str
) -> AsyncIterator[Form]:
    """A form that has arrived piece by piece.

    Args:
        request: whose body it is; ``application/x-www-form-urlencoded`` holds no files.
        desk: whose room the files take.
        accepted: names of files; one of each is taken.
    """
    form = Form()
    with ExitStack() as stack:

        def sink_for(name: str) -> ImageSink:
            if name not in accepted or name in form.files:
                raise InputError(
                    "file-not-taken",
                    "The form has a file that is not taken here.",
                    f"Send one file as {' or '.join(accepted)}.",
                )
            form.files[name] = ImageSink(desk.service, stack)
            return form.files[name]

        async with receiving(request):
            await _fill(form, request, desk, sink_for)
            yield form


async def _fill(
    form: Form, request: Request, desk: MonaiLabelDesk, sink_for: Callable[[str], ImageSink]
) -> None:
    limits = desk.service.limits
    content_type = request.headers.get("content-type", "")
    if not content_type.lower().startswith(FORM_TYPE):
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > limits.json_bytes:
                raise too_large(limits.json_bytes)
        form.fields |= parse_qsl(body.decode("utf-8", "replace"))
        return
    reader = FormReader(content_type, sink_for, limits.json_bytes)
    size = 0
    async for piece in pieces(request):
        size += len(piece)
        if size > limits.upload_bytes:
            raise InputError(
                "upload-too-large",
                f"More than {limits.upload_bytes / GIB:.3g} GiB were sent.",
                "Crop or resample the image, or ask for a higher limit of uploads.",
            )
        await run_in_threadpool(reader.feed, piece)
    reader.finish()
    form.fields |= reader.fields
