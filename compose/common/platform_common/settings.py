"""What the environment tells a service; secrets come from the files that the `*_FILE` variables name."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from platform_common.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

JWT_KEY_MIN: Final = 32  # characters; RFC 7518 wants a key no shorter than the hash
ACCESS_TTL_MAX: Final = 900  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """
    Where a store listens and who we are there.

    Attributes:
        host: Name or address.
        port: TCP port.
        user: Role or ACL user.
        password: Its password.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    Everything a service is told.

    Attributes:
        port: TCP port to serve on.
        postgres: PostgreSQL.
        database: The database in it.
        redis: Redis.
        jwt_key: HS256 key, at least 32 characters.
        issuer: `iss` of every token.
        audience: `aud` of every token; a token of one stack is worthless in another.
        access_ttl: Seconds an access token lives, 1..900.
        refresh_ttl: Seconds a refresh token lives.
        rate_limit: Attempts per user name, address and window.
        rate_window: Seconds.
        hash_threads: Password hashes at one time, 19 MiB each.
        allowed_origins: Exact WebSocket origins.
        user_sockets: WebSockets one user may hold open in one process.
    """

    port: int
    postgres: Endpoint
    database: str
    redis: Endpoint
    jwt_key: str = field(repr=False)
    issuer: str
    audience: str
    access_ttl: int
    refresh_ttl: int
    rate_limit: int
    rate_window: int
    hash_threads: int
    allowed_origins: frozenset[str]
    user_sockets: int

    @classmethod
    def load(cls, env: Mapping[str, str] = os.environ) -> Settings:
        """
        Read all settings.

        Args:
            env: Variables to read; the process's own by default.

        Raises:
            SettingsError: If one is missing or wrong.
        """
        return cls(
            port=_number(env, "PORT", 8000, highest=65535),
            postgres=_endpoint(env, "POSTGRES", 5432),
            database=_text(env, "POSTGRES_DB", "app"),
            redis=_endpoint(env, "REDIS", 6379),
            jwt_key=_secret(env, "JWT_KEY", shortest=JWT_KEY_MIN),
            issuer=_text(env, "JWT_ISSUER"),
            audience=_text(env, "JWT_AUDIENCE"),
            access_ttl=_number(env, "ACCESS_TTL", 600, highest=ACCESS_TTL_MAX),
            refresh_ttl=_number(env, "REFRESH_TTL", 7 * 86400, highest=90 * 86400),
            rate_limit=_number(env, "RATE_LIMIT", 300, highest=10**6),
            rate_window=_number(env, "RATE_WINDOW", 60, highest=86400),
            hash_threads=_number(env, "HASH_THREADS", 2, highest=4),
            allowed_origins=frozenset(filter(None, map(str.strip, env.get("ALLOWED_ORIGINS", "").split(",")))),
            user_sockets=_number(env, "USER_SOCKETS", 16, highest=1000),
        )


def _endpoint(env: Mapping[str, str], prefix: str, port: int) -> Endpoint:
    return Endpoint(
        host=_text(env, f"{prefix}_HOST"),
        port=_number(env, f"{prefix}_PORT", port, highest=65535),
        user=_text(env, f"{prefix}_USER", "app"),
        password=_secret(env, f"{prefix}_PASSWORD", shortest=1),
    )


def _text(env: Mapping[str, str], name: str, default: str = "") -> str:
    value = env.get(name, "") or default
    if not value:
        raise SettingsError(f"{name} is missing: set it to a non-empty text")
    return value


def _number(env: Mapping[str, str], name: str, default: int, *, highest: int) -> int:
    text = env.get(name, "") or str(default)
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= highest):
        raise SettingsError(f"{name} must be a whole number from 1 to {highest}, got {text[:40]!r}")
    return int(text)


def _secret(env: Mapping[str, str], name: str, *, shortest: int) -> str:
    """Return the secret itself or what its file holds; never both, because one would silently win."""
    value, file = env.get(name, ""), env.get(f"{name}_FILE", "")
    if bool(value) == bool(file):
        found = "both" if value else "neither"
        raise SettingsError(f"set exactly one of {name} and {name}_FILE, got {found}")
    if file:
        try:
            value = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            problem = getattr(error, "strerror", None) or type(error).__name__
            raise SettingsError(f"{name}_FILE: cannot read {file}: {problem}; mount the secret there") from None
    if len(value) < shortest:
        raise SettingsError(f"{name} must have at least {shortest} characters, got {len(value)}")
    return value
