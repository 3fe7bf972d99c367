"""The backend's routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from platform_common.database import Database
from platform_common.errors import Refused, Unavailable
from platform_common.http import Response
from platform_common.revocations import Revocations
from platform_common.store import Redis
from platform_common.tokens import Tokens, bearer
from platform_common.web import Application, answer, body_of, number_of, text_field

from backend_service.hub import Hub
from backend_service.messages import BODY_LONGEST, Messages, ended
from backend_service.pages import Pages
from backend_service.sockets import Socket
from backend_service.threads import TITLE_LONGEST, Threads

if TYPE_CHECKING:
    import uuid

    from platform_common.http import Request
    from platform_common.settings import Settings
    from platform_common.websocket import WebSocket

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

    def start(self) -> None:
        """Connect in the background while serving."""
        self.database.start()
        self.hub.start()

    async def stop(self) -> None:
        """Drop every connection."""
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
        user, body = await self._user(request), body_of(request)
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
        user, body = await self._user(request), body_of(request)
        title = text_field(body, "title", longest=TITLE_LONGEST)
        return answer(await self.threads.rename(_thread(request), user, title))

    async def delete_thread(self, request: Request) -> Response:
        """DELETE /threads/{thread}, with its messages; subscribers are told."""
        user, thread = await self._user(request), _thread(request)
        await self.threads.delete(thread, user)
        await self.pages.forget(thread, ended(thread))
        return Response(204)

    async def list_messages(self, request: Request) -> Response:
        """GET /threads/{thread}/messages; the header X-Cache says where the page came from."""
        user, (after, limit) = await self._user(request), _paging(request)
        page, cached = await self.messages.page(_thread(request), user, after, limit)
        kind = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        return Response(200, page, {"X-Cache": "hit" if cached else "miss", **kind})

    async def create_message(self, request: Request) -> Response:
        """POST /threads/{thread}/messages; subscribers are told."""
        user, body = await self._user(request), body_of(request)
        text = text_field(body, "body", longest=BODY_LONGEST)
        return answer(await self.messages.create(_thread(request), user, text), 201)

    async def get_message(self, request: Request) -> Response:
        """GET /threads/{thread}/messages/{message}."""
        user = await self._user(request)
        return answer(await self.messages.get(_thread(request), _message(request), user))

    async def edit_message(self, request: Request) -> Response:
        """PATCH /threads/{thread}/messages/{message}: a new text; subscribers are told."""
        user, body = await self._user(request), body_of(request)
        text = text_field(body, "body", longest=BODY_LONGEST)
        return answer(await self.messages.edit(_thread(request), _message(request), user, text))

    async def delete_message(self, request: Request) -> Response:
        """DELETE /threads/{thread}/messages/{message}; subscribers are told."""
        user = await self._user(request)
        await self.messages.delete(_thread(request), _message(request), user)
        return Response(204)

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


def build(settings: Settings) -> Application:
    """Return the application."""
    service = Service(settings)
    thread, messages = "/threads/{thread:uuid}", "/threads/{thread:uuid}/messages"
    message = messages + "/{message:int}"
    routes = {
        "/threads": {"GET": service.list_threads, "POST": service.create_thread},
        thread: {"GET": service.get_thread, "PATCH": service.rename_thread, "DELETE": service.delete_thread},
        messages: {"GET": service.list_messages, "POST": service.create_message},
        message: {"GET": service.get_message, "PATCH": service.edit_message, "DELETE": service.delete_message},
    }
    checks: dict[str, Any] = {
        "database": lambda: service.database.row("SELECT 1 FROM messages LIMIT 1"),
        "redis": service.redis.check,
        "events": service.check_events,
    }
    return Application(routes, checks, service.start, service.stop, {"/ws": service.websocket})


def _paging(request: Request) -> tuple[int, int]:
    after = number_of(request, "after", 0, lowest=0, highest=NUMBER_HIGHEST)
    return after, number_of(request, "limit", PAGE, lowest=1, highest=PAGE_LONGEST)


def _thread(request: Request) -> uuid.UUID:
    return cast("uuid.UUID", request.params["thread"])


def _message(request: Request) -> int:
    """Return the message's number; one that PostgreSQL could not even hold stands for none."""
    return min(cast("int", request.params["message"]), NUMBER_HIGHEST)
