"""Bodies of requests, taken piece by piece while they arrive."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.requests import ClientDisconnect

from imbalanceseg.errors import ImbalanceSegError, InputError, OutputError

_PIECE = 1 << 20
_MOST_DRAINED = 1 << 25
_SECONDS_TO_DRAIN = 2.0
_SECONDS_WITHOUT_A_BYTE = 60.0
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@asynccontextmanager
async def receiving(request: Request) -> AsyncIterator[None]:
    """Around whatever takes a body: a client that is refused on the way still gets to know why.

    Raises:
        OutputError: ``disk-full``, in place of what the system says.
    """
    try:
        yield
    except ImbalanceSegError:
        await _drain(request)
        raise
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise OutputError(
            "disk-full", "The disk of the engine is full.", "Delete what is not needed."
        ) from error


async def pieces(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces of about a megabyte, so that threads are not changed too often."""
    held: list[bytes] = []
    size = 0
    async for piece in in_time(request.stream()):
        held.append(piece)
        size += len(piece)
        if size >= _PIECE:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


async def in_time(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A body whose client goes on sending."""
    while True:
        try:
            yield await asyncio.wait_for(anext(stream), _SECONDS_WITHOUT_A_BYTE)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise InputError(
                "upload-stalled",
                f"Nothing came for {_SECONDS_WITHOUT_A_BYTE:.0f} s in the middle of an upload.",
                "Send it again.",
            ) from None


async def _drain(request: Request) -> None:
    """Read on for a moment: who is cut off in the middle of sending never sees the answer."""
    left = _MOST_DRAINED
    try:
        async with asyncio.timeout(_SECONDS_TO_DRAIN):
            async for piece in request.stream():
                left -= len(piece)
                if left < 0:
                    return
    except (TimeoutError, RuntimeError, ClientDisconnect):
        return
