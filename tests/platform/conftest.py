"""
What every test of the platform starts from.

The platform is reached through STACKYARD_* variables alone. People are registered once and shared; a test that restarts
PostgreSQL, whose data may be gone then, tells the crowd, and the next test that needs a person registers them again.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import threading
import time
import uuid
import warnings
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import httpx
import jwt
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_sync
from websockets.typing import Origin

from stackyard._util.process import run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

TIMEOUT_S = 30.0  # seconds until a missing event is a failure
HELP = "run the tests through `./noxw -s test`, or set what docs/platform.md lists under Tests"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """Where the platform is and what it signs with; each field's metadata names its variable."""

    postgres: str = field(metadata={"variable": "STACKYARD_POSTGRES_URL"}, repr=False)
    redis: str = field(metadata={"variable": "STACKYARD_REDIS_URL"}, repr=False)
    auth: str = field(metadata={"variable": "STACKYARD_AUTH_URL"})
    backend: str = field(metadata={"variable": "STACKYARD_BACKEND_URL"})
    websocket: str = field(metadata={"variable": "STACKYARD_WEBSOCKET_URL"})
    key: str = field(metadata={"variable": "STACKYARD_JWT_KEY"}, repr=False)
    issuer: str = field(metadata={"variable": "STACKYARD_JWT_ISSUER"})
    audience: str = field(metadata={"variable": "STACKYARD_JWT_AUDIENCE"})
    origin: str = field(metadata={"variable": "STACKYARD_ALLOWED_ORIGIN"})

    @classmethod
    def load(cls) -> Stack:
        return cls(**{item.name: variable(item.metadata["variable"]) for item in fields(cls)})

    def token(self, **changes: Any) -> str:
        """Sign a token as the auth service would; *changes* replace claims, None leaves one out, `key` the key."""
        key, algorithm = changes.pop("key", self.key), changes.pop("algorithm", "HS256")
        now = int(time.time())
        claims = {
            "aud": self.audience, "iss": self.issuer, "iat": now, "exp": now + 300,
            "sub": str(uuid.uuid4()), "jti": str(uuid.uuid4()), "sid": str(uuid.uuid4()),
        } | changes  # fmt: skip
        with warnings.catch_warnings():
            # Too short a key for HS512 is no concern of a forger.
            warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)
            return jwt.encode({k: v for k, v in claims.items() if v is not None}, key, algorithm=algorithm)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A registered user with one session."""

    name: str
    password: str
    id: str
    access: str
    refresh: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.access}"}


class Crowd:
    """The people of this run, each registered when first needed."""

    def __init__(self, auth: httpx.Client) -> None:
        self._auth = auth
        self._people: dict[str, Person] = {}

    def __getitem__(self, role: str) -> Person:
        if role not in self._people:
            self._people[role] = self.join(role)
        return self._people[role]

    def forget(self) -> None:
        self._people.clear()

    def join(self, role: str) -> Person:
        """Register someone new; the name is unique, because the stack may have been used before."""
        account = {"name": f"{role}-{secrets.token_hex(6)}", "password": secrets.token_urlsafe(12)}
        answer = self._auth.post("/register", json=account)
        assert answer.status_code == 201, answer.text
        return self.login(Person(**account, id=answer.json()["id"], access="", refresh=""))

    def login(self, person: Person) -> Person:
        """Begin one more session of *person*."""
        answer = self._auth.post("/login", json={"name": person.name, "password": person.password})
        assert answer.status_code == 200, answer.text
        found = answer.json()
        return Person(
            name=person.name, password=person.password, id=person.id,
            access=found["access_token"], refresh=found["refresh_token"],
        )  # fmt: skip


class Line:
    """A WebSocket that speaks JSON and never waits longer than a few seconds."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, **message: Any) -> None:
        await self.connection.send(json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        async with deadline():
            found: dict[str, Any] = json.loads(await self.connection.recv())
            return found

    async def ask(self, **message: Any) -> dict[str, Any]:
        await self.send(**message)
        return await self.hear()

    async def ended(self) -> tuple[int | None, str | None]:
        """Return close code and reason, once the server has closed."""
        try:
            async with deadline():
                while True:
                    await self.connection.recv()
        except ConnectionClosed:
            return self.connection.close_code, self.connection.close_reason


def deadline() -> Any:
    import asyncio

    return asyncio.timeout(TIMEOUT_S)


def variable(name: str) -> str:
    """Return a variable, or end the whole run: without it every test would fail for one and the same reason."""
    value = os.environ.get(name, "")
    if not value:
        pytest.exit(f"{name} is not set: {HELP}", returncode=4)
    return value


@pytest.fixture(scope="session")
def stack() -> Stack:
    return Stack.load()


@pytest.fixture(scope="session")
def auth(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.auth, timeout=TIMEOUT_S, trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def backend(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.backend, timeout=TIMEOUT_S, trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def crowd(auth: httpx.Client) -> Crowd:
    return Crowd(auth)


@pytest.fixture
def alice(crowd: Crowd) -> Person:
    return crowd["alice"]


@pytest.fixture
def bob(crowd: Crowd) -> Person:
    return crowd["bob"]


@pytest.fixture
def again(crowd: Crowd, alice: Person) -> Person:
    """One more session of alice, for tests that end it."""
    return crowd.login(alice)


@pytest.fixture
def new_thread(backend: httpx.Client) -> Callable[..., str]:
    def create(owner: Person, *, shared: bool = False) -> str:
        answer = backend.post("/threads", json={"title": "a thread", "shared": shared}, headers=owner.headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    return create


@pytest.fixture
def write(backend: httpx.Client) -> Callable[[Person, str, str], int]:
    def create(author: Person, thread: str, body: str) -> int:
        answer = backend.post(f"/threads/{thread}/messages", json={"body": body}, headers=author.headers)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    return create


@pytest.fixture
def logout(auth: httpx.Client) -> Callable[[Person], None]:
    def end(person: Person) -> None:
        answer = auth.post("/logout", headers=person.headers)
        assert answer.status_code == 200, answer.text

    return end


@pytest.fixture
def dial(stack: Stack) -> Callable[..., Any]:
    """Open a WebSocket; with a token, its greeting is already heard."""

    @asynccontextmanager
    async def open_line(token: str | None = None, *, origin: str | None = None, **more: Any) -> AsyncIterator[Line]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        options = {"compression": None, "proxy": None, "additional_headers": headers} | more
        async with connect(stack.websocket, origin=None if origin is None else Origin(origin), **options) as connection:
            line = Line(connection)
            if token:
                assert (await line.hear())["type"] == "authenticated"
            yield line

    return open_line


@pytest.fixture(scope="session")
def silence(stack: Stack) -> Iterator[Callable[[], tuple[int | None, float]]]:
    """Hold a connection that never says who it is; the call returns its close code and how many seconds it lasted."""
    result: list[tuple[int | None, float]] = []

    def listen() -> None:
        start = time.monotonic()
        with connect_sync(stack.websocket, origin=Origin(stack.origin), compression=None, proxy=None) as connection:
            with suppress(ConnectionClosed, TimeoutError):
                connection.recv(timeout=60)
            result.append((connection.close_code, time.monotonic() - start))

    def outcome() -> tuple[int | None, float]:
        listener.join(60)
        return result[0]

    listener = threading.Thread(target=listen)
    listener.start()
    yield outcome
    listener.join(60)


@pytest.fixture(scope="session", autouse=True)
def _silence_at_once(request: pytest.FixtureRequest) -> None:
    """Begin the one long wait with the first test; the others run meanwhile."""
    if any("silence" in item.fixturenames for item in request.session.items if isinstance(item, pytest.Function)):
        request.getfixturevalue("silence")


@pytest.fixture(scope="session")
def restart(crowd: Crowd, auth: httpx.Client, backend: httpx.Client) -> Callable[[str], None]:
    """Restart one service's container and return when the platform is ready again."""
    command = shlex.split(variable("STACKYARD_RESTART_COMMAND"))

    def perform(service: str) -> None:
        run([*command, service], deadline=120)
        crowd.forget()
        for client in (auth, backend):
            await_ready(client)

    return perform


@pytest.fixture(scope="session")
def problem_of() -> Callable[[httpx.Response], tuple[int, str]]:
    """Return status and code of an error answer, and hold it to the shape all errors share."""

    def read(answer: httpx.Response) -> tuple[int, str]:
        assert answer.headers["content-type"] == "application/json", answer.text
        assert set(answer.json()) == {"error"}, answer.text
        error = answer.json()["error"]
        assert set(error) == {"code", "message"}, answer.text
        assert not re.search(r"Traceback|File \"|asyncpg|psycopg|password=", answer.text), answer.text
        return answer.status_code, error["code"]

    return read


def await_ready(client: httpx.Client) -> None:
    end = time.monotonic() + 60
    while (answer := client.get("/readyz")).status_code != 200:
        assert time.monotonic() < end, f"{client.base_url} is not ready 60 s after the restart: {answer.text}"
        time.sleep(0.02)
