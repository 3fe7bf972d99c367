"""Password hashes: Argon2id with 19 MiB, in few threads, so that neither memory nor the event loop can be exhausted."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from platform_common.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

SHORTEST: Final = 8  # characters
LONGEST: Final = 128
MEMORY: Final = 19 * 1024  # KiB for one hash
ROUNDS: Final = 2
QUEUE_LIMIT: Final = 64  # hashes that wait or run; at some 40 ms each, more would outwait their callers
HASHER: Final = PasswordHasher(time_cost=ROUNDS, memory_cost=MEMORY, parallelism=1)


class Passwords:
    """Hashes and verifies; at most *threads* x 19 MiB at one time."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._queued = 0

    async def hash(self, password: str) -> str:
        """
        Return a salted hash.

        Raises:
            Refused: 503 if too many wait already.
        """
        return str(await self._run(lambda: HASHER.hash(password)))

    async def verify(self, known: str | None, password: str) -> bool:
        """
        Return whether *password* belongs to the hash *known*; for None the answer is no, after the same work.

        Raises:
            Refused: 503 if too many wait already.
        """
        right = await self._run(lambda: _verify(known or _stranger(), password))
        return right is True and known is not None

    async def _run(self, work: Callable[[], object]) -> object:
        if self._queued >= QUEUE_LIMIT:
            raise Refused(503, "busy", "too many logins at once, try again in a moment", {"Retry-After": "1"})
        self._queued += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._queued -= 1


@cache
def _stranger() -> str:
    """Return a hash no password is known for; computed once, so the first unknown name takes one hash longer."""
    return HASHER.hash("\x00")


def _verify(known: str, password: str) -> bool:
    try:
        return HASHER.verify(known, password)
    except (VerificationError, InvalidHashError):
        return False
