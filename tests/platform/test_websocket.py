from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    import httpx
    from tests.platform.conftest import Line, Person, Stack

    Dial = Callable[..., AbstractAsyncContextManager[Line]]
    NewThread = Callable[..., str]
    Logout = Callable[[Person], None]
    Write = Callable[[Person, str, str], int]


async def _refusal(dial: Dial, *args: Any, **kwargs: Any) -> tuple[int, str]:
    """Return status and code of a handshake that must fail."""
    with pytest.raises(InvalidStatus) as caught:
        async with dial(*args, **kwargs):
            pass
    response = caught.value.response
    return response.status_code, json.loads(response.body)["error"]["code"]


async def test_a_probe_pings_without_saying_who_it_is(stack: Stack, dial: Dial) -> None:
    async with dial(origin=stack.origin) as line:
        assert await line.ask(type="ping") == {"type": "pong"}
        assert await line.ask(type="ping") == {"type": "pong"}


@pytest.mark.parametrize(
    "twist",
    [
        pytest.param("{origin}.evil", id="suffix"),
        pytest.param("https://good.example.evil", id="foreign"),
        pytest.param("http://evil.example/?{origin}", id="in-the-query"),
        pytest.param("http://evil@{host}", id="user-part"),
        pytest.param("https://{host}", id="other-scheme"),
        pytest.param("{origin}/", id="trailing-slash"),
        pytest.param("{origin}1", id="longer-port"),
        pytest.param("{host}", id="no-scheme"),
        pytest.param("null", id="null"),
        pytest.param("*", id="star"),
        pytest.param("{origin}, {origin}", id="twice-in-one"),
        pytest.param("", id="empty"),
    ],
)
async def test_an_origin_that_is_not_on_the_list_letter_by_letter_is_refused(
    stack: Stack, dial: Dial, alice: Person, twist: str
) -> None:
    origin = twist.format(origin=stack.origin, host=stack.origin.partition("//")[2])
    headers = {"Authorization": f"Bearer {alice.access}", "Origin": origin}

    assert await _refusal(dial, additional_headers=headers) == (403, "origin_not_allowed")


async def test_two_origins_are_refused_though_one_is_allowed(stack: Stack, dial: Dial, alice: Person) -> None:
    headers = [("Origin", stack.origin), ("Origin", "http://evil.example"), *alice.headers.items()]

    with pytest.raises(InvalidStatus) as refused:
        await dial(additional_headers=headers).__aenter__()
    assert refused.value.response.status_code == 400


async def test_a_missing_origin_is_refused_without_a_token(dial: Dial) -> None:
    assert await _refusal(dial) == (403, "origin_not_allowed")


async def test_a_missing_origin_is_allowed_with_a_bearer_token(dial: Dial, alice: Person) -> None:
    async with dial(alice.access) as line:
        assert await line.ask(type="echo", payload=[1, "two", None]) == {"type": "echo", "payload": [1, "two", None]}


async def test_a_bad_token_in_the_header_is_refused_before_the_handshake(stack: Stack, dial: Dial) -> None:
    assert await _refusal(dial, stack.token(key="k" * 43), origin=stack.origin) == (401, "unauthorized")


async def test_the_first_message_may_carry_the_token(stack: Stack, dial: Dial, alice: Person) -> None:
    async with dial(origin=stack.origin) as line:
        greeting = await line.ask(type="authenticate", token=alice.access)

        assert (greeting["type"], greeting["user"]) == ("authenticated", alice.id)
        assert (await line.ask(type="echo", payload="x"))["payload"] == "x"


@pytest.mark.parametrize("token", ["", "rubbish", "a" * 60_000, "foreign-audience"])
async def test_a_bad_token_in_the_first_message_closes_with_1008(stack: Stack, dial: Dial, token: str) -> None:
    if token == "foreign-audience":
        token = stack.token(aud=token)
    async with dial(origin=stack.origin) as line:
        await line.send(type="authenticate", token=token)

        assert await line.ended() == (1008, "unauthorized")


async def test_a_token_in_the_query_string_counts_for_nothing(stack: Stack, alice: Person) -> None:
    for name in ("token", "access_token"):
        url = f"{stack.websocket}?{name}={alice.access}"
        async with connect(url, origin=Origin(stack.origin), proxy=None) as connection:
            await connection.send('{"type": "echo", "payload": "x"}')
            with pytest.raises(ConnectionClosed):
                await connection.recv()
            assert (connection.close_code, connection.close_reason) == (1008, "authenticate first")


async def test_two_clients_of_different_users_hear_a_new_message_of_a_shared_thread(
    stack: Stack, dial: Dial, alice: Person, bob: Person, new_thread: NewThread, write: Write
) -> None:
    thread = new_thread(alice, shared=True)
    async with dial(alice.access) as one, dial(bob.access, origin=stack.origin) as two:
        for line in (one, two):
            assert await line.ask(type="subscribe", thread=thread) == {"type": "subscribed", "thread": thread}

        number = await asyncio.to_thread(write, bob, thread, "to all")

        heard = [await one.hear(), await two.hear()]
        assert heard[0] == heard[1]
        assert (heard[0]["type"], heard[0]["thread"]) == ("message", thread)
        assert (heard[0]["message"]["id"], heard[0]["message"]["body"]) == (number, "to all")


async def test_a_change_and_the_end_of_a_thread_are_reported_too(
    backend: httpx.Client, dial: Dial, alice: Person, new_thread: NewThread, write: Write
) -> None:
    thread = new_thread(alice)
    path = f"/threads/{thread}/messages/{write(alice, thread, 'one')}"
    async with dial(alice.access) as line:
        await line.ask(type="subscribe", thread=thread)

        for method, target in (("PATCH", path), ("DELETE", path), ("DELETE", f"/threads/{thread}")):
            await asyncio.to_thread(backend.request, method, target, json={"body": "two"}, headers=alice.headers)

        assert [(await line.hear())["type"] for _ in range(3)] == ["edited", "deleted", "ended"]


async def test_messages_arrive_in_order_and_none_is_lost(
    dial: Dial, alice: Person, new_thread: NewThread, write: Write
) -> None:
    thread = new_thread(alice)
    async with dial(alice.access) as line:
        await line.ask(type="subscribe", thread=thread)

        for number in range(20):
            write(alice, thread, str(number))

        assert [(await line.hear())["message"]["body"] for _ in range(20)] == [str(n) for n in range(20)]


async def test_another_users_private_thread_cannot_be_followed(
    dial: Dial, alice: Person, bob: Person, new_thread: NewThread, write: Write
) -> None:
    thread = new_thread(alice)
    async with dial(bob.access) as line:
        answers = [await line.ask(type="subscribe", thread=id_) for id_ in (thread, str(uuid.uuid4()), "no id")]
        write(alice, thread, "secret")

        assert [answer["error"]["code"] for answer in answers] == ["not_found"] * 3
        assert await line.ask(type="ping") == {"type": "pong"}


async def test_after_unsubscribing_nothing_more_comes(
    dial: Dial, alice: Person, new_thread: NewThread, write: Write
) -> None:
    thread = new_thread(alice)
    async with dial(alice.access) as line:
        await line.ask(type="subscribe", thread=thread)
        assert (await line.ask(type="unsubscribe", thread=thread))["type"] == "unsubscribed"

        write(alice, thread, "unheard")

        assert await line.ask(type="ping") == {"type": "pong"}


@pytest.mark.parametrize(
    "text",
    [
        "rubbish", "[]", "{}", '{"type": 7}', '{"type": "dance"}', '{"type": "echo"}', '{"type": "subscribe"}',
        '{"type": "subscribe", "thread": 7}', '{"type": "authenticate", "token": 7}', "[" * 9000,
    ],
)  # fmt: skip
async def test_a_message_against_the_schema_is_answered_with_an_error(dial: Dial, alice: Person, text: str) -> None:
    async with dial(alice.access) as line:
        await line.connection.send(text)

        assert (await line.hear())["error"]["code"] == "bad_message"
        assert await line.ask(type="ping") == {"type": "pong"}


async def test_a_binary_message_closes_with_1003(dial: Dial, alice: Person) -> None:
    async with dial(alice.access) as line:
        await line.connection.send(b"binary")

        assert (await line.ended())[0] == 1003


async def test_a_message_of_64_kib_is_answered_and_one_byte_more_closes_with_1009(dial: Dial, alice: Person) -> None:
    frame = len(json.dumps({"type": "echo", "payload": ""}))
    async with dial(alice.access) as line:
        payload = "x" * (64 * 1024 - frame)
        assert (await line.ask(type="echo", payload=payload))["payload"] == payload

        await line.send(type="echo", payload=payload + "x")

        assert (await line.ended())[0] == 1009


async def test_an_unauthenticated_client_is_limited_to_64_kib_too(stack: Stack, dial: Dial) -> None:
    async with dial(origin=stack.origin) as line:
        await line.connection.send("x" * (64 * 1024 + 1))

        assert (await line.ended())[0] == 1009


async def test_an_open_socket_closes_with_1008_when_its_token_expires(stack: Stack, dial: Dial) -> None:
    expires = int(time.time()) + 4
    async with dial(stack.token(exp=expires)) as line:
        assert await line.ended() == (1008, "token expired")
    assert time.time() >= expires


async def test_a_fresh_token_prolongs_an_open_socket_but_not_for_another_user(
    stack: Stack, dial: Dial, alice: Person, bob: Person
) -> None:
    short = stack.token(sub=alice.id, exp=int(time.time()) + 20)
    async with dial(short) as line:
        prolonged = await line.ask(type="authenticate", token=alice.access)
        assert prolonged["expires"] > time.time() + 60

        await line.send(type="authenticate", token=bob.access)
        assert (await line.ended())[0] == 1008


async def test_logout_closes_the_open_sockets_of_that_session_and_no_others(
    logout: Logout, dial: Dial, alice: Person, again: Person
) -> None:
    async with dial(alice.access) as other, dial(again.access) as line:
        logout(again)

        assert await line.ended() == (1008, "token revoked")
        assert await other.ask(type="ping") == {"type": "pong"}


async def test_a_revoked_token_opens_no_new_socket(stack: Stack, logout: Logout, dial: Dial, again: Person) -> None:
    logout(again)

    assert await _refusal(dial, again.access) == (401, "unauthorized")
    async with dial(origin=stack.origin) as line:
        await line.send(type="authenticate", token=again.access)
        assert await line.ended() == (1008, "unauthorized")


async def test_one_user_may_hold_only_so_many_connections_and_gets_them_back(stack: Stack, dial: Dial) -> None:
    token = stack.token()
    async with contextlib.AsyncExitStack() as held:
        with pytest.raises(InvalidStatus) as refused:  # noqa: PT012 - which attempt fails is the service's choice
            while True:
                await held.enter_async_context(dial(token))
        assert refused.value.response.status_code == 429
        async with dial(stack.token()) as other:
            assert await other.ask(type="ping") == {"type": "pong"}

    await _connects(dial, token)


async def test_compression_is_not_offered_back(dial: Dial, alice: Person) -> None:
    async with dial(alice.access, compression="deflate") as line:
        assert line.connection.response is not None
        assert "Sec-WebSocket-Extensions" not in line.connection.response.headers


async def test_a_client_that_does_not_read_is_dropped_and_gives_its_place_back(stack: Stack, dial: Dial) -> None:
    where = urlsplit(stack.websocket)
    raw = socket.create_connection((where.hostname, where.port))
    raw.settimeout(0)
    token = stack.token()
    async with dial(token, sock=raw, max_queue=1, ping_interval=None) as deaf, contextlib.AsyncExitStack() as held:
        with pytest.raises(InvalidStatus):  # noqa: PT012 - as above
            while True:
                await held.enter_async_context(dial(token))

        flood = asyncio.create_task(_flood(deaf))

        # A proxy between may hide from the client that it was dropped, so ask the service: has the user room again?
        await _connects(dial, token)
        flood.cancel()
        deaf.connection.transport.abort()


async def _connects(dial: Dial, token: str) -> None:
    """Return as soon as one more connection of the token's user is accepted."""
    async with asyncio.timeout(25):  # less than the 30 s after which the server cuts any connection that takes no data
        while True:
            with contextlib.suppress(InvalidStatus):
                async with dial(token) as line:
                    assert await line.ask(type="ping") == {"type": "pong"}
                    return


async def _flood(line: Line) -> None:
    """Ask for echoes and read none, until the server has had enough."""
    message = json.dumps({"type": "echo", "payload": "x" * 60_000})
    with contextlib.suppress(ConnectionClosed):
        while True:
            await line.connection.send(message)
            await asyncio.sleep(0)


def test_a_client_that_never_says_who_it_is_is_closed_after_three_seconds(
    silence: Callable[[], tuple[int | None, float]],
) -> None:
    code, seconds = silence()

    assert code == 1008
    assert 2.5 < seconds < 20  # on a busy host
