"""The HTTP face for clients of MONAI Label."""

from __future__ import annotations

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer

import imbalanceseg
from imbalanceseg.server.http_errors import add_error_handlers
from imbalanceseg.server.monai_label import routes, routes_datastore
from imbalanceseg.server.monai_label.desk import MonaiLabelDesk
from imbalanceseg.server.service import EngineService

OPEN_PATHS = ("/auth/", "/auth/token")
"""A client asks here how to get in, so these ask for no token."""

_DESCRIPTION = """
The protocol of MONAI Label, as far as its clients use it. **Not for clinical use.**

An image is a case, a label an annotation, and training an adaptation to the image labelled last.
"""


def create_monai_label_app(service: EngineService, token: str) -> FastAPI:
    """An ASGI app, to be guarded by whoever serves it.

    Args:
        service: that does the work.
        token: that a client is given when it logs in with it.

    Raises:
        OutputError: ``datastore-unreadable``.
    """
    app = FastAPI(
        title="ImbalanceSeg for clients of MONAI Label",
        version=imbalanceseg.__version__,
        description=_DESCRIPTION,
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(HTTPBearer(auto_error=False))],
    )
    app.state.monai_label = MonaiLabelDesk(service)
    app.state.token = token
    app.include_router(routes.router)
    app.include_router(routes_datastore.router)
    add_error_handlers(app)
    return app
