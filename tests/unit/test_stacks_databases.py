"""Databases for one test, against a fake server made of dictionaries; tests/integration has the real one."""

from __future__ import annotations

import asyncio

import asyncpg  # type: ignore[import-untyped] # it ships no types
import pytest
from fake_postgres import FakeDatabase, FakePostgres

from stackyard.errors import NotReadyError, StackyardError, UsageError
from stackyard.stacks.environments import databases

URL = "postgresql://app:pw@127.0.0.1:9500/app"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakePostgres:
    made = FakePostgres(databases={"app": FakeDatabase(tables={"users", "junk"}), "app_template": FakeDatabase()})
    made.databases["app_template"].tables = {"users"}
    monkeypatch.setattr(asyncpg, "connect", made.connect)
    return made


def test_a_clone_has_the_templates_tables_and_goes_with_its_block(server: FakePostgres) -> None:
    with databases.clone(URL, "mine") as mine:
        assert (mine.name, mine.url) == ("mine", "postgresql://app:pw@127.0.0.1:9500/mine")
        assert server.databases["mine"].tables == {"users"}

    assert set(server.databases) == {"app", "app_template"}
    assert server.links == {"opened": 2, "closed": 2}


def test_its_representation_does_not_tell_the_password(server: FakePostgres) -> None:
    with databases.clone(URL) as mine:
        assert "pw" not in repr(mine)
        assert mine.name in server.databases


def test_names_left_out_differ(server: FakePostgres) -> None:
    names = {databases.clone(URL).name for _ in range(20)}

    assert len(names) == 20
    assert names < set(server.databases)


def test_an_event_loop_has_a_way_of_its_own(server: FakePostgres) -> None:
    async def use() -> None:
        async with await databases.aclone(URL, "mine"):
            assert "mine" in server.databases
            with pytest.raises(UsageError, match="await the async function instead, such as adatabase"):
                databases.clone(URL)

    asyncio.run(use())

    assert "mine" not in server.databases


@pytest.mark.parametrize("name", ["", "Mine", "1st", "a b", 'a"; DROP', "ä", "x" * 64, "a-b", "mine\n"])
def test_a_name_that_would_need_quotes_is_refused(server: FakePostgres, name: str) -> None:
    with pytest.raises(UsageError, match="1 to 63 of a-z, 0-9 and _, no digit first"):
        databases.clone(URL, name)
    assert server.said == []


@pytest.mark.parametrize("name", sorted(databases.TAKEN))
def test_a_name_of_the_platforms_own_is_refused(server: FakePostgres, name: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}' belongs to the platform"):
        databases.clone(URL, name)
    assert server.said == []


def test_a_name_that_is_taken_is_refused_and_its_owner_keeps_it(server: FakePostgres) -> None:
    with databases.clone(URL, "mine"), pytest.raises(UsageError, match="a database 'mine' exists already"):
        databases.clone(URL, "mine")
    assert server.links["opened"] == 3


def test_a_drop_ends_the_sessions_that_are_left(server: FakePostgres) -> None:
    mine = databases.clone(URL, "mine")
    server.databases["mine"].sessions = [("app", 2), ("app", 0)]

    mine.drop()

    assert "mine" not in server.databases
    assert server.said[-2:] == ['ALTER DATABASE "mine" ALLOW_CONNECTIONS false', 'DROP DATABASE IF EXISTS "mine"']


def test_a_second_drop_does_nothing(server: FakePostgres) -> None:
    mine = databases.clone(URL, "mine")
    mine.drop()
    said = list(server.said)

    mine.drop()

    assert server.said == said


def test_a_drop_that_comes_second_in_a_race_does_nothing(server: FakePostgres) -> None:
    mine = databases.clone(URL, "mine")
    server.breaks = asyncpg.InvalidCatalogNameError('database "mine" does not exist')

    mine.drop()

    assert "mine" in server.databases  # the one whose race it was drops it


def test_a_session_of_another_role_is_named_and_the_database_opened_again(server: FakePostgres) -> None:
    mine = databases.clone(URL, "mine")
    server.databases["mine"].sessions = [("postgres", 0)]

    with pytest.raises(StackyardError, match="'mine' has a session of role postgres that stackyard cannot end"):
        mine.drop()

    assert server.databases["mine"].open


def test_a_session_that_does_not_end_is_waited_for_no_longer_than_that(
    server: FakePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = databases.clone(URL, "mine")
    server.databases["mine"].sessions = [("app", 1000)]
    monkeypatch.setattr(databases, "SESSION_TIMEOUT_S", 0.0)

    with pytest.raises(StackyardError, match="role app that stackyard cannot end"):
        mine.drop()


def test_a_full_server_is_asked_again(server: FakePostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "CROWDED_PAUSE", 0.0)
    server.refusals = [asyncpg.TooManyConnectionsError("sorry, too many clients already")] * 3

    with databases.clone(URL, "mine"):
        assert server.links["opened"] == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (asyncpg.TooManyConnectionsError("sorry, too many clients already"), "too many clients"),
        (ConnectionRefusedError(111, "refused"), "connection refused"),
        (asyncpg.InvalidPasswordError('password authentication failed for user "app"'), "authentication failed"),
        (TimeoutError(), "no answer in time"),
    ],
)
def test_a_server_that_gives_no_connection_is_named_without_the_password(
    server: FakePostgres, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    monkeypatch.setattr(databases, "CONNECT_TIMEOUT_S", 0.0)
    server.refusals = [error]

    with pytest.raises(NotReadyError, match=f"port 9500 gives no connection.*{said}.*env.status") as caught:
        databases.clone(URL)
    assert ":pw" not in str(caught.value)


def test_a_server_that_goes_away_meanwhile_is_distinguished_from_one_that_refuses(server: FakePostgres) -> None:
    server.breaks = ConnectionResetError()
    with pytest.raises(NotReadyError, match="the connection to PostgreSQL broke: connection reset"):
        databases.clone(URL)

    server.breaks = asyncpg.DiskFullError("could not extend file")
    with pytest.raises(StackyardError, match="PostgreSQL refused: DiskFullError: could not extend file"):
        databases.clone(URL)
