"""The HTTP face of the service: routes, token, errors, and the document that describes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer

import imbalanceseg
from imbalanceseg.server import routes_cases, routes_jobs
from imbalanceseg.server.guard import Guard
from imbalanceseg.server.http_errors import add_error_handlers
from imbalanceseg.server.monai_label.app import OPEN_PATHS, create_monai_label_app
from imbalanceseg.server.service import EngineService

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_DESCRIPTION = """
Segmentation of what is small, rare and scattered in medical images. **Not for clinical use.**

A scan is sent once and addressed by what it is. Jobs work on it, one after another, tell of their
progress, and leave results. Every error has a stable `code`, a sentence and a hint.
"""


def create_app(service: EngineService, token: str) -> Guard:
    """An ASGI app.

    Args:
        service: that does the work; starting and stopping it is up to the caller.
        token: every request must show it as ``Authorization: Bearer``.
    """
    app = FastAPI(
        title="ImbalanceSeg engine",
        version=imbalanceseg.__version__,
        description=_DESCRIPTION,
        openapi_url="/v1/openapi.json",
        # the pages that show it would fetch scripts from elsewhere
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(HTTPBearer(auto_error=False))],
    )
    app.state.service = service
    app.include_router(routes_cases.router)
    app.include_router(routes_jobs.router)
    add_error_handlers(app)
    monai_label = create_monai_label_app(service, token)

    async def by_path(scope: Scope, receive: Receive, send: Send) -> None:
        ours = scope["path"].startswith("/v1/")
        await (app if ours else monai_label)(scope, receive, send)

    return Guard(by_path, token, service.limits.json_bytes, OPEN_PATHS)
