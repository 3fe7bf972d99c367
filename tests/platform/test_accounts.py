from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

import pytest
import redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx
    from tests.platform.conftest import Crowd, Person, Stack

    Problem = Callable[[httpx.Response], tuple[int, str]]


@pytest.fixture
def store(stack: Stack) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(stack.redis, decode_responses=True) as client:
        yield client


def test_both_services_are_alive_and_ready_and_name_what_they_checked(
    auth: httpx.Client, backend: httpx.Client
) -> None:
    assert auth.get("/healthz").json() == {"status": "alive"}
    assert backend.get("/healthz").json() == {"status": "alive"}
    assert auth.get("/readyz").json()["checks"] == {"database": "ok", "redis": "ok", "keys": "ok"}
    assert backend.get("/readyz").json()["checks"] == {"database": "ok", "redis": "ok", "events": "ok"}


def test_a_registered_person_logs_in_and_is_who_they_say(auth: httpx.Client, alice: Person) -> None:
    answer = auth.get("/me", headers=alice.headers)

    assert answer.status_code == 200
    assert (answer.json()["id"], answer.json()["name"]) == (alice.id, alice.name)
    assert "password" not in answer.text


def test_a_taken_name_is_refused(auth: httpx.Client, alice: Person, problem_of: Problem) -> None:
    answer = auth.post("/register", json={"name": alice.name, "password": "another password"})

    assert problem_of(answer) == (409, "name_taken")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("ab", id="too-short"),
        pytest.param("a" * 33, id="too-long"),
        pytest.param("Alice", id="upper-case"),
        pytest.param(".alice", id="leading-dot"),
        pytest.param("alice bob", id="space"),
        pytest.param("alice\n", id="newline"),
        pytest.param("аlice", id="cyrillic"),  # noqa: RUF001 - the look-alike is the point
        pytest.param("ali\x00ce", id="nul"),
        pytest.param(7, id="number"),
        pytest.param(None, id="missing"),
    ],
)
def test_a_name_against_the_rule_is_refused(auth: httpx.Client, problem_of: Problem, name: object) -> None:
    answer = auth.post("/register", json={"name": name, "password": "good enough"})

    assert problem_of(answer) == (422, "invalid_name")


@pytest.mark.parametrize("password", ["seven c", "x" * 129, 12345678, None, ["a" * 8]])
def test_a_password_of_the_wrong_length_or_type_is_refused(
    auth: httpx.Client, problem_of: Problem, password: object
) -> None:
    answer = auth.post("/register", json={"name": f"p-{secrets.token_hex(6)}", "password": password})

    assert problem_of(answer) == (422, "invalid_password")


def test_the_longest_password_counts_to_its_last_character(auth: httpx.Client, problem_of: Problem) -> None:
    account = {"name": f"long-{secrets.token_hex(6)}", "password": "ü" * 127 + "x"}
    assert auth.post("/register", json=account).status_code == 201

    assert auth.post("/login", json=account).status_code == 200
    assert problem_of(auth.post("/login", json=account | {"password": "ü" * 128}))[0] == 401


def test_a_wrong_password_and_an_unknown_name_look_the_same(auth: httpx.Client, alice: Person) -> None:
    wrong = auth.post("/login", json={"name": alice.name, "password": "not the password"})
    unknown = auth.post("/login", json={"name": f"no-{secrets.token_hex(6)}", "password": "not the password"})

    assert wrong.status_code == unknown.status_code == 401
    assert wrong.content == unknown.content
    assert set(wrong.headers) == set(unknown.headers)


def test_too_many_attempts_at_one_name_are_refused_for_a_while_and_no_one_else_is_hit(
    auth: httpx.Client, crowd: Crowd, alice: Person, problem_of: Problem, store: redis.Redis
) -> None:
    name = f"target-{secrets.token_hex(6)}"
    assert auth.post("/login", json={"name": name, "password": "guess"}).status_code == 401
    (key,) = store.scan_iter(match=f"rate:login:{name}:*", count=1000)
    store.set(key, 10**6, keepttl=True)

    refused = auth.post("/login", json={"name": name, "password": "guess"})

    assert problem_of(refused) == (429, "too_many_attempts")
    assert 0 < int(refused.headers["retry-after"]) <= 86400
    assert crowd.login(alice).access


@pytest.mark.parametrize("size", [16 * 1024 + 1, 1024 * 1024], ids=["one-byte", "a-megabyte"])
def test_a_body_over_16_kib_is_refused(auth: httpx.Client, problem_of: Problem, size: int) -> None:
    frame = json.dumps({"name": "", "password": ""}).encode()
    body = frame[:-2] + b"x" * (size - len(frame)) + frame[-2:]
    assert len(body) == size

    assert problem_of(auth.post("/login", content=body)) == (413, "too_large")


def test_a_body_of_16_kib_is_read(auth: httpx.Client, problem_of: Problem) -> None:
    frame = json.dumps({"name": "nobody", "password": "guess", "more": ""}).encode()
    body = frame[:-2] + b"x" * (16 * 1024 - len(frame)) + frame[-2:]

    assert problem_of(auth.post("/login", content=body)) == (401, "invalid_credentials")


def test_a_body_sent_in_chunks_without_a_length_is_limited_too(auth: httpx.Client, problem_of: Problem) -> None:
    answer = auth.post("/login", content=(b"x" * 1024 for _ in range(64)))

    assert problem_of(answer) == (413, "too_large")


@pytest.mark.parametrize(
    "body",
    [b"", b"name=x", b"[]", b'"text"', b'{"name":', b'{"name":"\xff\xfe"}', b"[" * 9000, b"NaN"],
    ids=["empty", "form", "array", "text", "cut", "not-utf8", "deep", "nan"],
)
def test_a_body_that_is_no_json_object_is_refused(auth: httpx.Client, problem_of: Problem, body: bytes) -> None:
    assert problem_of(auth.post("/login", content=body)) == (400, "bad_json")


@pytest.mark.parametrize("service", ["auth", "backend"])
def test_unknown_routes_and_methods_have_the_shape_of_all_errors(
    request: pytest.FixtureRequest, problem_of: Problem, service: str
) -> None:
    client: httpx.Client = request.getfixturevalue(service)

    assert problem_of(client.get("/no/such/route")) == (404, "not_found")
    assert problem_of(client.request("TRACE", "/healthz")) == (405, "method_not_allowed")


@pytest.mark.parametrize("field", ["name", "password"])
def test_half_a_surrogate_pair_is_refused(auth: httpx.Client, problem_of: Problem, field: str) -> None:
    account: dict[str, Any] = {"name": f"s-{secrets.token_hex(6)}", "password": "good enough"}
    body = json.dumps(account | {field: "surrogate \ud800"}).encode()

    assert problem_of(auth.post("/register", content=body)) == (422, f"invalid_{field}")
