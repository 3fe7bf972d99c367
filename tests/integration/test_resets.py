"""
Resets and private databases on a real stack.

The platform's own tests run after a reset; STACKYARD_FULL=1 makes it 100.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import asyncpg  # type: ignore[import-untyped] # it ships no types
import httpx
import pytest
from redis.asyncio import Redis
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from stackyard.docker.container_commands import output
from stackyard.errors import StackyardError
from stackyard.project.environments import project_root
from stackyard.stacks.environments.databases import aclone
from stackyard.stacks.environments.resets import areset

if TYPE_CHECKING:
    from stackyard.leases import Lease
    from stackyard.stacks.environments.stack import Stack

FULL = os.environ.get("STACKYARD_FULL") == "1"
ROUNDS: Final = 100 if FULL else 15
AT_ONCE: Final = 1.0  # seconds; the services give up a store that is only slow after 1.2
CLIENTS: Final = 12  # requests at once to each service: twice the connections its pool holds
ACCOUNT: Final = {"name": "left.over", "password": "correct horse battery"}


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    """Reset the module's stack: what the test before left in it is gone."""
    shared_stack.reset()
    return shared_stack


async def reset(lease: Lease) -> None:
    services = {service: lease.url(service) for service in ("auth", "backend")}
    await areset(lease.url("postgres"), lease.url("redis"), services)


async def both_services(client: httpx.AsyncClient, lease: Lease, token: str) -> list[int]:
    """Return the status of many requests at once that need both stores."""
    asked = [(f"{lease.url('auth')}/me"), (f"{lease.url('backend')}/threads")] * CLIENTS
    return await asyncio.gather(*(status(client, url, token) for url in asked))


async def status(client: httpx.AsyncClient, url: str, token: str) -> int:
    """Return the status of an answer; ask again if the service only waited in vain for a store, as on a busy host."""
    while True:
        began = time.monotonic()
        answer = await client.get(url, headers={"Authorization": f"Bearer {token}"})
        if answer.status_code != 503 or time.monotonic() - began < AT_ONCE:
            return answer.status_code


async def log_in(client: httpx.AsyncClient, lease: Lease) -> str:
    registered = await client.post(f"{lease.url('auth')}/register", json=ACCOUNT)
    assert registered.status_code == 201, registered.text
    answer = await client.post(f"{lease.url('auth')}/login", json=ACCOUNT)
    return str(answer.json()["access_token"])


def test_no_request_fails_after_a_reset_has_returned(stack: Stack) -> None:
    async def use() -> None:
        limits = httpx.Limits(max_connections=2 * CLIENTS)
        async with httpx.AsyncClient(limits=limits, trust_env=False, timeout=60) as client:
            for _ in range(ROUNDS):
                token = await log_in(client, stack.lease)
                assert set(await both_services(client, stack.lease, token)) == {200}
                await reset(stack.lease)
                # the token is still signed well; whose it was does not exist any more
                found = await both_services(client, stack.lease, token)
                assert sorted(set(found)) == [200, 401], found
                assert found.count(401) == CLIENTS

    asyncio.run(use())


def test_a_reset_undoes_rows_definitions_sequences_and_settings(stack: Stack) -> None:
    async def state(url: str) -> Any:
        link = await asyncpg.connect(url)
        found = [
            await link.fetch("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"),
            await link.fetch("SELECT last_value, is_called FROM threads_number_seq"),
            await link.fetch("SELECT nspname FROM pg_namespace ORDER BY 1"),
            await link.fetch("SELECT setdatabase, setrole, setconfig FROM pg_db_role_setting"),
            await link.fetch("SELECT count(*) FROM users"),
            await link.fetchval("SHOW work_mem"),
        ]  # fmt: skip
        await link.close()
        return found

    async def use() -> None:
        url = stack.lease.url("postgres")
        before = await state(url)
        link = await asyncpg.connect(url)
        await link.execute(
            "CREATE SCHEMA junk; CREATE TABLE junk.rows (id int); ALTER TABLE users ADD COLUMN junk int;"
            "DROP TABLE messages; CREATE SEQUENCE junk; SELECT nextval('threads_number_seq');"
            "INSERT INTO users (name, password_hash) VALUES ('left.over', '');"
            "ALTER ROLE app SET work_mem = '3MB'; ALTER DATABASE app SET search_path = junk"
        )
        await reset(stack.lease)
        assert link.is_closed() or await _is_dead(link)
        assert await state(url) == before

    asyncio.run(use())


async def _is_dead(link: Any) -> bool:
    try:
        await link.fetchval("SELECT 1")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return True
    return False


def test_a_reset_empties_every_database_of_redis(stack: Stack) -> None:
    async def use() -> None:
        url = stack.lease.url("redis")
        async with Redis.from_url(url) as first, Redis.from_url(url.removesuffix("/0") + "/7") as other:
            await first.set("left", "over")
            await other.set("left", "over")
            script = await first.script_load("return 1")
            await first.function_load("#!lua name=junk\nredis.register_function('junk', function() return 1 end)")
            await reset(stack.lease)
            assert (await first.dbsize(), await other.dbsize()) == (0, 0)
            assert await first.script_exists(script) == [False]
            assert await first.function_list() == []

    asyncio.run(use())


def test_open_websockets_are_reported_and_closed(stack: Stack) -> None:
    async def use() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            token = await log_in(client, stack.lease)
        headers = {"Authorization": f"Bearer {token}"}
        async with connect(stack.lease.url("websocket"), additional_headers=headers, proxy=None) as socket:
            await socket.recv()  # authenticated
            await reset(stack.lease)
            with pytest.raises(ConnectionClosed) as caught:
                await asyncio.wait_for(socket.recv(), 60)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1012

    asyncio.run(use())


def test_a_superusers_session_is_named_and_everything_stays_as_it_is(stack: Stack) -> None:
    inside = ["docker", "exec", "-i", stack.container("postgres").id, "psql", "-XqAt", "-U", "postgres", "app"]
    with subprocess.Popen(inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as session:  # noqa: S603 - our own
        assert session.stdin
        assert session.stdout
        session.stdin.write("SELECT 'here';\n")
        session.stdin.flush()
        assert session.stdout.readline() == "here\n"
        with pytest.raises(StackyardError, match="database 'app' has a session of role postgres"):
            stack.reset()
        assert httpx.get(f"{stack.lease.url('auth')}/readyz").status_code == 200
    stack.reset()


def test_fifty_private_databases_at_once_are_apart_and_leave_nothing(stack: Stack) -> None:
    async def names(url: str) -> set[str]:
        link = await asyncpg.connect(url)
        found = {row["datname"] for row in await link.fetch("SELECT datname FROM pg_database")}
        await link.close()
        return found

    async def one(number: int) -> int:
        async with await aclone(stack.lease.url("postgres")) as mine:
            link = await asyncpg.connect(mine.url, timeout=120)
            await link.execute("INSERT INTO users (name, password_hash) VALUES ($1, '')", f"user.{number}")
            count = await link.fetchval("SELECT count(*) FROM users")
            await asyncio.sleep(0.5)  # so that all fifty are there at one time; the drop ends the session
            return int(count)

    async def use() -> None:
        before = await names(stack.lease.url("postgres"))
        assert await asyncio.gather(*map(one, range(50))) == [1] * 50
        assert await names(stack.lease.url("postgres")) == before

    asyncio.run(use())
    assert {state.service: state.status for state in stack.status()}["postgres"] == "running"
    assert httpx.get(f"{stack.lease.url('backend')}/readyz").status_code == 200


def test_templates_that_share_files_can_be_copied_but_neither_entered_nor_opened(stack: Stack) -> None:
    url = stack.lease.url("postgres").removesuffix("app")

    async def use() -> None:
        link = await asyncpg.connect(f"{url}postgres")
        for template in ("template0", "template1", "app_template"):
            with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="not currently accepting connections"):
                await asyncpg.connect(url + template)
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await link.execute(f"ALTER DATABASE {template} ALLOW_CONNECTIONS true")
            await link.execute(f"CREATE DATABASE copied TEMPLATE {template}")
            copy = await asyncpg.connect(f"{url}copied")
            assert await copy.fetchval("SELECT count(*) FROM pg_proc WHERE proname = 'gen_random_uuid'") == 1
            assert bool(await copy.fetchval("SELECT to_regclass('users')::text")) is (template == "app_template")
            await copy.close()
            await link.execute("DROP DATABASE copied")
        await link.close()

    asyncio.run(use())
    look = ("busybox", "find", "/var/lib/postgresql/pgdata/base/1", "-name", "[0-9]*", "-links", "1", "-type", "f")
    assert output(stack.engine, stack.container("postgres").id, *look) == (0, "")


def test_nothing_a_role_may_do_in_the_shared_database_postgres_changes_a_file_of_the_templates(stack: Stack) -> None:
    postgres = stack.container("postgres").id
    sums = ("busybox", "sh", "-c", "cd /var/lib/postgresql/pgdata/base/4 && sha256sum *")
    superuser = ("psql", "-X", "-h", "/tmp", "-U", "postgres", "-d", "postgres", "-c")
    before = output(stack.engine, postgres, *sums)

    async def use() -> None:
        link = await asyncpg.connect(stack.lease.url("postgres").removesuffix("app") + "postgres")
        for allowed in (
            "SELECT lo_from_bytea(0, 'large')", "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO public",
            "CREATE DATABASE made", "DROP DATABASE made", "ANALYZE", "SELECT count(*) FROM pg_class, pg_attribute",
        ):  # fmt: skip
            await link.execute(allowed)
        for refused in (
            "CREATE TABLE made ()", "CREATE TEMPORARY TABLE made ()", "CREATE SCHEMA made", "CREATE EXTENSION plpgsql",
            "CREATE FUNCTION pg_temp.made() RETURNS int LANGUAGE sql RETURN 1",
            "ALTER DATABASE postgres RENAME TO made",
        ):  # fmt: skip
            with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.DuplicateObjectError)):
                await link.execute(refused)
        await link.close()

    asyncio.run(use())
    code, said = output(stack.engine, postgres, *superuser, "CREATE TABLE made ()")
    assert (code, "read-only transaction" in said) == (1, True)
    assert output(stack.engine, postgres, *superuser, "CHECKPOINT")[0] == 0

    assert len(before[1].splitlines()) > 200
    assert output(stack.engine, postgres, *sums) == before


def test_a_reset_leaves_private_databases_alone(stack: Stack) -> None:
    async def rows(url: str) -> int:
        link = await asyncpg.connect(url)
        try:
            return int(await link.fetchval("SELECT count(*) FROM mine"))
        finally:
            await link.close()

    async def fill(url: str) -> None:
        link = await asyncpg.connect(url)
        await link.execute("CREATE TABLE mine AS SELECT 1")
        await link.close()

    with stack.database("of_one_test") as mine:
        asyncio.run(fill(mine.url))
        stack.reset()
        assert asyncio.run(rows(mine.url)) == 1


@pytest.mark.timeout(3600 if FULL else 900)
def test_the_platforms_tests_pass_after_each_reset(stack: Stack) -> None:
    environment = {**os.environ, **stack.lease.variables()}
    words = ["-q", "-x", "-p", "no:cacheprovider", "-m", "not disruptive", "tests/platform"]
    for round_ in range(ROUNDS if FULL else 1):
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-m", "pytest", *words], cwd=project_root(), env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"round {round_}: {done.stdout[-3000:]}"
        stack.reset()
