from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from tests.platform.conftest import Person

    Problem = Callable[[httpx.Response], tuple[int, str]]

INVALID = (401, "invalid_refresh_token")


def _refresh(auth: httpx.Client, token: str) -> httpx.Response:
    return auth.post("/refresh", json={"refresh_token": token})


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_refresh_gives_new_tokens_for_the_same_person(auth: httpx.Client, again: Person) -> None:
    fresh = _refresh(auth, again.refresh).json()

    assert fresh["refresh_token"] != again.refresh
    assert fresh["access_token"] != again.access
    assert auth.get("/me", headers=_bearer(fresh["access_token"])).json()["id"] == again.id


def test_a_used_refresh_token_ends_the_whole_session_everywhere(
    auth: httpx.Client, backend: httpx.Client, again: Person, problem_of: Problem
) -> None:
    fresh = _refresh(auth, again.refresh).json()
    assert backend.get("/threads", headers=_bearer(fresh["access_token"])).status_code == 200

    assert problem_of(_refresh(auth, again.refresh)) == INVALID

    assert problem_of(_refresh(auth, fresh["refresh_token"])) == INVALID
    for token in (again.access, fresh["access_token"]):
        assert auth.get("/me", headers=_bearer(token)).status_code == 401
        assert backend.get("/threads", headers=_bearer(token)).status_code == 401


def test_of_two_refreshes_at_once_at_most_one_succeeds(auth: httpx.Client, again: Person) -> None:
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: _refresh(auth, again.refresh).status_code, range(2)))

    assert sorted(answers) == [200, 401]


def test_an_unknown_refresh_token_is_refused(auth: httpx.Client, problem_of: Problem) -> None:
    assert problem_of(_refresh(auth, "x" * 43)) == INVALID


def test_an_access_token_is_no_refresh_token_and_the_reverse(
    auth: httpx.Client, alice: Person, problem_of: Problem
) -> None:
    assert problem_of(_refresh(auth, alice.access))[0] in {401, 422}
    assert auth.get("/me", headers=_bearer(alice.refresh)).status_code == 401


def test_a_refresh_token_of_the_wrong_type_is_refused(auth: httpx.Client, problem_of: Problem) -> None:
    assert problem_of(auth.post("/refresh", json={"refresh_token": 7})) == (422, "invalid_refresh_token")
    assert problem_of(auth.post("/refresh", json={})) == (422, "invalid_refresh_token")


def test_logout_ends_access_and_refresh_on_both_services(
    auth: httpx.Client, backend: httpx.Client, again: Person, problem_of: Problem
) -> None:
    assert backend.get("/threads", headers=again.headers).status_code == 200

    assert auth.post("/logout", headers=again.headers).status_code == 200

    assert problem_of(auth.get("/me", headers=again.headers)) == (401, "unauthorized")
    assert problem_of(backend.get("/threads", headers=again.headers)) == (401, "unauthorized")
    assert problem_of(_refresh(auth, again.refresh)) == INVALID
    assert problem_of(auth.post("/logout", headers=again.headers)) == (401, "unauthorized")


def test_logout_leaves_other_sessions_of_the_same_person_alone(
    auth: httpx.Client, alice: Person, again: Person
) -> None:
    auth.post("/logout", headers=again.headers)

    assert auth.get("/me", headers=alice.headers).status_code == 200


def test_logout_without_a_token_is_refused(auth: httpx.Client, problem_of: Problem) -> None:
    assert problem_of(auth.post("/logout")) == (401, "unauthorized")
