"""The auth service's routes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from platform_common.database import Database
from platform_common.errors import DatabaseFault, Refused, unauthorized
from platform_common.postgres import UNIQUE_VIOLATION
from platform_common.revocations import Revocations
from platform_common.store import Redis
from platform_common.tokens import Claims, Tokens, bearer
from platform_common.web import Application, answer, body_of, text_field

from auth_service.limits import Attempts
from auth_service.passwords import LONGEST, SHORTEST, Passwords
from auth_service.sessions import Grant, Sessions

if TYPE_CHECKING:
    from platform_common.http import Request, Response
    from platform_common.settings import Settings

NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{2,31}")
REFRESH_LONGEST: Final = 128  # characters


class Service:
    """One running auth service."""

    def __init__(self, settings: Settings) -> None:
        self.database = Database(settings.database, "auth")
        self.redis = Redis(settings.redis)
        self.tokens = Tokens(settings)
        self.revocations = Revocations(self.database, self.redis)
        self.sessions = Sessions(self.database, self.revocations, self.tokens, settings)
        self.passwords = Passwords(settings.hash_threads)
        self.attempts = Attempts(self.redis, settings)

    async def stop(self) -> None:
        """Drop every connection."""
        await self.redis.stop()
        await self.database.stop()

    async def register(self, request: Request) -> Response:
        """POST /register: create an account."""
        name, password = _account(body_of(request))
        await self.attempts.count("register", name, request.address)
        hashed = await self.passwords.hash(password)
        query = "INSERT INTO users (name, password_hash) VALUES ($1, $2) RETURNING id, name, created_at"
        try:
            (row,) = await self.database.rows(query, name, hashed)
        except DatabaseFault as error:
            if error.code != UNIQUE_VIOLATION:
                raise
            raise Refused(409, "name_taken", "this user name is taken, choose another") from None
        return answer(row, 201)

    async def login(self, request: Request) -> Response:
        """POST /login: begin a session."""
        body = body_of(request)
        name = text_field(body, "name", longest=32)
        password = text_field(body, "password", longest=LONGEST)
        await self.attempts.count("login", name, request.address)
        row = await self.database.row("SELECT id, password_hash FROM users WHERE name = $1", name)
        known = None if row is None else row["password_hash"]
        if not await self.passwords.verify(known, password) or row is None:
            raise Refused(401, "invalid_credentials", "user name or password is wrong")
        return _granted(await self.sessions.begin(row["id"]))

    async def refresh(self, request: Request) -> Response:
        """POST /refresh: exchange a refresh token for new tokens."""
        refresh = text_field(body_of(request), "refresh_token", longest=REFRESH_LONGEST)
        return _granted(await self.sessions.renew(refresh))

    async def logout(self, request: Request) -> Response:
        """POST /logout: end the session."""
        await self.sessions.end(await self._caller(request))
        return answer({"status": "logged out"})

    async def me(self, request: Request) -> Response:
        """GET /me: who the token belongs to."""
        claims = await self._caller(request)
        row = await self.database.row("SELECT id, name, created_at FROM users WHERE id = $1", claims.user)
        if row is None:
            raise unauthorized()
        return answer(row)

    async def check_keys(self) -> None:
        """Return if a token can be made and read."""
        import uuid  # noqa: PLC0415 - what reads the database's answers has it loaded

        self.tokens.verify(self.tokens.issue(uuid.uuid4(), uuid.uuid4()))

    async def _caller(self, request: Request) -> Claims:
        claims = self.tokens.verify(bearer(request.headers) or "")
        await self.revocations.check(claims)
        return claims


def build(settings: Settings) -> Application:
    """Return the application."""
    service = Service(settings)
    routes = {
        "/register": {"POST": service.register},
        "/login": {"POST": service.login},
        "/refresh": {"POST": service.refresh},
        "/logout": {"POST": service.logout},
        "/me": {"GET": service.me},
    }
    checks = {
        "database": lambda: service.database.row("SELECT 1 FROM users LIMIT 1"),
        "redis": service.redis.check,
        "keys": service.check_keys,
    }
    return Application(routes, checks, service.database.start, service.stop)


def _account(body: dict[str, Any]) -> tuple[str, str]:
    name = text_field(body, "name", shortest=3, longest=32)
    if not NAME.fullmatch(name):
        rule = "name must start with a-z or 0-9 and go on with a-z, 0-9, dot, underscore or hyphen"
        raise Refused(422, "invalid_name", rule)
    return name, text_field(body, "password", shortest=SHORTEST, longest=LONGEST)


def _granted(grant: Grant) -> Response:
    return answer(
        {
            "access_token": grant.access,
            "token_type": "Bearer",
            "expires_in": grant.seconds,
            "refresh_token": grant.refresh,
        }
    )
