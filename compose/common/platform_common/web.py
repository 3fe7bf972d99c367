"""Routes, JSON bodies with limits, one shape for every error, the two health routes."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

from platform_common.errors import Refused, Unavailable, unauthorized
from platform_common.http import BODY_LIMIT, Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from platform_common.flow import Flow
    from platform_common.http import Request
    from platform_common.websocket import WebSocket

    Handler = Callable[[Request], Awaitable[Response]]
    Routes = Mapping[str, Mapping[str, Handler]]
    Check = Callable[[], Awaitable[object]]

log = logging.getLogger("platform")

LOG_PAUSE: Final = 5.0  # seconds
READY_LIMIT: Final = 1.5  # seconds for all readiness checks together
DIGITS: Final = 100  # of a number in a path; a longer one names nothing
UUID_LETTERS: Final = frozenset("0123456789abcdefABCDEF-")


def answer(data: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return *data* as JSON; ids and times become text."""
    body = json.dumps(data, separators=(",", ":"), ensure_ascii=False, default=_text).encode()
    return Response(status, body, {"Content-Type": "application/json", "Cache-Control": "no-store", **(headers or {})})


def problem(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error in the one shape all errors have."""
    return answer({"error": {"code": code, "message": message}}, status, headers)


def body_of(request: Request) -> dict[str, Any]:
    """
    Return the request's JSON object.

    Raises:
        Refused: 413 if it is larger than 16 KiB, 400 if it is not a JSON object.
    """
    if request.oversized:
        raise Refused(413, "too_large", f"the body may have at most {BODY_LIMIT} bytes", {"Connection": "close"})
    try:
        found = json.loads(request.body.decode())
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
    text = request.query.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,18}", text) or not lowest <= int(text) <= highest:
        raise Refused(422, f"invalid_{name}", f"{name} must be a whole number from {lowest} to {highest}")
    return int(text)


class Application:
    """
    A service's routes beside `/healthz` (the process answers) and `/readyz` (every check passes).

    A route's path may hold `{name:uuid}` and `{name:int}`; what such a part stands for is in the request's *params*.

    Args:
        routes: Handlers by path and method; HEAD is answered wherever GET is.
        checks: What must work before the service is of use; each raises Unavailable when it does not.
        start: Begins what the service does in the background.
        stop: Ends it.
        sockets: Who talks over the WebSockets opened at a path.
    """

    def __init__(
        self,
        routes: Routes,
        checks: Mapping[str, Check],
        start: Callable[[], None],
        stop: Callable[[], Awaitable[None]],
        sockets: Mapping[str, Callable[[WebSocket], Awaitable[None]]] | None = None,
    ) -> None:
        own: Routes = {"/healthz": {"GET": _healthz}, "/readyz": {"GET": self._readyz}}
        self._routes: list[tuple[list[str], Mapping[str, Handler]]] = [
            ([*path.split("/")], handlers) for path, handlers in (dict(own) | dict(routes)).items()
        ]
        self._checks = checks
        self._sockets = sockets or {}
        self.start = start
        self.stop = stop

    async def answer(self, request: Request) -> Response:
        """Return the answer to *request*, whatever happens."""
        try:
            return await self._handler(request)(request)
        except Refused as error:
            return problem(error.status, error.code, error.message, error.headers)
        except Unavailable as error:
            _report(str(error))
            return problem(503, "unavailable", "a store is away, try again in a moment", {"Retry-After": "1"})
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return problem(500, "internal", "something went wrong here")

    def socket(self, request: Request, flow: Flow, early: bytes) -> WebSocket | None:
        """Return the WebSocket that *request* opens, already serving, or None where there is none."""
        if (converse := self._sockets.get(request.path)) is None:
            return None
        from platform_common.websocket import WebSocket, fault_of  # noqa: PLC0415 - 8 ms that auth never needs

        socket, fault = WebSocket(request, flow, early), fault_of(request)
        if fault is None:
            socket.serve(converse)
        else:
            status, reason = fault
            refusal = problem(status, "bad_request", reason, {"Sec-WebSocket-Version": "13"})
            socket.serve(lambda socket: socket.deny(refusal))
        return socket

    def refusal(self, head: bytes) -> Response:
        """Return the answer to a head that cannot be read: 401 for an endless bearer token, 400 for all else."""
        error = unauthorized()
        if b"\nauthorization:" in head.lower():
            return problem(error.status, error.code, error.message, error.headers)
        return problem(400, "bad_request", "not an HTTP request this service can read")

    def busy(self) -> Response:
        """Return the answer to one connection too many."""
        return problem(503, "busy", "too many connections, try again in a moment", {"Retry-After": "1"})

    def _handler(self, request: Request) -> Handler:
        parts = request.path.split("/")
        for pattern, handlers in self._routes:
            if (found := _match(pattern, parts)) is not None:
                request.params = found
                method = "GET" if request.method == "HEAD" else request.method
                if method in handlers:
                    return handlers[method]
                raise Refused(405, "method_not_allowed", "method not allowed", {"Allow": ", ".join(handlers)})
        raise Refused(404, "not_found", "not found")

    async def _readyz(self, _request: Request) -> Response:
        states = dict(zip(self._checks, await asyncio.gather(*map(_state, self._checks.values())), strict=True))
        ready = set(states.values()) <= {"ok"}
        return answer({"status": "ready" if ready else "unready", "checks": states}, 200 if ready else 503)


async def _healthz(_request: Request) -> Response:
    return answer({"status": "alive"})


def _match(pattern: list[str], parts: list[str]) -> dict[str, object] | None:
    """Return what the placeholders of *pattern* stand for in *parts*, or None if the two do not fit."""
    if len(pattern) != len(parts):
        return None
    found: dict[str, object] = {}
    for wanted, part in zip(pattern, parts, strict=True):
        if wanted.startswith("{"):
            name, _, kind = wanted[1:-1].partition(":")
            value = _uuid(part) if kind == "uuid" else _number(part)
            if value is None:
                return None
            found[name] = value
        elif wanted != part:
            return None
    return found


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text) if set(text) <= UUID_LETTERS else None
    except ValueError:
        return None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= DIGITS else None


async def _state(check: Callable[[], Awaitable[object]]) -> str:
    try:
        async with asyncio.timeout(READY_LIMIT):
            await check()
    except Unavailable as error:
        return error.reason
    except TimeoutError:
        return f"no answer within {READY_LIMIT} s"
    return "ok"


def _report(trouble: str, last: dict[str, float] = {}) -> None:  # noqa: B006 - what was logged, and when
    """Log *trouble*, but not for each of the many requests that meet it in the same second."""
    now = time.monotonic()
    if now - last.get(trouble, -LOG_PAUSE) >= LOG_PAUSE:
        last.clear()
        last[trouble] = now
        log.warning("%s", trouble)


def _storable(text: str) -> bool:
    """Whether *text* fits into UTF-8 and PostgreSQL: no NUL, no half of a surrogate pair."""
    return "\x00" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _text(value: object) -> str:
    isoformat = getattr(value, "isoformat", None)
    return str(isoformat() if isoformat is not None else value)
