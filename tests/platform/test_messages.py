from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx
    from tests.platform.conftest import Person

    Problem = Callable[[httpx.Response], tuple[int, str]]
    NewThread = Callable[..., str]
    Write = Callable[[Person, str, str], int]


def _page(backend: httpx.Client, reader: Person, thread: str, **params: Any) -> tuple[list[str], str]:
    """Return the texts of one page and whether it was a hit or a miss."""
    answer = backend.get(f"/threads/{thread}/messages", params=params, headers=reader.headers)
    assert answer.status_code == 200, answer.text
    return [message["body"] for message in answer.json()["messages"]], answer.headers["x-cache"]


def test_a_message_is_written_read_changed_and_deleted(
    backend: httpx.Client, alice: Person, new_thread: NewThread, write: Write, problem_of: Problem
) -> None:
    thread = new_thread(alice)
    path = f"/threads/{thread}/messages/{write(alice, thread, 'hello')}"

    found = backend.get(path, headers=alice.headers).json()
    assert (found["thread"], found["author"], found["body"]) == (thread, alice.id, "hello")
    changed = backend.patch(path, json={"body": "good bye"}, headers=alice.headers)
    assert changed.json() == found | {"body": "good bye"}
    assert backend.delete(path, headers=alice.headers).status_code == 204
    assert problem_of(backend.get(path, headers=alice.headers)) == (404, "not_found")


def test_messages_come_page_by_page_in_the_order_they_were_written(
    backend: httpx.Client, alice: Person, new_thread: NewThread, write: Write
) -> None:
    thread = new_thread(alice)
    ids = [write(alice, thread, f"message {number}") for number in range(3)]

    assert _page(backend, alice, thread, limit=2)[0] == ["message 0", "message 1"]
    assert _page(backend, alice, thread, limit=2, after=ids[1])[0] == ["message 2"]


def test_a_page_read_twice_comes_from_the_cache(
    backend: httpx.Client, alice: Person, new_thread: NewThread, write: Write
) -> None:
    thread = new_thread(alice)
    write(alice, thread, "one")

    assert _page(backend, alice, thread) == (["one"], "miss")
    assert _page(backend, alice, thread) == (["one"], "hit")
    assert _page(backend, alice, thread, limit=1) == (["one"], "miss")


def test_every_change_makes_the_cached_pages_worthless(
    backend: httpx.Client, alice: Person, new_thread: NewThread, write: Write
) -> None:
    thread = new_thread(alice)
    assert _page(backend, alice, thread) == ([], "miss")

    path = f"/threads/{thread}/messages/{write(alice, thread, 'one')}"
    assert _page(backend, alice, thread) == (["one"], "miss")
    backend.patch(path, json={"body": "two"}, headers=alice.headers)
    assert _page(backend, alice, thread) == (["two"], "miss")
    backend.delete(path, headers=alice.headers)
    assert _page(backend, alice, thread) == ([], "miss")


def test_each_writer_reads_what_they_wrote(
    backend: httpx.Client, alice: Person, bob: Person, new_thread: NewThread, write: Write
) -> None:
    thread = new_thread(alice, shared=True)
    written: list[str] = []

    for number in range(10):
        author, reader = (alice, bob) if number % 2 else (bob, alice)
        written.append(f"{number}")
        write(author, thread, f"{number}")
        assert _page(backend, reader, thread)[0] == written


def test_the_cache_does_not_let_a_stranger_in(
    backend: httpx.Client, alice: Person, bob: Person, new_thread: NewThread, problem_of: Problem
) -> None:
    thread = new_thread(alice)
    _page(backend, alice, thread)
    assert _page(backend, alice, thread)[1] == "hit"

    answer = backend.get(f"/threads/{thread}/messages", headers=bob.headers)

    assert problem_of(answer) == (404, "not_found")


def test_a_message_is_changed_by_its_author_alone_and_deleted_by_author_or_owner(
    backend: httpx.Client, alice: Person, bob: Person, new_thread: NewThread, write: Write, problem_of: Problem
) -> None:
    thread = new_thread(alice, shared=True)
    of_alice = f"/threads/{thread}/messages/{write(alice, thread, 'mine')}"
    of_bob = f"/threads/{thread}/messages/{write(bob, thread, 'his')}"

    assert problem_of(backend.patch(of_alice, json={"body": "x"}, headers=bob.headers)) == (403, "forbidden")
    assert problem_of(backend.delete(of_alice, headers=bob.headers)) == (403, "forbidden")
    assert problem_of(backend.patch(of_bob, json={"body": "x"}, headers=alice.headers)) == (403, "forbidden")
    assert backend.delete(of_bob, headers=alice.headers).status_code == 204


def test_a_message_is_not_found_in_another_thread(
    backend: httpx.Client, alice: Person, new_thread: NewThread, write: Write, problem_of: Problem
) -> None:
    number = write(alice, new_thread(alice), "here")

    answer = backend.get(f"/threads/{new_thread(alice)}/messages/{number}", headers=alice.headers)

    assert problem_of(answer) == (404, "not_found")


def test_a_message_number_beyond_all_bounds_is_not_found(
    backend: httpx.Client, alice: Person, new_thread: NewThread, problem_of: Problem
) -> None:
    answer = backend.get(f"/threads/{new_thread(alice)}/messages/{'9' * 40}", headers=alice.headers)

    assert problem_of(answer) == (404, "not_found")


@pytest.mark.parametrize("body", ["", "x" * 4001, 7, None, "nul \x00"])
def test_a_bad_text_is_refused_and_changes_nothing(
    backend: httpx.Client, alice: Person, new_thread: NewThread, problem_of: Problem, body: object
) -> None:
    thread = new_thread(alice)

    answer = backend.post(f"/threads/{thread}/messages", json={"body": body}, headers=alice.headers)

    assert problem_of(answer) == (422, "invalid_body")
    assert _page(backend, alice, thread)[0] == []


def test_deleting_a_thread_takes_its_messages_along(
    backend: httpx.Client, alice: Person, new_thread: NewThread, write: Write, problem_of: Problem
) -> None:
    thread = new_thread(alice)
    path = f"/threads/{thread}/messages/{write(alice, thread, 'gone soon')}"
    _page(backend, alice, thread)

    backend.delete(f"/threads/{thread}", headers=alice.headers)

    assert problem_of(backend.get(path, headers=alice.headers)) == (404, "not_found")
    assert problem_of(backend.get(f"/threads/{thread}/messages", headers=alice.headers)) == (404, "not_found")


def test_a_body_over_16_kib_is_refused(
    backend: httpx.Client, alice: Person, new_thread: NewThread, problem_of: Problem
) -> None:
    answer = backend.post(
        f"/threads/{new_thread(alice)}/messages", json={"body": "x" * 16 * 1024}, headers=alice.headers
    )

    assert problem_of(answer) == (413, "too_large")
