from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING

import jwt
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from tests.platform.conftest import Person, Stack


def _flip(token: str, part: int) -> str:
    """Flip one bit in the middle of a token's header, claims or signature."""
    parts = token.split(".")
    data = bytearray(base64.urlsafe_b64decode(parts[part] + "=="))
    data[len(data) // 2] ^= 1
    parts[part] = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    return ".".join(parts)


def _unsigned(token: str, algorithm: str) -> str:
    header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "typ": "JWT"}).encode()).rstrip(b"=").decode()
    return f"{header}.{token.split('.')[1]}."


NOW = int(time.time())
FORGERIES: dict[str, Callable[[Stack], str]] = {
    "expired": lambda s: s.token(iat=NOW - 100, exp=NOW - 1),
    "foreign-key": lambda s: s.token(key="k" * 43),
    "foreign-audience": lambda s: s.token(aud="another-stack"),
    "foreign-issuer": lambda s: s.token(iss="someone-else"),
    "not-yet": lambda s: s.token(nbf=int(time.time()) + 60),
    "issued-tomorrow": lambda s: s.token(iat=int(time.time()) + 86400),
    "no-expiry": lambda s: s.token(exp=None),
    "no-audience": lambda s: s.token(aud=None),
    "no-issuer": lambda s: s.token(iss=None),
    "no-subject": lambda s: s.token(sub=None),
    "no-id": lambda s: s.token(jti=None),
    "no-session": lambda s: s.token(sid=None),
    "subject-no-uuid": lambda s: s.token(sub="' OR 1=1 --"),
    "another-algorithm": lambda s: s.token(algorithm="HS512"),
    "alg-none": lambda s: _unsigned(s.token(), "none"),
    "alg-NonE": lambda s: _unsigned(s.token(), "NonE"),
    "alg-rs256": lambda s: _unsigned(s.token(), "RS256") + s.token().split(".")[2],
    "no-signature": lambda s: s.token().rsplit(".", 1)[0] + ".",
    "bit-of-header": lambda s: _flip(s.token(), 0),
    "bit-of-claims": lambda s: _flip(s.token(), 1),
    "bit-of-signature": lambda s: _flip(s.token(), 2),
    "a-megabyte": lambda _: "a" * 2**20,
    "a-valid-megabyte": lambda s: s.token(extra="a" * 2**20),
    "thirty-kilobytes": lambda s: s.token(extra="a" * 20_000),
    "rubbish": lambda _: "rubbish",
    "dots": lambda _: "...",
}


@pytest.fixture
def refusal(auth: httpx.Client) -> bytes:
    """What a caller without any token hears."""
    answer = auth.get("/me")
    assert answer.status_code == 401
    return answer.content


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_a_bad_token_is_refused_by_both_services_without_a_word_why(
    stack: Stack, auth: httpx.Client, backend: httpx.Client, refusal: bytes, forge: Callable[[Stack], str]
) -> None:
    headers = {"Authorization": f"Bearer {forge(stack)}"}

    for answer in (auth.get("/me", headers=headers), backend.get("/threads", headers=headers)):
        assert (answer.status_code, answer.content) == (401, refusal)
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("value", ["", "Bearer", "Basic YTpi", "bearer", "Token x"])
def test_an_authorization_header_that_is_no_bearer_token_is_refused(
    auth: httpx.Client, backend: httpx.Client, refusal: bytes, value: str
) -> None:
    headers = {"Authorization": value}

    for answer in (auth.get("/me", headers=headers), backend.get("/threads", headers=headers)):
        assert (answer.status_code, answer.content) == (401, refusal)


def test_two_authorization_headers_are_refused(backend: httpx.Client, alice: Person, refusal: bytes) -> None:
    answer = backend.get("/threads", headers=[("Authorization", alice.headers["Authorization"])] * 2)

    assert (answer.status_code, answer.content) == (401, refusal)


def test_a_token_in_the_query_string_counts_for_nothing(
    auth: httpx.Client, backend: httpx.Client, alice: Person, refusal: bytes
) -> None:
    for name in ("token", "access_token"):
        assert auth.get("/me", params={name: alice.access}).content == refusal
        assert backend.get("/threads", params={name: alice.access}).content == refusal


def test_the_word_bearer_may_be_written_in_any_case(auth: httpx.Client, alice: Person) -> None:
    assert auth.get("/me", headers={"Authorization": f"bEARER {alice.access}"}).status_code == 200


def test_a_token_is_hs256_lives_at_most_15_minutes_and_belongs_to_this_stack(stack: Stack, alice: Person) -> None:
    claims = jwt.decode(alice.access, stack.key, algorithms=["HS256"], audience=stack.audience, issuer=stack.issuer)

    assert jwt.get_unverified_header(alice.access) == {"alg": "HS256", "typ": "JWT"}
    assert 0 < claims["exp"] - claims["iat"] <= 900
    assert claims["sub"] == alice.id


def test_a_well_signed_token_of_no_one_opens_nothing(
    stack: Stack, auth: httpx.Client, backend: httpx.Client, refusal: bytes
) -> None:
    headers = {"Authorization": f"Bearer {stack.token()}"}

    assert auth.get("/me", headers=headers).content == refusal
    assert backend.post("/threads", json={"title": "mine"}, headers=headers).content == refusal
    assert backend.get("/threads", headers=headers).json() == {"threads": [], "next": None}
