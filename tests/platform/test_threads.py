from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from tests.platform.conftest import Crowd, Person

    Problem = Callable[[httpx.Response], tuple[int, str]]

NOT_FOUND = (404, "not_found")
FORBIDDEN = (403, "forbidden")


def test_a_thread_is_created_read_renamed_and_deleted(
    backend: httpx.Client, alice: Person, problem_of: Problem
) -> None:
    created = backend.post("/threads", json={"title": "first"}, headers=alice.headers)
    assert created.status_code == 201
    assert (created.json()["owner"], created.json()["shared"]) == (alice.id, False)
    path = f"/threads/{created.json()['id']}"

    assert backend.get(path, headers=alice.headers).json() == created.json()
    renamed = backend.patch(path, json={"title": "second ☃"}, headers=alice.headers)
    assert renamed.json() == created.json() | {"title": "second ☃"}
    assert backend.get(path, headers=alice.headers).json() == renamed.json()
    assert backend.delete(path, headers=alice.headers).status_code == 204
    assert problem_of(backend.get(path, headers=alice.headers)) == NOT_FOUND
    assert problem_of(backend.delete(path, headers=alice.headers)) == NOT_FOUND


def test_threads_are_listed_page_by_page_and_each_once(
    backend: httpx.Client, crowd: Crowd, new_thread: Callable[..., str]
) -> None:
    reader = crowd["reader"]
    made = [new_thread(reader) for _ in range(5)]

    seen: list[str] = []
    after: int | None = 0
    while after is not None:
        page = backend.get("/threads", params={"limit": 2, "after": after}, headers=reader.headers).json()
        seen += [thread["id"] for thread in page["threads"]]
        after = page["next"]

    assert seen[-5:] == made
    assert len(seen) == len(set(seen))


def test_a_private_thread_does_not_exist_for_others(
    backend: httpx.Client, alice: Person, bob: Person, new_thread: Callable[..., str], problem_of: Problem
) -> None:
    path = f"/threads/{new_thread(alice)}"

    assert problem_of(backend.get(path, headers=bob.headers)) == NOT_FOUND
    assert problem_of(backend.patch(path, json={"title": "mine"}, headers=bob.headers)) == NOT_FOUND
    assert problem_of(backend.delete(path, headers=bob.headers)) == NOT_FOUND
    assert problem_of(backend.get(f"{path}/messages", headers=bob.headers)) == NOT_FOUND
    assert problem_of(backend.post(f"{path}/messages", json={"body": "hi"}, headers=bob.headers)) == NOT_FOUND
    listed = backend.get("/threads", headers=bob.headers).json()["threads"]
    assert all(thread["owner"] == bob.id for thread in listed)


def test_a_refusal_does_not_tell_a_private_thread_from_a_missing_one(
    backend: httpx.Client, alice: Person, bob: Person, new_thread: Callable[..., str]
) -> None:
    private = backend.get(f"/threads/{new_thread(alice)}", headers=bob.headers)
    missing = backend.get(f"/threads/{uuid.uuid4()}", headers=bob.headers)

    assert private.content == missing.content


def test_a_shared_thread_is_read_by_all_and_ruled_by_its_owner(
    backend: httpx.Client, alice: Person, bob: Person, new_thread: Callable[..., str], problem_of: Problem
) -> None:
    path = f"/threads/{new_thread(alice, shared=True)}"

    assert backend.get(path, headers=bob.headers).status_code == 200
    assert problem_of(backend.patch(path, json={"title": "mine"}, headers=bob.headers)) == FORBIDDEN
    assert problem_of(backend.delete(path, headers=bob.headers)) == FORBIDDEN
    assert backend.get(path, headers=alice.headers).json()["title"] == "a thread"


@pytest.mark.parametrize("title", ["", "x" * 201, 7, None, "nul \x00", ["x"]])
def test_a_bad_title_is_refused(backend: httpx.Client, alice: Person, problem_of: Problem, title: object) -> None:
    answer = backend.post("/threads", json={"title": title}, headers=alice.headers)

    assert problem_of(answer) == (422, "invalid_title")


def test_shared_must_be_true_or_false(backend: httpx.Client, alice: Person, problem_of: Problem) -> None:
    answer = backend.post("/threads", json={"title": "x", "shared": "yes"}, headers=alice.headers)

    assert problem_of(answer) == (422, "invalid_shared")


@pytest.mark.parametrize(
    ("name", "value"),
    [("limit", "0"), ("limit", "101"), ("limit", "ten"), ("after", "-1"), ("after", "9" * 30), ("after", "²")],
)
def test_bad_paging_is_refused(
    backend: httpx.Client, alice: Person, problem_of: Problem, name: str, value: str
) -> None:
    answer = backend.get("/threads", params={name: value}, headers=alice.headers)

    assert problem_of(answer) == (422, f"invalid_{name}")


@pytest.mark.parametrize("id_", ["1", "x", "%27%20OR%201=1", "../me"])
def test_an_id_that_is_none_is_not_found(backend: httpx.Client, alice: Person, problem_of: Problem, id_: str) -> None:
    assert problem_of(backend.get(f"/threads/{id_}", headers=alice.headers)) == NOT_FOUND


def test_titles_are_data_and_never_sql(backend: httpx.Client, alice: Person) -> None:
    title = "x'); DROP TABLE messages; --"

    created = backend.post("/threads", json={"title": title}, headers=alice.headers)

    assert created.json()["title"] == title
    assert backend.get("/readyz").status_code == 200
