"""Starlette for both services: JSON answers, one shape for every error, readiness, the request log."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import Route

from platform_common.errors import Refused, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import HTTPConnection, Request
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

    Check = Callable[[], Awaitable[object]]

log = logging.getLogger("platform")

BODY_LIMIT: Final = 16 * 1024  # bytes
READY_LIMIT: Final = 2.5  # seconds for all readiness checks together; longer than a store may take
QUIET: Final = frozenset({"/healthz", "/readyz"})  # asked again and again; what they find is logged once a change
PATH_SHOWN: Final = 200  # characters
FAILED: Final = 400  # the lowest HTTP status that is logged
OUR_FAULT: Final = 500  # the lowest that is a warning
CODES: Final = {404: "not_found", 405: "method_not_allowed"}


class Answer(JSONResponse):
    """JSON in which ids and times are texts."""

    def __init__(self, content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(content, status, {"Cache-Control": "no-store", **(headers or {})})

    def render(self, content: object) -> bytes:
        """Return the body."""
        return encode(content)


def encode(content: object) -> bytes:
    """Return *content* as JSON in UTF-8; ids and times become texts."""
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False, default=_text).encode()


def application(routes: Sequence[BaseRoute], checks: Mapping[str, Check], lifespan: Lifespan[Starlette]) -> ASGIApp:
    """
    Return the application of a service.

    Args:
        routes: Its own routes; `/healthz` and `/readyz` are added.
        checks: What must work before the service is of use; each raises Unavailable when it does not.
        lifespan: Starts what the service does in the background, and ends it.
    """

    async def healthz(_request: Request) -> Answer:
        return Answer({"status": "alive"})

    async def readyz(_request: Request) -> Answer:
        states = dict(zip(checks, await asyncio.gather(*map(_state, checks.values())), strict=True))
        ready = set(states.values()) <= {"ok"}
        return Answer({"status": "ready" if ready else "unready", "checks": states}, 200 if ready else 503)

    handlers: dict[Any, Any] = {
        Refused: _refused, Unavailable: _unavailable, HTTPException: _http_error, Exception: _unexpected,
    }  # fmt: skip
    app = Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), *routes],
        exception_handlers=handlers, lifespan=lifespan,
    )  # fmt: skip
    app.router.redirect_slashes = False
    return RequestLog(app)


class RequestLog:
    """
    Logs each request that fails: method, path, status, milliseconds.

    A query string, header or body may hold a secret and is never logged.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan" or scope["path"] in QUIET:
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def watched(message: Message) -> None:
            status, code = message.get("status", 0), message.get("code")
            if status >= FAILED or code is not None:
                level = logging.WARNING if status >= OUR_FAULT else logging.INFO
                outcome = status or f"closed with {code} {message['reason']}"
                milliseconds = (time.perf_counter() - began) * 1000
                log.log(level, "%s %s %s %.0f ms", scope.get("method", "WS"), _shown(scope), outcome, milliseconds)
            await send(message)

        await self._app(scope, receive, watched)


def _shown(scope: Scope) -> str:
    """Return the path as it came, escapes and all, so that it cannot break the line."""
    return str(scope["raw_path"][:PATH_SHOWN].decode("ascii", "replace"))


async def body_of(request: Request) -> dict[str, Any]:
    """
    Return the request's JSON object.

    Raises:
        Refused: 413 if it is larger than 16 KiB, 400 if it is not a JSON object.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_LIMIT:
            raise Refused(413, "too_large", f"the body may have at most {BODY_LIMIT} bytes")
    try:
        found = json.loads(body.decode())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Refused(400, "bad_json", "the body must be a JSON object in UTF-8")
    return found


def text_field(body: Mapping[str, Any], name: str, *, shortest: int = 1, longest: int) -> str:
    """
    Return one text of a JSON object.

    Raises:
        Refused: 422 if it is missing, no text, of the wrong length, or nothing PostgreSQL can store.
    """
    value = body.get(name)
    good = isinstance(value, str) and shortest <= len(value) <= longest and _storable(value)
    if not good:
        raise Refused(422, f"invalid_{name}", f"{name} must be a text of {shortest} to {longest} characters")
    return str(value)


def number_of(request: Request, name: str, default: int, *, lowest: int, highest: int) -> int:
    """
    Return one whole number of the query string.

    Raises:
        Refused: 422 if it is no number or out of range.
    """
    text = request.query_params.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,18}", text) or not lowest <= int(text) <= highest:
        raise Refused(422, f"invalid_{name}", f"{name} must be a whole number from {lowest} to {highest}")
    return int(text)


def _problem(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer({"error": {"code": code, "message": message}}, status, headers)


async def _refused(_connection: HTTPConnection, error: Refused) -> Answer:
    return _problem(error.status, error.code, error.message, error.headers)


async def _unavailable(_connection: HTTPConnection, _error: Unavailable) -> Answer:
    return _problem(503, "unavailable", "a store is away, try again in a moment", {"Retry-After": "1"})


async def _http_error(_connection: HTTPConnection, error: HTTPException) -> Answer:
    return _problem(error.status_code, CODES.get(error.status_code, "bad_request"), error.detail.lower(), error.headers)


async def _unexpected(_connection: HTTPConnection, _error: Exception) -> Answer:
    return _problem(500, "internal", "something went wrong here")


async def _state(check: Check) -> str:
    try:
        async with asyncio.timeout(READY_LIMIT):
            await check()
    except Unavailable as error:
        return error.reason
    except TimeoutError:
        return f"no answer within {READY_LIMIT} s"
    return "ok"


def _storable(text: str) -> bool:
    """Whether *text* fits into UTF-8 and PostgreSQL: no NUL, no half of a surrogate pair."""
    return "\x00" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
