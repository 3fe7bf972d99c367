"""
Databases and brokers in images whose name and variables do not tell: what the rest of the service shows.

A guess gives a URL and the way that data is reset. It never decides when a service is ready: one that is wrong must not
let a start fail. A container with other ports or with other programs in its health check does more than one thing, so
its data is not only the database's; there is no guess for it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stackyard.probes.known_databases import PRODUCTS, candidates, started

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from stackyard.probes.known_databases import Product

CLIENTS: Final[Mapping[str, frozenset[str]]] = {
    "postgresql": frozenset({"pg_isready"}),
    "mysql": frozenset({"mysqladmin", "mariadb-admin"}),
    "redis": frozenset({"redis-cli", "valkey-cli", "keydb-cli"}),
    "mongodb": frozenset({"mongosh"}),
    "amqp": frozenset({"rabbitmq-diagnostics", "rabbitmqctl"}),
}
_AROUND: Final = frozenset({"exit", "grep", "echo", "test", "true", "false"})  # what stands around a client in a check
_HOSTS: Final = re.compile(
    r"(?<!\S)(?:-h|--host)[= ]?\s*([^\s;&|'\"]+)|://(?:[^@/\s]*@)?([\w.-]+)|(?<!\S)([\w.-]+):[0-9]+"
)
_HERE: Final = re.compile(r"localhost|127\.0\.0\.1|::1|/.*")  # the last is the folder of a socket
# programs that take their part before or beside a server, with its port and variables
_BESIDE: Final = re.compile(r"bouncer|pgpool|pgcat|odyssey|proxy|admin|exporter|backup|dump|migrat")


class Guess(NamedTuple):
    """
    What a service is taken for.

    Attributes:
        product: The product.
        by_port: Whether only its port and its variables say so, and no health check.
    """

    product: Product
    by_port: bool


def guess(
    service: Mapping[str, Any], words: Sequence[str], image: Mapping[str, str], test: Sequence[str],
    ports: Collection[int],
) -> Guess | None:  # fmt: skip
    """
    Return what a service is taken for, if nothing is known about its image.

    Args:
        service: Its part of the model.
        words: What its container runs.
        image: The image's variables.
        test: The test of its health check; empty without one.
        ports: The TCP ports that it publishes or exposes.
    """
    if candidates(service, image) or _BESIDE.search(str(service.get("image") or "")):
        return None
    own = {name: str(value) for name, value in (service.get("environment") or {}).items()}
    text = " ".join(test[1:])
    for product in PRODUCTS:
        port = product.port(words, {**image, **own})
        if {*ports} <= {port} and product.runs(service, words) and _asks_nobody_else(text, own):
            if _asks_client(product, text):
                return Guess(product, by_port=False)
            if ports and _has_account(product, own):
                return Guess(product, by_port=True)
    return None


def _asks_nobody_else(text: str, variables: Mapping[str, str]) -> bool:
    """Say whether a health check names no server outside of its container."""
    hosts = [host for found in _HOSTS.findall(text) for host in found if host]
    return all(map(_HERE.fullmatch, [*hosts, variables.get("PGHOST") or "localhost"]))


def _asks_client(product: Product, text: str) -> bool:
    """Say whether a health check runs the product's own client, and no other program."""
    clients, programs = CLIENTS.get(product.kind, frozenset()), started(text)
    return bool(programs & clients) and programs <= clients | _AROUND


def _has_account(product: Product, variables: Mapping[str, str]) -> bool:
    named = {name for account in product.accounts for name in (*account.user, *account.password)}
    return any(name in variables or f"{name}_FILE" in variables for name in named)
