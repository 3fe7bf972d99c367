"""The auth service's routes."""

from __future__ import annotations

import re
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from asyncpg import UniqueViolationError  # type: ignore[import-untyped] # it ships no types
from platform_common.database import Database
from platform_common.errors import Refused, unauthorized
from platform_common.revocations import Revocations
from platform_common.store import Store
from platform_common.tokens import Claims, Tokens, bearer
from platform_common.web import Answer, application, body_of, text_field
from starlette.routing import Route

from auth_service.limits import Attempts
from auth_service.passwords import LONGEST, SHORTEST, Passwords
from auth_service.sessions import Grant, Sessions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from platform_common.settings import Settings
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.types import ASGIApp

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{2,31}")
REFRESH_LONGEST: Final = 128  # characters


class Service:
    """One running auth service."""

    def __init__(self, settings: Settings) -> None:
        self.database = Database(settings, "auth")
        self.redis = Store(settings.redis)
        self.tokens = Tokens(settings)
        self.revocations = Revocations(self.database, self.redis)
        self.sessions = Sessions(self.database, self.revocations, self.tokens, settings)
        self.passwords = Passwords(settings.hash_threads)
        self.attempts = Attempts(self.redis, settings)

    @asynccontextmanager
    async def running(self, _app: Starlette) -> AsyncIterator[None]:
        """Connect in the background while serving, and drop every connection in the end."""
        await self.database.start()
        yield
        await self.redis.stop()
        await self.database.stop()

    async def register(self, request: Request) -> Answer:
        """POST /register: create an account."""
        name, password = _account(await body_of(request))
        await self.attempts.count("register", name, _address(request))
        hashed = await self.passwords.hash(password)
        query = "INSERT INTO users (name, password_hash) VALUES ($1, $2) RETURNING id, name, created_at"
        try:
            row = await self.database.row(query, name, hashed)
        except UniqueViolationError:
            raise Refused(409, "name_taken", "this user name is taken, choose another") from None
        return Answer(row, 201)

    async def login(self, request: Request) -> Answer:
        """POST /login: begin a session."""
        body = await body_of(request)
        name = text_field(body, "name", longest=32)
        password = text_field(body, "password", longest=LONGEST)
        await self.attempts.count("login", name, _address(request))
        row = await self.database.row("SELECT id, password_hash FROM users WHERE name = $1", name)
        known = None if row is None else row["password_hash"]
        if not await self.passwords.verify(known, password) or row is None:
            raise Refused(401, "invalid_credentials", "user name or password is wrong")
        return _granted(await self.sessions.begin(row["id"]))

    async def refresh(self, request: Request) -> Answer:
        """POST /refresh: exchange a refresh token for new tokens."""
        refresh = text_field(await body_of(request), "refresh_token", longest=REFRESH_LONGEST)
        return _granted(await self.sessions.renew(refresh))

    async def logout(self, request: Request) -> Answer:
        """POST /logout: end the session."""
        await self.sessions.end(await self._caller(request))
        return Answer({"status": "logged out"})

    async def me(self, request: Request) -> Answer:
        """GET /me: who the token belongs to."""
        claims = await self._caller(request)
        row = await self.database.row("SELECT id, name, created_at FROM users WHERE id = $1", claims.user)
        if row is None:
            raise unauthorized()
        return Answer(row)

    async def check_keys(self) -> None:
        """Return if a token can be made and read."""
        self.tokens.verify(self.tokens.issue(uuid.uuid4(), uuid.uuid4()))

    async def _caller(self, request: Request) -> Claims:
        claims = self.tokens.verify(bearer(request.headers) or "")
        await self.revocations.check(claims)
        return claims


def build(settings: Settings) -> ASGIApp:
    """Return the application."""
    service = Service(settings)
    routes = [
        Route("/register", service.register, methods=["POST"]),
        Route("/login", service.login, methods=["POST"]),
        Route("/refresh", service.refresh, methods=["POST"]),
        Route("/logout", service.logout, methods=["POST"]),
        Route("/me", service.me),
    ]
    checks = {
        "database": lambda: service.database.row("SELECT 1 FROM users LIMIT 1"),
        "redis": service.redis.check,
        "keys": service.check_keys,
    }
    return application(routes, checks, service.running)


def _account(body: dict[str, Any]) -> tuple[str, str]:
    name = text_field(body, "name", shortest=3, longest=32)
    if not NAME.fullmatch(name):
        rule = "name must start with a-z or 0-9 and go on with a-z, 0-9, dot, underscore or hyphen"
        raise Refused(422, "invalid_name", rule)
    return name, text_field(body, "password", shortest=SHORTEST, longest=LONGEST)


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _granted(grant: Grant) -> Answer:
    return Answer(
        {
            "access_token": grant.access,
            "token_type": "Bearer",
            "expires_in": grant.seconds,
            "refresh_token": grant.refresh,
        }
    )
