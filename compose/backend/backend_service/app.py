"""The backend's routes."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from platform_common.database import Database
from platform_common.errors import Refused
from platform_common.revocations import Revocations
from platform_common.store import Store
from platform_common.tokens import Tokens, bearer
from platform_common.web import Answer, application, body_of, number_of, text_field
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from backend_service.hub import Hub
from backend_service.messages import BODY_LONGEST, Messages, ended
from backend_service.pages import Pages
from backend_service.sockets import Doorkeeper, Socket
from backend_service.threads import TITLE_LONGEST, Threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from platform_common.settings import Settings
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.types import ASGIApp
    from starlette.websockets import WebSocket

PAGE: Final = 50  # entries unless the caller asks for another number
PAGE_LONGEST: Final = 100
NUMBER_HIGHEST: Final = 2**53
DIGITS: Final = 16  # of NUMBER_HIGHEST


class Service:
    """One running backend."""

    def __init__(self, settings: Settings) -> None:
        self.database = Database(settings, "backend")
        self.redis = Store(settings.redis)
        self.tokens = Tokens(settings)
        self.revocations = Revocations(self.database, self.redis)
        self.hub = Hub(settings, self.revocations)
        self.pages = Pages(self.redis)
        self.threads = Threads(self.database)
        self.messages = Messages(self.database, self.threads, self.pages)
        self.doorkeeper = Doorkeeper(settings.allowed_origins, self.tokens, self.revocations)

    @asynccontextmanager
    async def running(self, _app: Starlette) -> AsyncIterator[None]:
        """Connect in the background while serving, and drop every connection in the end."""
        await self.database.start()
        self.hub.start()
        yield
        await self.hub.subscriptions.stop()
        await self.redis.stop()
        await self.database.stop()

    async def list_threads(self, request: Request) -> Answer:
        """GET /threads: the caller's own."""
        user, (after, limit) = await self._user(request), _paging(request)
        rows = await self.threads.page(user, after, limit)
        return Answer({"threads": rows, "next": rows[-1]["number"] if len(rows) == limit else None})

    async def create_thread(self, request: Request) -> Answer:
        """POST /threads: a new one."""
        user, body = await self._user(request), await body_of(request)
        shared = body.get("shared", False)
        if not isinstance(shared, bool):
            raise Refused(422, "invalid_shared", "shared must be true or false")
        title = text_field(body, "title", longest=TITLE_LONGEST)
        return Answer(await self.threads.create(user, title, shared=shared), 201)

    async def get_thread(self, request: Request) -> Answer:
        """GET /threads/{thread}."""
        user = await self._user(request)
        return Answer(await self.threads.readable(_thread(request), user))

    async def rename_thread(self, request: Request) -> Answer:
        """PATCH /threads/{thread}: a new title."""
        user, body = await self._user(request), await body_of(request)
        title = text_field(body, "title", longest=TITLE_LONGEST)
        return Answer(await self.threads.rename(_thread(request), user, title))

    async def delete_thread(self, request: Request) -> Response:
        """DELETE /threads/{thread}, with its messages; subscribers are told."""
        user, thread = await self._user(request), _thread(request)
        await self.threads.delete(thread, user)
        await self.pages.forget(thread, ended(thread))
        return Response(status_code=204)

    async def list_messages(self, request: Request) -> Response:
        """GET /threads/{thread}/messages; the header X-Cache says where the page came from."""
        user, (after, limit) = await self._user(request), _paging(request)
        page, cached = await self.messages.page(_thread(request), user, after, limit)
        headers = {"X-Cache": "hit" if cached else "miss", "Cache-Control": "no-store"}
        return Response(page, headers=headers, media_type="application/json")

    async def create_message(self, request: Request) -> Answer:
        """POST /threads/{thread}/messages; subscribers are told."""
        user, body = await self._user(request), await body_of(request)
        text = text_field(body, "body", longest=BODY_LONGEST)
        return Answer(await self.messages.create(_thread(request), user, text), 201)

    async def get_message(self, request: Request) -> Answer:
        """GET /threads/{thread}/messages/{message}."""
        user = await self._user(request)
        return Answer(await self.messages.get(_thread(request), _message(request), user))

    async def edit_message(self, request: Request) -> Answer:
        """PATCH /threads/{thread}/messages/{message}: a new text; subscribers are told."""
        user, body = await self._user(request), await body_of(request)
        text = text_field(body, "body", longest=BODY_LONGEST)
        return Answer(await self.messages.edit(_thread(request), _message(request), user, text))

    async def delete_message(self, request: Request) -> Response:
        """DELETE /threads/{thread}/messages/{message}; subscribers are told."""
        user = await self._user(request)
        await self.messages.delete(_thread(request), _message(request), user)
        return Response(status_code=204)

    async def websocket(self, websocket: WebSocket) -> None:
        """GET /ws: the events."""
        await Socket(websocket, self.hub, self.threads, self.doorkeeper).run()

    async def _user(self, request: Request) -> uuid.UUID:
        claims = self.tokens.verify(bearer(request.headers) or "")
        await self.revocations.check(claims)
        return claims.user


def build(settings: Settings) -> ASGIApp:
    """Return the application."""
    service = Service(settings)
    thread, messages = "/threads/{thread:uuid}", "/threads/{thread:uuid}/messages"
    message = messages + "/{message}"
    routes = [
        Route("/threads", service.list_threads),
        Route("/threads", service.create_thread, methods=["POST"]),
        Route(thread, service.get_thread),
        Route(thread, service.rename_thread, methods=["PATCH"]),
        Route(thread, service.delete_thread, methods=["DELETE"]),
        Route(messages, service.list_messages),
        Route(messages, service.create_message, methods=["POST"]),
        Route(message, service.get_message),
        Route(message, service.edit_message, methods=["PATCH"]),
        Route(message, service.delete_message, methods=["DELETE"]),
        WebSocketRoute("/ws", service.websocket),
    ]
    checks: dict[str, Any] = {
        "database": lambda: service.database.row("SELECT 1 FROM messages LIMIT 1"),
        "redis": service.redis.check,
        "events": service.hub.subscriptions.check,
    }
    return application(routes, checks, service.running)


def _paging(request: Request) -> tuple[int, int]:
    after = number_of(request, "after", 0, lowest=0, highest=NUMBER_HIGHEST)
    return after, number_of(request, "limit", PAGE, lowest=1, highest=PAGE_LONGEST)


def _thread(request: Request) -> uuid.UUID:
    return uuid.UUID(str(request.path_params["thread"]))


def _message(request: Request) -> int:
    """
    Return the message's number.

    Raises:
        Refused: 404 if it is none, or one that no message can have.
    """
    text = str(request.path_params["message"])
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS):
        raise Refused(404, "not_found", "there is no such message")
    return int(text)
