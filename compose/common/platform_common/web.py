"""Requests in and answers out: JSON bodies with limits, one shape for every error, the two health routes."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from platform_common.errors import Refused, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from starlette.requests import Request
    from starlette.routing import BaseRoute

log = logging.getLogger("platform")

BODY_LIMIT: Final = 16 * 1024  # bytes
DISCARD_LIMIT: Final = 2 * 1024 * 1024  # bytes of a too large body that are read so that its sender hears the answer
LOG_PAUSE: Final = 5.0  # seconds
READY_LIMIT: Final = 1.5  # seconds for all readiness checks together


def answer(data: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return *data* as JSON; ids and times become text."""
    body = json.dumps(data, separators=(",", ":"), ensure_ascii=False, default=_text).encode()
    return Response(body, status, {"Cache-Control": "no-store", **(headers or {})}, "application/json")


def problem(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error in the one shape all errors have."""
    return answer({"error": {"code": code, "message": message}}, status, headers)


async def body_of(request: Request) -> dict[str, Any]:
    """
    Return the request's JSON object.

    Raises:
        Refused: 413 if it is larger than 16 KiB, 400 if it is not a JSON object.
    """
    data, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= BODY_LIMIT:
            data += chunk
        elif size > DISCARD_LIMIT:
            break
    if size > BODY_LIMIT:
        raise Refused(413, "too_large", f"the body may have at most {BODY_LIMIT} bytes", {"Connection": "close"})
    try:
        found = json.loads(data.decode())
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


def application(
    routes: Sequence[BaseRoute],
    checks: Mapping[str, Callable[[], Awaitable[object]]],
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]],
) -> Starlette:
    """
    Return the ASGI application: *routes*, `/healthz` (the process answers) and `/readyz` (every check passes).

    Args:
        routes: The service's own.
        checks: What must work before the service is of use; each raises Unavailable when it does not.
        lifespan: Starts and stops what the service holds.
    """

    async def healthz(_request: Request) -> Response:
        return answer({"status": "alive"})

    async def readyz(_request: Request) -> Response:
        states = dict(zip(checks, await asyncio.gather(*map(_state, checks.values())), strict=True))
        ready = set(states.values()) <= {"ok"}
        return answer({"status": "ready" if ready else "unready", "checks": states}, 200 if ready else 503)

    return Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), *routes],
        exception_handlers={Refused: _refused, Unavailable: _unavailable, HTTPException: _http, Exception: _bug},
        lifespan=lifespan,
    )


async def _state(check: Callable[[], Awaitable[object]]) -> str:
    try:
        async with asyncio.timeout(READY_LIMIT):
            await check()
    except Unavailable as error:
        return error.reason
    except TimeoutError:
        return f"no answer within {READY_LIMIT} s"
    return "ok"


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101 - what Starlette promises; narrows for the type checker
    return problem(error.status, error.code, error.message, error.headers)


async def _unavailable(_request: Request, error: Exception) -> Response:
    _report(str(error))
    return problem(503, "unavailable", "a store is away, try again in a moment", {"Retry-After": "1"})


def _report(trouble: str, last: dict[str, float] = {}) -> None:  # noqa: B006 - what was logged, and when
    """Log *trouble*, but not for each of the many requests that meet it in the same second."""
    now = time.monotonic()
    if now - last.get(trouble, -LOG_PAUSE) >= LOG_PAUSE:
        last.clear()
        last[trouble] = now
        log.warning("%s", trouble)


async def _http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as in _refused
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
    return problem(error.status_code, code, error.detail.lower(), error.headers)


async def _bug(_request: Request, _error: Exception) -> Response:
    return problem(500, "internal", "something went wrong here")


def _storable(text: str) -> bool:
    """Whether *text* fits into UTF-8 and PostgreSQL: no NUL, no half of a surrogate pair."""
    return "\x00" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _text(value: object) -> str:
    isoformat = getattr(value, "isoformat", None)
    return str(isoformat() if isoformat is not None else value)
