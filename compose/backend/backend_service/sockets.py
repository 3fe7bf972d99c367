"""
One WebSocket.

The handshake checks the Origin and, where there is one, the bearer token; without it the client has
three seconds to send `authenticate`. Before that it may only `ping`, which costs nothing and proves that the service
speaks WebSocket. The reader and the writer are two tasks that meet in the outbox: what else has something to say
to the client, or ends it, puts it there.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from platform_common.errors import Refused, Unavailable, unauthorized
from platform_common.tokens import bearer
from starlette.websockets import WebSocketDisconnect

from backend_service.hub import POLICY
from backend_service.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from platform_common.revocations import Revocations
    from platform_common.tokens import Claims, Tokens
    from starlette.datastructures import Headers
    from starlette.websockets import WebSocket

    from backend_service.hub import Hub
    from backend_service.threads import Threads

AUTHENTICATE_LIMIT: Final = 3.0  # seconds
CLOSE_LIMIT: Final = 2.0  # seconds until a client that does not take the close is cut off
THREADS_LIMIT: Final = 100  # subscriptions of one socket
MESSAGE_LIMIT: Final = 64 * 1024  # bytes of one message
UNSUPPORTED: Final = 1003  # WebSocket close code for binary messages
TOO_LARGE: Final = 1009
LATER: Final = 1013  # "try again later"


@dataclass(frozen=True, slots=True)
class Doorkeeper:
    """
    Who may open a WebSocket.

    Attributes:
        origins: The pages that may.
        tokens: Reads a token.
        revocations: Knows whether it still counts.
    """

    origins: frozenset[str]
    tokens: Tokens
    revocations: Revocations

    def admit(self, headers: Headers) -> str | None:
        """
        Return the handshake's bearer token, or None without one.

        Raises:
            Refused: 403 for a page that may not connect; 401 for what is no bearer token.
        """
        token, origin = bearer(headers), headers.get("origin")
        # A browser always sends its page's Origin; a client without one must prove that it is none. Of two Origins
        # the server has made a 400 before.
        if origin not in self.origins if origin is not None else token is None:
            raise Refused(403, "origin_not_allowed", "this Origin may not connect")
        return token


class Socket:
    """One client's connection."""

    def __init__(self, websocket: WebSocket, hub: Hub, threads: Threads, doorkeeper: Doorkeeper) -> None:
        self.claims: Claims | None = None
        self.user: uuid.UUID | None = None
        self.threads: set[uuid.UUID] = set()
        self._websocket = websocket
        self._hub = hub
        self._readable = threads.readable
        self._doorkeeper = doorkeeper
        self._outbox = Outbox()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """
        Shake hands, then serve until either side ends it.

        Raises:
            Refused: If the handshake is refused.
            Unavailable: If a store is away during the handshake.
        """
        self._hub.enter(self)
        try:
            token = self._doorkeeper.admit(self._websocket.headers)
            if token is not None:
                await self._identify(token)
            await self._websocket.accept()
            await self._converse()
        finally:
            for timer in self._timers.values():
                timer.cancel()
            await self._hub.leave(self)

    def post(self, text: str) -> None:
        """Queue *text*; a client that has let too much pile up is cut off."""
        if not self._outbox.put(text):
            self._abort()

    def close(self, code: int, reason: str) -> None:
        """Close with *code*; returns at once."""
        self._outbox.close(code, reason)
        self._timer("close", CLOSE_LIMIT, self._abort)

    async def _identify(self, token: str) -> None:
        """
        Take *token* as this socket's, also in place of an older one of the same user.

        Raises:
            Refused: If it is not valid, another user's, or the user has too many sockets.
            Unavailable: If a store is away.
        """
        claims = self._doorkeeper.tokens.verify(token)
        if self.user is None:
            self._hub.identify(claims.user)
            self.user = claims.user
        elif self.user != claims.user:
            raise unauthorized()
        # Set before it is checked: a revocation that arrives meanwhile must find this socket.
        self.claims = claims
        try:
            await self._doorkeeper.revocations.check(claims)
        except BaseException:
            self.claims = None
            raise
        self._timer("expiry", claims.expires - time.time(), lambda: self.close(POLICY, "token expired"))

    async def _converse(self) -> None:
        if self.claims is None:
            self._timer("authenticate", AUTHENTICATE_LIMIT, lambda: self.close(POLICY, "authenticate within 3 s"))
        else:
            self._greet()
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]
        done, running = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for task in done:
            with suppress(asyncio.CancelledError, WebSocketDisconnect):
                task.result()

    async def _write(self) -> None:
        while True:
            match await self._outbox.get():
                case str(text):
                    await self._websocket.send_text(text)
                case (code, reason):
                    await self._websocket.close(code, reason)
                    return

    async def _read(self) -> None:
        while (received := await self._websocket.receive())["type"] == "websocket.receive":
            await self._hear(received.get("text"))
            await asyncio.sleep(0)  # a client that never pauses must not keep the others waiting

    async def _hear(self, text: str | None) -> None:
        if text is None:
            self.close(UNSUPPORTED, "send text messages")
            return
        if len(text.encode()) > MESSAGE_LIMIT:
            self.close(TOO_LARGE, f"a message may have at most {MESSAGE_LIMIT} bytes")
            return
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
            case {"type": "subscribe", "thread": str(thread)} if self.user is not None:
                await self._subscribe(_id(thread), self.user)
            case {"type": "unsubscribe", "thread": str(thread)}:
                await self._hub.unsubscribe(self, _id(thread))
                self._say({"type": "unsubscribed", "thread": thread})
            case _:
                raise Refused(400, "bad_message", "unknown type, or a field is missing or of the wrong type")

    async def _authenticate(self, token: str) -> None:
        try:
            await self._identify(token)
        except Refused as error:
            self.close(POLICY, error.code)
        except Unavailable:
            self.close(LATER, "a store is away, try again")
        else:
            self._greet()

    async def _subscribe(self, thread: uuid.UUID, user: uuid.UUID) -> None:
        if len(self.threads) >= THREADS_LIMIT and thread not in self.threads:
            raise Refused(429, "too_many_subscriptions", f"one connection may follow {THREADS_LIMIT} threads")
        await self._readable(thread, user)
        await self._hub.subscribe(self, thread)
        self._say({"type": "subscribed", "thread": str(thread)})

    def _greet(self) -> None:
        if (timer := self._timers.pop("authenticate", None)) is not None:
            timer.cancel()
        if self.claims is not None:
            self._say({"type": "authenticated", "user": str(self.claims.user), "expires": self.claims.expires})

    def _complain(self, code: str, message: str) -> None:
        self._say({"type": "error", "error": {"code": code, "message": message}})

    def _say(self, message: dict[str, Any]) -> None:
        self.post(json.dumps(message, separators=(",", ":")))

    def _timer(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        if (older := self._timers.pop(name, None)) is not None:
            older.cancel()
        self._timers[name] = asyncio.get_running_loop().call_later(max(0.0, seconds), action)

    def _abort(self) -> None:
        for task in self._tasks:
            task.cancel()


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
