"""Requests to a running stack, as fast as one client, or a few, can send them."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from stackyard._util import process
from stackyard.errors import CommandError, NotReadyError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stackyard.bench.configuration import Accounts

CLIENTS: Final = 4  # connections of a load; more only wait for the container's one CPU
ROWS: Final = "CREATE TABLE IF NOT EXISTS bench (id integer PRIMARY KEY, value integer NOT NULL)"
FILL: Final = "INSERT INTO bench SELECT n, 0 FROM generate_series(1, 10000) AS n ON CONFLICT DO NOTHING"
WRITE: Final = "UPDATE bench SET value = value + 1 WHERE id = {id}"
READ: Final = "SELECT value FROM bench WHERE id = {id}"
PASSWORD: Final = "correct horse battery"  # noqa: S105 - of an account that lives as long as the stack
ANSWER_TIMEOUT_S: Final = 10.0  # seconds an answer may take


def database(url: str, folder: Path, seconds: float) -> tuple[str, float, float]:
    """
    Return the tool, and single-row updates and reads each second, in short transactions of four connections.

    Each of the two goes on for so many seconds; a script for pgbench is written to *folder*.

    Raises:
        CommandError: If pgbench is there but fails.
    """
    program = shutil.which("pgbench")
    asyncio.run(_prepare(url))
    if program is None:
        writes, reads = (asyncio.run(_queries(url, query, seconds)) for query in (WRITE, READ))
        return "an asyncpg loop", writes, reads
    writes, reads = (_pgbench(program, url, folder / "bench.sql", query, seconds) for query in (WRITE, READ))
    return "pgbench", writes, reads


async def _prepare(url: str) -> None:
    import asyncpg  # type: ignore[import-untyped]

    connection = await asyncpg.connect(url, timeout=ANSWER_TIMEOUT_S)
    try:
        await connection.execute(ROWS)
        await connection.execute(FILL)
    finally:
        await connection.close()


def _pgbench(program: str, url: str, script: Path, query: str, seconds: float) -> float:
    address = urlsplit(url)
    script.write_text(f"\\set id random(1, 10000)\n{query.format(id=':id')};\n", encoding="utf-8")
    words = [
        program, "--no-vacuum", "-f", str(script), "-T", str(max(1, round(seconds))), "-c", str(CLIENTS), "-j", "1",
        "-h", str(address.hostname), "-p", str(address.port), "-U", str(address.username), address.path.strip("/"),
    ]  # fmt: skip
    done = process.run(words, deadline=seconds + 30, env={"PGPASSWORD": str(address.password)})
    found = re.search(r"tps = ([0-9.]+)", done.stdout)
    if found is None:
        raise CommandError(words, 0, done.stdout)
    return float(found[1])


async def _queries(url: str, query: str, seconds: float) -> float:
    import asyncpg

    async with asyncpg.create_pool(url, min_size=CLIENTS, max_size=CLIENTS) as pool:

        async def one(client: int) -> int:
            async with pool.acquire() as connection:
                return await _until(seconds, lambda n: connection.execute(query.format(id=1 + (n + client) % 10000)))

        return sum(await asyncio.gather(*(one(1000 * client) for client in range(CLIENTS)))) / seconds


async def _until(seconds: float, ask: Callable[[int], Any]) -> int:
    """Ask again and again for so many seconds; return how often."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        await ask(count)
        count += 1
    return count


def store(url: str, seconds: float) -> float:
    """Return SET and GET commands each second, one at a time on each of four connections, by a loop of our own."""
    return asyncio.run(_commands(url, seconds))


async def _commands(url: str, seconds: float) -> float:
    from stackyard.probes.endpoints import Endpoint

    endpoint = Endpoint.parse(url, "redis")

    async def one(client: int) -> int:
        async with endpoint.connect() as (reader, writer):

            async def ask(*words: str) -> bytes:
                writer.write(resp(*words))
                head = await asyncio.wait_for(reader.readline(), ANSWER_TIMEOUT_S)
                if head.startswith(b"-"):
                    raise NotReadyError(endpoint.hide(f"redis refused {words[0]}: {head.decode().strip()}"))
                return await reader.readline() if head.startswith(b"$") else head

            await ask("AUTH", endpoint.user, endpoint.password)
            key = f"bench:{client}"
            return await _until(seconds, lambda n: ask("GET", key) if n % 2 else ask("SET", key, "x" * 64))

    return sum(await asyncio.gather(*map(one, range(CLIENTS)))) / seconds


def resp(*words: str) -> bytes:
    """Write one command in Redis's protocol."""
    parts = [f"*{len(words)}\r\n", *(f"${len(word.encode())}\r\n{word}\r\n" for word in words)]
    return "".join(parts).encode()


def requests(url: str, path: str, count: int) -> list[float]:
    """
    Return the seconds of each of *count* requests, one after another on one connection.

    Raises:
        NotReadyError: If one is not answered with 200.
    """
    with_host = urlsplit(url)
    connection = http.client.HTTPConnection(str(with_host.hostname), with_host.port, timeout=ANSWER_TIMEOUT_S)
    try:
        return [_request(connection, path) for _ in range(count)]
    finally:
        connection.close()


def _request(connection: http.client.HTTPConnection, path: str) -> float:
    began = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    took = time.perf_counter() - began
    if answer.status != http.client.OK:
        raise NotReadyError(f"GET {path} must be answered with 200, got {answer.status}")
    return took


def messages(url: str, count: int, *, token: str = "", greeting: str = "") -> list[float]:
    """
    Return the seconds of each of *count* WebSocket messages and its answer, one after another.

    Raises:
        NotReadyError: If the service does not greet the user.
    """
    from websockets.sync.client import connect
    from websockets.typing import Origin

    origin = Origin(f"http://{urlsplit(url).netloc}")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    taken = []
    with connect(
        url, origin=origin, additional_headers=headers, compression=None, proxy=None, open_timeout=ANSWER_TIMEOUT_S
    ) as line:
        if greeting and greeting not in (first := str(line.recv(timeout=ANSWER_TIMEOUT_S))):
            raise NotReadyError(f"the WebSocket must greet its user first, got {first[:60]!r}")
        for _ in range(count):
            began = time.perf_counter()
            line.send('{"type":"ping"}')
            line.recv(timeout=ANSWER_TIMEOUT_S)
            taken.append(time.perf_counter() - began)
    return taken


def logins(url: str, accounts: Accounts, seconds: float) -> float:
    """
    Return logins each second, four at a time, of four accounts made for it.

    Raises:
        NotReadyError: If an account or a login is refused.
    """
    with ThreadPoolExecutor(max_workers=CLIENTS) as pool:
        return (
            sum(pool.map(lambda client: _logins(url, accounts, f"bench-{client}", seconds), range(CLIENTS))) / seconds
        )


def token(url: str, accounts: Accounts, name: str) -> str:
    """
    Make an account, log it in and return its token.

    Raises:
        NotReadyError: If the account or its login is refused.
    """
    account = {"name": name, "password": PASSWORD}
    _post(url, accounts.register, account, http.client.CREATED)
    return str(_post(url, accounts.login, account, http.client.OK).get(accounts.token, ""))


def _logins(url: str, accounts: Accounts, name: str, seconds: float) -> int:
    account = {"name": name, "password": PASSWORD}
    _post(url, accounts.register, account, http.client.CREATED)
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        _post(url, accounts.login, account, http.client.OK)
        count += 1
    return count


def _post(url: str, path: str, content: dict[str, str], wanted: int) -> dict[str, Any]:
    """Return the answer's fields."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=ANSWER_TIMEOUT_S)
    try:
        connection.request("POST", path, json.dumps(content), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != wanted:
        raise NotReadyError(f"POST {path} must be answered with {wanted}, got {answer.status}")
    fields: dict[str, Any] = json.loads(body)
    return fields
