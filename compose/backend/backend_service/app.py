"""The backend's routes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from platform_common.database import Database
from platform_common.errors import Refused, Unavailable
from platform_common.revocations import Revocations
from platform_common.store import Redis
from platform_common.tokens import Tokens, bearer
from platform_common.web import answer, application, body_of, number_of, text_field
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from backend_service.hub import Hub
from backend_service.messages import BODY_LONGEST, Messages, ended
from backend_service.pages import Pages
from backend_service.sockets import Socket
from backend_service.threads import TITLE_LONGEST, Threads

if TYPE_CHECKING:
    import uuid
    from collections.abc import AsyncIterator

    from platform_common.settings import Settings
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.websockets import WebSocket

PAGE: int = 50  # entries unless the caller asks for another number
PAGE_LONGEST: int = 100
NUMBER_HIGHEST: int = 2**53


class Service:
    """One running backend."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.database, "backend")
        self.redis = Redis(settings.redis)
        self.tokens = Tokens(settings)
        self.revocations = Revocations(self.database, self.redis)
        self.hub = Hub(settings, self.revocations)
        self.pages = Pages(self.redis)
        self.threads = Threads(self.database)
        self.messages = Messages(self.database, self.threads, self.pages)

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Connect in the background while serving."""
        self.database.start()
        self.hub.start()
        yield
        await self.hub.subscriptions.stop()
        await self.redis.stop()
        await self.database.stop()

    async def list_threads(self, request: Request) -> Response:
        """GET /threads: the caller's own."""
        user, (after, limit) = await self._user(request), _paging(request)
        rows = await self.threads.page(user, after, limit)
        return answer({"threads": rows, "next": rows[-1]["number"] if len(rows) == limit else None})

    async def create_thread(self, request: Request) -> Response:
        """POST /threads: a new one."""
        user, body = await self._user(request), await body_of(request)
        shared = body.get("shared", False)
        if not isinstance(shared, bool):
            raise Refused(422, "invalid_shared", "shared must be true or false")
        title = text_field(body, "title", longest=TITLE_LONGEST)
        return answer(await self.threads.create(user, title, shared=shared), 201)

    async def get_thread(self, request: Request) -> Response:
        """GET /threads/{thread}."""
        user = await self._user(request)
        return answer(await self.threads.readable(_thread(request), user))

    async def rename_thread(self, request: Request) -> Response:
        """PATCH /threads/{thread}: a new title."""
        user, body = await self._user(request), await body_of(request)
        title = text_field(body, "title", longest=TITLE_LONGEST)
        return answer(await self.threads.rename(_thread(request), user, title))

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

    async def create_message(self, request: Request) -> Response:
        """POST /threads/{thread}/messages; subscribers are told."""
        user, body = await self._user(request), await body_of(request)
        text = text_field(body, "body", longest=BODY_LONGEST)
        return answer(await self.messages.create(_thread(request), user, text), 201)

    async def get_message(self, request: Request) -> Response:
        """GET /threads/{thread}/messages/{message}."""
        user = await self._user(request)
        return answer(await self.messages.get(_thread(request), _message(request), user))

    async def edit_message(self, request: Request) -> Response:
        """PATCH /threads/{thread}/messages/{message}: a new text; subscribers are told."""
        user, body = await self._user(request), await body_of(request)
        text = text_field(body, "body", longest=BODY_LONGEST)
        return answer(await self.messages.edit(_thread(request), _message(request), user, text))

    async def delete_message(self, request: Request) -> Response:
        """DELETE /threads/{thread}/messages/{message}; subscribers are told."""
        user = await self._user(request)
        await self.messages.delete(_thread(request), _message(request), user)
        return Response(status_code=204)

    async def websocket(self, websocket: WebSocket) -> None:
        """GET /ws: the events."""
        await Socket(websocket, self).run()

    async def check_events(self) -> None:
        """Return if events from Redis would arrive."""
        if not self.hub.subscriptions.connected:
            raise Unavailable("redis", self.hub.subscriptions.trouble)

    async def _user(self, request: Request) -> uuid.UUID:
        claims = self.tokens.verify(bearer(request.headers) or "")
        await self.revocations.check(claims)
        return claims.user


def build(settings: Settings) -> Starlette:
    """Return the ASGI application."""
    service = Service(settings)
    thread, messages = "/threads/{thread:uuid}", "/threads/{thread:uuid}/messages"
    message = messages + "/{message:int}"
    routes = [
        Route("/threads", service.list_threads, methods=["GET"]),
        Route("/threads", service.create_thread, methods=["POST"]),
        Route(thread, service.get_thread, methods=["GET"]),
        Route(thread, service.rename_thread, methods=["PATCH"]),
        Route(thread, service.delete_thread, methods=["DELETE"]),
        Route(messages, service.list_messages, methods=["GET"]),
        Route(messages, service.create_message, methods=["POST"]),
        Route(message, service.get_message, methods=["GET"]),
        Route(message, service.edit_message, methods=["PATCH"]),
        Route(message, service.delete_message, methods=["DELETE"]),
        WebSocketRoute("/ws", service.websocket),
    ]
    checks: dict[str, Any] = {
        "database": lambda: service.database.row("SELECT 1 FROM messages LIMIT 1"),
        "redis": service.redis.check,
        "events": service.check_events,
    }
    return application(routes, checks, service.lifespan)


def _paging(request: Request) -> tuple[int, int]:
    after = number_of(request, "after", 0, lowest=0, highest=NUMBER_HIGHEST)
    return after, number_of(request, "limit", PAGE, lowest=1, highest=PAGE_LONGEST)


def _thread(request: Request) -> uuid.UUID:
    found: uuid.UUID = request.path_params["thread"]
    return found


def _message(request: Request) -> int:
    """Return the message's number; one that PostgreSQL could not even hold stands for none."""
    return min(int(request.path_params["message"]), NUMBER_HIGHEST)
