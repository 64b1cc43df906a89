"""What every request passes first: the token, a limit, and somebody who catches what falls."""

from __future__ import annotations

import hmac
import logging
import time
from typing import TYPE_CHECKING

from imbalanceseg.server.http_errors import error_response, too_large, unexpected

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger("imbalanceseg.requests")


class Guard:
    """ASGI middleware; wraps the whole app.

    The log gets the route, never the path or a header, because those may hold names.

    Args:
        app: what is guarded.
        token: that every request must show.
        json_bytes: limit of the body of a request that is no upload.
        open_paths: that ask for no token.
    """

    def __init__(
        self, app: ASGIApp, token: str, json_bytes: int, open_paths: tuple[str, ...] = ()
    ) -> None:
        self._app, self._json_bytes, self._open_paths = app, json_bytes, open_paths
        self._token = token.encode("utf-8")
        self.last_request = time.monotonic()
        self.open_requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.monotonic()
        status = 0

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.open_requests += 1
        try:
            await self._serve(scope, receive, tell)
        except Exception as error:
            response = unexpected(error)
            if not status:
                await response(scope, receive, tell)
        finally:
            self.open_requests -= 1
            self.last_request = time.monotonic()
            route = getattr(scope.get("route"), "path", "-")
            seconds = time.monotonic() - begun
            _log.info("%s %s %d %.3f s", scope["method"], route, status, seconds)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        is_shown = scheme.lower() == b"bearer" and hmac.compare_digest(given, self._token)
        if not is_shown and scope["path"] not in self._open_paths:
            refused = error_response(
                401,
                "token-wrong",
                "The request shows no token, or a wrong one.",
                "Send the header `Authorization: Bearer TOKEN`; the engine says where it lies.",
                {"WWW-Authenticate": "Bearer"},
            )
            await refused(scope, receive, send)
            return
        if not _is_upload(scope):
            receive = self._limited(receive)
        await self._app(scope, receive, send)

    def _limited(self, receive: Receive) -> Receive:
        left = self._json_bytes

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise too_large(self._json_bytes)
            return message

        return counted


def _is_upload(scope: Scope) -> bool:
    path = scope["path"]
    return scope["method"] == "PUT" or path == "/v1/cases" or path.startswith("/infer/")
