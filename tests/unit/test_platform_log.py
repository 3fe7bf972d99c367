from __future__ import annotations

import logging
import re
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from platform_common.errors import Refused, Unavailable, unauthorized
from platform_common.outages import Outage
from platform_common.settings import Endpoint
from platform_common.web import Answer, application, body_of
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.applications import Starlette
    from starlette.requests import Request

SECRET = "hidden-and-secret"
POSTGRES = Endpoint(host="postgres", port=5432, user="app", password=SECRET)


async def _meet(request: Request) -> Answer:
    errors: dict[str, Exception] = {
        "401": unauthorized(), "429": Refused(429, "slow", "wait"), "503": Unavailable("redis", "connection refused"),
    }  # fmt: skip
    if error := errors.get(request.path_params["what"]):
        raise error
    return Answer({"id": uuid.UUID(int=1), "at": datetime(2026, 1, 2, tzinfo=UTC)})


async def _read(request: Request) -> Answer:
    return Answer(await body_of(request))


@asynccontextmanager
async def _lifespan(_app: Starlette) -> AsyncIterator[None]:
    yield


async def _away() -> None:
    raise Unavailable("postgres", "connection refused")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    routes = [Route("/meet/{what}", _meet), Route("/read", _read, methods=["POST"])]
    app: Any = application(routes, {"database": _away}, _lifespan)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as found:
        yield found


@pytest.mark.parametrize(
    ("what", "level", "line"),
    [
        ("401", logging.INFO, r"GET /meet/401 401 \d+ ms"),
        ("429", logging.INFO, r"GET /meet/429 429 \d+ ms"),
        ("503", logging.WARNING, r"GET /meet/503 503 \d+ ms"),
        ("%0Aforged", None, ""),
    ],
)
async def test_each_request_that_fails_is_one_line_without_its_query(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, what: str, level: int | None, line: str
) -> None:
    caplog.set_level(logging.INFO, "platform")

    await client.get(f"/meet/{what}?token={SECRET}", headers={"Authorization": f"Bearer {SECRET}"})

    found = [record for record in caplog.records if record.name == "platform"]
    assert [record.levelno for record in found] == ([] if level is None else [level])
    assert all(re.fullmatch(line, record.getMessage()) for record in found)


async def test_an_unknown_path_cannot_break_the_line(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "platform")

    await client.get("/no%0Asuch/" + "x" * 1000)

    (record,) = (record for record in caplog.records if record.name == "platform")
    assert record.getMessage().startswith("GET /no%0Asuch/xxx")
    assert len(record.getMessage()) < 250


async def test_an_unready_service_says_why_and_logs_no_request(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "platform")

    answer = await client.get("/readyz")

    assert (answer.status_code, answer.json()["checks"]) == (503, {"database": "connection refused"})
    assert [record for record in caplog.records if record.name == "platform"] == []


async def test_ids_and_times_become_texts(client: httpx.AsyncClient) -> None:
    answer = await client.get("/meet/nothing")

    assert answer.json() == {"id": "00000000-0000-0000-0000-000000000001", "at": "2026-01-02T00:00:00+00:00"}
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("body", "code"), [(b"x" * (16 * 1024 + 1), "too_large"), (b"[]", "bad_json"), (b'{"a":', "bad_json")]
)
async def test_every_refusal_has_one_shape(client: httpx.AsyncClient, body: bytes, code: str) -> None:
    answer = await client.post("/read", content=body)

    assert answer.json()["error"]["code"] == code


def test_an_outage_is_logged_when_it_begins_changes_and_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "platform")
    outage = Outage("postgres", POSTGRES)

    for error in (ConnectionRefusedError(), ConnectionRefusedError(), TimeoutError(), OSError("no route to host")):
        assert outage.goes_on(error).store == "postgres"
    for _ in range(3):
        outage.over()

    assert [record.getMessage() for record in caplog.records] == [
        "waiting for postgres at postgres:5432: connection refused",
        "waiting for postgres at postgres:5432: no answer in time",
        "waiting for postgres at postgres:5432: no route to host",
        "connected to postgres at postgres:5432",
    ]
    assert SECRET not in caplog.text


def test_the_reason_of_an_outage_is_found_below_what_a_library_made_of_it() -> None:
    wrapped = RuntimeError("Error 111 connecting to redis:6379.")
    wrapped.__context__ = ConnectionRefusedError()

    assert Outage("redis", POSTGRES).goes_on(wrapped).reason == "connection refused"
