"""
One WebSocket.

The handshake checks the Origin and, where there is one, the bearer token; without it the client has
three seconds to send `authenticate`. Before that it may only `ping`, which costs nothing and proves that the service
speaks WebSocket. The reader and the writer are two tasks that meet in the outbox: whoever else wants to say something
to the client, or to end it, only puts it there.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from platform_common.errors import Refused, Unavailable, unauthorized
from platform_common.tokens import bearer
from platform_common.web import problem

from backend_service.hub import POLICY
from backend_service.outbox import Outbox

if TYPE_CHECKING:
    from platform_common.tokens import Claims
    from platform_common.websocket import WebSocket

    from backend_service.app import Service

AUTHENTICATE_LIMIT: Final = 3.0  # seconds
CLOSE_LIMIT: Final = 2.0  # seconds until a client that does not take the close is cut off
THREADS_LIMIT: Final = 100  # subscriptions of one socket
UNSUPPORTED: Final = 1003  # WebSocket close code for binary messages


class Socket:
    """One client's connection."""

    def __init__(self, websocket: WebSocket, service: Service) -> None:
        self.claims: Claims | None = None
        self.user: uuid.UUID | None = None
        self.threads: set[uuid.UUID] = set()
        self._websocket = websocket
        self._service = service
        self._outbox = Outbox()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    async def run(self) -> None:
        """Shake hands, then serve until either side ends it."""
        try:
            self._service.hub.enter(self)
            await self._shake_hands()
        except Refused as error:
            await self._service.hub.leave(self)
            await self._websocket.deny(problem(error.status, error.code, error.message, error.headers))
        except Unavailable:
            await self._service.hub.leave(self)
            await self._websocket.deny(problem(503, "unavailable", "a store is away, try again"))
        else:
            await self._converse()

    def post(self, text: str) -> None:
        """Queue *text*; a client that has let too much pile up is cut off."""
        if not self._outbox.put(text):
            self._abort()

    def close(self, code: int, reason: str) -> None:
        """Close with *code*; returns at once."""
        self._outbox.close(code, reason)
        self._timer("close", CLOSE_LIMIT, self._abort)

    async def _shake_hands(self) -> None:
        headers = self._websocket.headers
        token, (origin,) = bearer(headers), headers.get("origin", [None])
        # A browser always sends its page's Origin; a client without one must prove that it is none. Two Origins never
        # come this far: they are no handshake.
        allowed = token is not None if origin is None else origin in self._service.settings.allowed_origins
        if not allowed:
            raise Refused(403, "origin_not_allowed", "this Origin may not connect")
        if token is not None:
            await self._identify(token)

    async def _identify(self, token: str) -> None:
        """
        Take *token* as this socket's, also in place of an older one of the same user.

        Raises:
            Refused: If it is not valid, another user's, or the user has too many sockets.
            Unavailable: If a store is away.
        """
        claims = self._service.tokens.verify(token)
        if self.user is None:
            self._service.hub.identify(claims.user)
            self.user = claims.user
        elif self.user != claims.user:
            raise unauthorized()
        # Set before it is checked: a revocation that arrives meanwhile must find this socket.
        self.claims = claims
        try:
            await self._service.revocations.check(claims)
        except BaseException:
            self.claims = None
            raise
        self._timer("expiry", claims.expires - time.time(), lambda: self.close(POLICY, "token expired"))

    async def _converse(self) -> None:
        await self._websocket.accept()
        writer = asyncio.create_task(self._write())
        if self.claims is None:
            self._timer("authenticate", AUTHENTICATE_LIMIT, lambda: self.close(POLICY, "authenticate within 3 s"))
        else:
            self._greet()
        try:
            await self._read()
        finally:
            for timer in self._timers.values():
                timer.cancel()
            await self._service.hub.leave(self)
            writer.cancel()
            with suppress(asyncio.CancelledError):
                await writer

    async def _write(self) -> None:
        # The client may go at any moment; the reader then hears it too and ends the conversation.
        with suppress(OSError):
            while True:
                match await self._outbox.get():
                    case str(text):
                        await self._websocket.send(text)
                    case (code, reason):
                        self._websocket.close(code, reason)
                        return

    async def _read(self) -> None:
        while True:
            text = await self._websocket.receive()
            if text is None:
                return
            if isinstance(text, bytes):
                self.close(UNSUPPORTED, "send text messages")
                continue
            try:
                await self._act(_message(text))
            except Refused as error:
                self._complain(error.code, error.message)
            except Unavailable:
                self._complain("unavailable", "a store is away, try again in a moment")

    async def _act(self, message: dict[str, Any]) -> None:
        match message:
            case {"type": "ping"}:
                self._say({"type": "pong"})
            case {"type": "authenticate", "token": str(token)}:
                await self._authenticate(token)
            case {"type": _} if self.claims is None:
                self.close(POLICY, "authenticate first")
            case {"type": "echo", "payload": payload}:
                self._say({"type": "echo", "payload": payload})
            case {"type": "subscribe", "thread": str(thread)}:
                await self._subscribe(_id(thread))
            case {"type": "unsubscribe", "thread": str(thread)}:
                await self._service.hub.unsubscribe(self, _id(thread))
                self._say({"type": "unsubscribed", "thread": thread})
            case _:
                raise Refused(400, "bad_message", "unknown type, or a field is missing or of the wrong type")

    async def _authenticate(self, token: str) -> None:
        try:
            await self._identify(token)
        except Refused as error:
            self.close(POLICY, error.code)
        except Unavailable:
            self.close(1013, "a store is away, try again")
        else:
            self._greet()

    async def _subscribe(self, thread: uuid.UUID) -> None:
        if len(self.threads) >= THREADS_LIMIT and thread not in self.threads:
            raise Refused(429, "too_many_subscriptions", f"one connection may follow {THREADS_LIMIT} threads")
        assert self.user is not None  # noqa: S101 - _act lets nobody else here; narrows for the type checker
        await self._service.threads.readable(thread, self.user)
        await self._service.hub.subscribe(self, thread)
        self._say({"type": "subscribed", "thread": str(thread)})

    def _greet(self) -> None:
        assert self.claims is not None  # noqa: S101 - as in _subscribe
        if (timer := self._timers.pop("authenticate", None)) is not None:
            timer.cancel()
        self._say({"type": "authenticated", "user": str(self.claims.user), "expires": self.claims.expires})

    def _complain(self, code: str, message: str) -> None:
        self._say({"type": "error", "error": {"code": code, "message": message}})

    def _say(self, message: dict[str, Any]) -> None:
        self.post(json.dumps(message, separators=(",", ":")))

    def _timer(self, name: str, seconds: float, action: Any) -> None:
        if (older := self._timers.pop(name, None)) is not None:
            older.cancel()
        self._timers[name] = asyncio.get_running_loop().call_later(max(0.0, seconds), action)

    def _abort(self) -> None:
        self._websocket.abort()


def _message(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("type"), str):
        raise Refused(400, "bad_message", "a message is a JSON object with a text field named type")
    return found


def _id(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise Refused(404, "not_found", "there is no such thread") from None
