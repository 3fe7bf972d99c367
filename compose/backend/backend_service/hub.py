"""
Who listens to what.

Each process subscribes in Redis to the threads its own sockets want, so any number of backends
hear every message; what Redis says goes into the sockets' outboxes, never waiting for any of them.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, Protocol

from platform_common.errors import Refused
from platform_common.revocations import CHANNEL as REVOKED
from platform_common.revocations import Revocations
from platform_common.store import Subscriptions

if TYPE_CHECKING:
    import uuid

    from platform_common.settings import Settings
    from platform_common.tokens import Claims

RESET: Final = "stackyard:reset"  # both stores have been brought back to their beginning
POLICY: Final = 1008  # WebSocket close code
GONE: Final = 1012  # the same, "service restart"
ANONYMOUS_LIMIT: Final = 64  # sockets of one process that have not said who they are


class Listener(Protocol):
    """
    One client's connection, as the hub sees it.

    Attributes:
        claims: What its token says; None until it has shown one.
        user: Whose it is, once that is known.
        threads: What it listens to.
    """

    claims: Claims | None
    user: uuid.UUID | None
    threads: set[uuid.UUID]

    def post(self, text: str) -> None:
        """Queue *text* for the client."""

    def close(self, code: int, reason: str) -> None:
        """Close with *code*; returns at once."""


class Hub:
    """The open sockets of this process and their subscriptions."""

    def __init__(self, settings: Settings, revocations: Revocations) -> None:
        self.subscriptions = Subscriptions(settings.redis, self._heard, self._gap)
        self._revocations = revocations
        self._user_limit = settings.user_sockets
        self._sockets: set[Listener] = set()
        self._listeners: dict[str, set[Listener]] = {}
        self._users: Counter[uuid.UUID] = Counter()

    def start(self) -> None:
        """Begin to listen for revocations and resets; returns at once."""
        self.subscriptions.start(REVOKED, RESET)

    def enter(self, socket: Listener) -> None:
        """
        Count a socket that has not said who it is.

        Raises:
            Refused: 503 if too many have not.
        """
        if len(self._sockets) - self._users.total() >= ANONYMOUS_LIMIT:
            raise Refused(503, "busy", "too many connections wait to authenticate", {"Retry-After": "1"})
        self._sockets.add(socket)

    def identify(self, user: uuid.UUID) -> None:
        """
        Count one more socket as *user*'s.

        Raises:
            Refused: 429 if the user has too many.
        """
        if self._users[user] >= self._user_limit:
            raise Refused(429, "too_many_connections", f"one user may hold {self._user_limit} connections")
        self._users[user] += 1

    async def leave(self, socket: Listener) -> None:
        """Forget *socket* and whatever it listened to."""
        self._sockets.discard(socket)
        if socket.user is not None:
            self._users[socket.user] -= 1
            self._users += Counter()  # drops the zeros
        for thread in list(socket.threads):
            await self.unsubscribe(socket, thread)

    async def subscribe(self, socket: Listener, thread: uuid.UUID) -> None:
        """
        Send *socket* what happens in *thread* from now on.

        Raises:
            Unavailable: If Redis does not confirm in time.
        """
        channel = channel_of(thread)
        self._listeners.setdefault(channel, set()).add(socket)
        socket.threads.add(thread)
        try:
            await self.subscriptions.add(channel)
        except BaseException:
            await self.unsubscribe(socket, thread)
            raise

    async def unsubscribe(self, socket: Listener, thread: uuid.UUID) -> None:
        """Stop that; the last listener's leaving ends the subscription in Redis too."""
        channel = channel_of(thread)
        socket.threads.discard(thread)
        listeners = self._listeners.get(channel, set())
        listeners.discard(socket)
        if not listeners and self._listeners.pop(channel, None) is not None:
            await self.subscriptions.remove(channel)

    def _heard(self, channel: str, text: str) -> None:
        if channel == REVOKED:
            self._revoke(text)
        if channel == RESET:
            self._end_all()
        for socket in tuple(self._listeners.get(channel, ())):
            socket.post(text)

    def _revoke(self, ended: str) -> None:
        for socket in tuple(self._sockets):
            if socket.claims is not None and ended in {str(socket.claims.token), str(socket.claims.session)}:
                socket.close(POLICY, "token revoked")

    def _end_all(self) -> None:
        """After a reset no account is left."""
        for socket in tuple(self._sockets):
            socket.close(GONE, "the platform was reset")

    async def _gap(self) -> None:
        """After Redis was away: no revocation may have been missed, and clients must know that messages may have."""
        for socket in tuple(self._sockets):
            if socket.claims is None:
                continue
            try:
                await self._revocations.check(socket.claims)
            except Refused:
                socket.close(POLICY, "token revoked")
            else:
                socket.post('{"type":"resync"}')


def channel_of(thread: uuid.UUID) -> str:
    """Return the Redis channel of *thread*."""
    return f"thread:{thread}"
