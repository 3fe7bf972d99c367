"""
Which machine has which ports and subnets of an engine that several use: the shared part of their lease books.

A claim is a container on that engine which never runs. The engine gives a container's name to one of two that ask at
the same time, so a port or a subnet belongs to the lease whose claim has its name. The labels of a claim say whose it
is and for how long. Age and time are the engine's own, because the clocks of two machines differ.
"""

from __future__ import annotations

import email.utils
import getpass
import io
import json
import math
import os
import secrets
import socket
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stackyard.docker.engine import API_VERSION, each, plain_errors
from stackyard.docker.json_fields import Part
from stackyard.docker.records import Resource
from stackyard.errors import EngineError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackyard.docker import Engine
    from stackyard.leases import Lease

CLAIM: Final = "stackyard.claim"  # label of every claim; its value is the id of the lease book
IMAGE: Final = "stackyard/claim:1"  # without any file, because a claim never runs
LABELS: Final = ("lease", "environment", "owner", "port", "subnet", "seconds")
FOREVER: Final = 0  # seconds of a claim that does not end


class ClaimedError(EngineError):
    """Another lease has a port or a subnet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """
    One claim.

    Attributes:
        thing: Its container.
        book: Id of the lease book, ``Settings.host``.
        lease: Id of the lease.
        environment: What the lease is for.
        owner: User, host and process that made it.
        port: The port; None for another claim.
        subnet: The subnet; empty for another claim.
        end: When it ends, in the engine's seconds since 1970; infinity: never.
    """

    thing: Resource
    book: str
    lease: str
    environment: str
    owner: str
    port: int | None
    subnet: str
    end: float

    @classmethod
    def read(cls, row: Part) -> Claim:
        """Return the claim of a listed container."""
        labels, identity = row.get("Labels").texts(), row.text("Id")
        words = {name: labels.get(f"{CLAIM}.{name}", "") for name in LABELS}
        seconds = int(words["seconds"]) if words["seconds"].isdecimal() else 0
        return cls(
            thing=Resource(kind="container", id=identity, name=row.get("Names").words()[0].lstrip("/"), labels=labels),
            book=labels.get(CLAIM, ""), lease=words["lease"], environment=words["environment"], owner=words["owner"],
            port=int(words["port"]) if words["port"].isdecimal() else None, subnet=words["subnet"],
            end=row.whole("Created") + seconds if seconds != FOREVER else math.inf,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """
    All claims of an engine at one moment.

    Attributes:
        now: The engine's time, in seconds since 1970.
        claims: The claims.
    """

    now: float
    claims: tuple[Claim, ...]

    @classmethod
    def read(cls, engine: Engine) -> Ledger:
        """
        List the claims.

        Raises:
            EngineError: If the engine does not answer.
        """
        with plain_errors("listing claims"):
            answer = engine.api.get(
                f"{engine.api.base_url}/v{API_VERSION}/containers/json",
                params={"all": "1", "filters": json.dumps({"label": [CLAIM]})},
            )
            now = email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp()
            return cls(now=now, claims=tuple(Claim.read(row) for row in Part(answer.json()).items()))

    @property
    def ports(self) -> frozenset[int]:
        """The claimed ports."""
        return frozenset(claim.port for claim in self.claims if claim.port is not None)

    @property
    def subnets(self) -> tuple[str, ...]:
        """The claimed subnets."""
        return tuple(claim.subnet for claim in self.claims if claim.subnet)

    def of(self, book: str, lease: str) -> list[Claim]:
        """Return the claims of one lease."""
        return [claim for claim in self.claims if (claim.book, claim.lease) == (book, lease)]

    def expired(self) -> list[list[Claim]]:
        """Return the claims of each lease whose last claim has ended."""
        named = {(claim.book, claim.lease) for claim in self.claims if claim.book and claim.lease}
        found = [self.of(*pair) for pair in sorted(named)]
        return [claims for claims in found if max(claim.end for claim in claims) < self.now]


def take(engine: Engine, book: str, lease: Lease, seconds: float) -> None:
    """
    Claim the ports and subnets of *lease* for *seconds*.

    Args:
        engine: Whose ports and subnets.
        book: Id of the lease book.
        lease: The lease.
        seconds: How long; infinity: until they are given back.

    Raises:
        ClaimedError: If another lease has one of them; this one has none then.
        EngineError: If the engine does not answer.
    """
    labels = _labels(book, lease, seconds)
    wanted = [(f"stackyard-claim-port-{port}", {"port": str(port)}) for port in lease.ports.values()]
    wanted += [(f"stackyard-claim-subnet-{text.replace('/', '-')}", {"subnet": text}) for text in lease.subnets]
    wanted.append((_term(lease), {}))
    first, more = wanted[0]
    _create(engine, first, labels | _prefixed(more))  # most that lose lose here, and have nothing to give back
    failures = each(lambda item: _create(engine, item[0], labels | _prefixed(item[1])), wanted[1:])
    if failures:
        drop(engine, book, lease.id)
        raise next((error for error in failures if isinstance(error, ClaimedError)), failures[0])


def extend(engine: Engine, book: str, lease: Lease, seconds: float) -> None:
    """
    Let the claims of *lease* end *seconds* from now.

    Raises:
        EngineError: If the engine does not answer.
    """
    before = [claim for claim in Ledger.read(engine).of(book, lease.id) if claim.port is None and not claim.subnet]
    _create(engine, _term(lease), _labels(book, lease, seconds))
    _remove(engine, before)


def drop(engine: Engine, book: str, lease: str) -> None:
    """
    Give back what a lease has claimed.

    Raises:
        EngineError: If the engine does not answer.
    """
    _remove(engine, Ledger.read(engine).of(book, lease))


def _remove(engine: Engine, claims: Sequence[Claim]) -> None:
    """Remove claims by the ids of their containers: a later one of the same name stays."""
    for error in each(lambda claim: engine.remove(claim.thing), claims):
        raise error


def _term(lease: Lease) -> str:
    """Return a new name for the claim that says how long a lease lasts."""
    return f"stackyard-claim-lease-{lease.id}-{secrets.token_hex(4)}"


def _labels(book: str, lease: Lease, seconds: float) -> dict[str, str]:
    lasts = FOREVER if math.isinf(seconds) else max(math.ceil(seconds), 1)
    owner = f"{getpass.getuser()}@{socket.gethostname()} pid {os.getpid()}"
    words = {"lease": lease.id, "environment": lease.environment, "owner": owner, "seconds": str(lasts)}
    return {CLAIM: book, **_prefixed(words)}


def _prefixed(words: dict[str, str]) -> dict[str, str]:
    return {f"{CLAIM}.{name}": value for name, value in words.items()}


def _create(engine: Engine, name: str, labels: dict[str, str]) -> None:
    try:
        try:
            _ask(engine, name, labels)
        except RefusedError as error:
            if "No such image" not in str(error):
                raise
            make_image(engine, IMAGE)  # while another machine may take the name
            _ask(engine, name, labels)
    except RefusedError as error:
        if "is already in use" in str(error):
            raise ClaimedError(str(error)) from None
        raise


def _ask(engine: Engine, name: str, labels: dict[str, str]) -> None:
    with plain_errors(f"creating claim {name}", changes=True):
        config: Any = {
            "Image": IMAGE, "Cmd": ["claim"], "Labels": labels, "NetworkDisabled": True,
            "HostConfig": {"NetworkMode": "none", "LogConfig": {"Type": "none"}},
        }  # fmt: skip
        engine.api.create_container_from_config(config, name)  # type: ignore[no-untyped-call]


def make_image(engine: Engine, reference: str) -> None:
    """
    Make an image without files; one of the same name is replaced by it.

    Raises:
        EngineError: If the engine does not answer.
    """
    with io.BytesIO() as file:
        tarfile.open(fileobj=file, mode="w").close()
        empty = file.getvalue()
    repository, _, tag = reference.rpartition(":")
    with plain_errors(f"making image {reference}", changes=True):
        engine.api.import_image_from_data(empty, repository=repository, tag=tag)
