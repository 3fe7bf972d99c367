"""What waits to be sent to one client: bounded, so that a client who does not read costs little and is dropped."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

MESSAGES: Final = 256
BYTES: Final = 1024 * 1024


class Outbox:
    """A queue of texts with a bound on number and size, and at its end a close code."""

    def __init__(self) -> None:
        self._texts: deque[str] = deque()
        self._size = 0
        self._closing: tuple[int, str] | None = None
        self._news = asyncio.Event()

    def put(self, text: str) -> bool:
        """Queue *text*; return False if the box is full."""
        if len(self._texts) >= MESSAGES or self._size + len(text) > BYTES:
            return False
        self._texts.append(text)
        self._size += len(text)
        self._news.set()
        return True

    def close(self, code: int, reason: str) -> None:
        """Discard what waits and end with *code*; the first call counts."""
        if self._closing is None:
            self._closing = (code, reason)
            self._texts.clear()
            self._news.set()

    async def get(self) -> str | tuple[int, str]:
        """Return the next text, or the close code and reason when there is nothing more to say."""
        while not self._texts and self._closing is None:
            self._news.clear()
            await self._news.wait()
        if self._closing is not None:
            return self._closing
        text = self._texts.popleft()
        self._size -= len(text)
        return text
