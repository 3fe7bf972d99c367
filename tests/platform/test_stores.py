from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg  # type: ignore[import-untyped] # it ships no types
import pytest
import redis

if TYPE_CHECKING:
    from tests.platform.conftest import Stack


def _redis(stack: Stack, **changes: Any) -> redis.Redis:
    where = urlsplit(stack.redis)
    login = {"username": where.username, "password": where.password} | changes
    return redis.Redis(host=str(where.hostname), port=int(where.port or 0), socket_timeout=30, **login)


async def _postgres(stack: Stack, **changes: Any) -> Any:
    where = urlsplit(stack.postgres)
    login = {
        "host": where.hostname, "port": where.port, "user": where.username, "password": where.password,
        "database": where.path.strip("/"), "timeout": 30, "ssl": False,
    }  # fmt: skip
    return await asyncpg.connect(**login | changes)


def test_redis_serves_the_application_with_its_password(stack: Stack) -> None:
    with _redis(stack) as client:
        assert client.ping()


def test_redis_answers_noauth_to_a_client_that_does_not_log_in(stack: Stack) -> None:
    where = urlsplit(stack.redis)
    with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
        connection.sendall(b"GET anything\r\n")
        assert connection.recv(100).startswith(b"-NOAUTH ")


@pytest.mark.parametrize(
    ("user", "password"), [("app", "wrong"), ("default", ""), ("default", "wrong"), ("admin", "admin")]
)
def test_redis_refuses_a_wrong_login(stack: Stack, user: str, password: str) -> None:
    where = urlsplit(stack.redis)
    with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
        connection.sendall(f'AUTH {user} "{password}"\r\n'.encode())
        assert connection.recv(100).startswith(b"-WRONGPASS ")


@pytest.mark.parametrize(
    "command",
    [
        ("CONFIG", "SET", "dir", "/tmp"),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
        ("SAVE",),
        ("SHUTDOWN", "NOSAVE"),
        ("REPLICAOF", "127.0.0.1", "1"),
        ("MODULE", "LIST"),
    ],
    ids=" ".join,
)
def test_redis_denies_the_application_what_it_does_not_need(stack: Stack, command: tuple[str, ...]) -> None:
    with _redis(stack) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command)


async def test_postgresql_refuses_a_wrong_password(stack: Stack) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError) as caught:
        await _postgres(stack, password="wrong")

    assert caught.value.sqlstate == "28P01"


@pytest.mark.parametrize("user", ["postgres", "root", "nobody"])
async def test_postgresql_lets_only_the_application_in_over_tcp(stack: Stack, user: str) -> None:
    for password in ("", "postgres", urlsplit(stack.postgres).password):
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await _postgres(stack, user=user, password=password, database="postgres")


async def test_the_applications_role_is_no_superuser_and_cannot_act_like_one(stack: Stack) -> None:
    connection = await _postgres(stack)
    try:
        rights = await connection.fetchrow(
            "SELECT rolsuper, rolcreaterole, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        )
        assert set(rights.values()) == {False}
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("COPY (SELECT 1) TO PROGRAM 'true'")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT rolpassword FROM pg_authid")
    finally:
        await connection.close()


async def test_passwords_and_refresh_tokens_are_stored_as_hashes(stack: Stack, alice: Any) -> None:
    connection = await _postgres(stack)
    try:
        stored = await connection.fetchval("SELECT password_hash FROM users WHERE name = $1", alice.name)
        assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        tables = [await connection.fetch(f"SELECT t::text FROM {name} t") for name in ("users", "refresh_tokens")]  # noqa: S608 - two constants
        everything = str(tables)
        assert alice.name in everything
        assert alice.password not in everything
        assert alice.refresh not in everything
    finally:
        await connection.close()
