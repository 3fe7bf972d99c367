"""The protocol of a published port: known from the product that a service runs, or from an answer."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from stackyard.plan import Address
from stackyard.probes import published_protocols
from stackyard.probes.readiness_rules import ImageFacts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


def told(service: dict[str, Any], target: int, port: int = 1, image: ImageFacts | None = None) -> str | None:
    """Return the URL of one published port of *service*."""
    entry = {"target": target, "published": str(port), "protocol": "tcp"}
    model = {"services": {"it": {"ports": [entry], **service}}}
    address = Address(service="it", target=target, protocol="tcp", host="127.0.0.1", port=port)
    (found,) = asyncio.run(published_protocols.spoken([address], model, {"it": image} if image else {}))
    return found.url


@pytest.mark.parametrize(
    ("image", "variables", "target", "url"),
    [
        ("postgres:16", {}, 5432, "postgresql://postgres@127.0.0.1:1"),
        ("postgres", {"POSTGRES_PASSWORD": "p@ss$$"}, 5432, "postgresql://postgres:p%40ss%24@127.0.0.1:1"),
        ("postgres", {"POSTGRES_USER": "a", "POSTGRES_PASSWORD": "b"}, 5432, "postgresql://a:b@127.0.0.1:1/a"),
        ("postgres", {"POSTGRES_USER": "a", "POSTGRES_DB": "c"}, 5432, "postgresql://a@127.0.0.1:1/c"),
        ("postgres", {"POSTGRES_USER_FILE": "/x", "POSTGRES_PASSWORD": "b"}, 5432, "postgresql://127.0.0.1:1"),
        ("postgres", {"PGPORT": "6000", "POSTGRES_PASSWORD_FILE": "/x"}, 6000, "postgresql://postgres@127.0.0.1:1"),
        ("mysql", {"MYSQL_ROOT_PASSWORD": "r", "MYSQL_DATABASE": "d"}, 3306, "mysql://root:r@127.0.0.1:1/d"),
        ("mariadb", {"MARIADB_USER": "u", "MARIADB_PASSWORD": "p"}, 3306, "mysql://u:p@127.0.0.1:1"),
        ("redis", {}, 6379, "redis://127.0.0.1:1"),
        ("bitnami/redis", {"REDIS_PASSWORD": "s"}, 6379, "redis://:s@127.0.0.1:1"),
        ("mongo", {"MONGO_INITDB_ROOT_USERNAME": "u", "MONGO_INITDB_ROOT_PASSWORD": "p"}, 27017,
         "mongodb://u:p@127.0.0.1:1"),
        ("mongo", {"MONGO_INITDB_ROOT_PASSWORD": "p"}, 27017, "mongodb://127.0.0.1:1"),
        ("rabbitmq:3", {"RABBITMQ_DEFAULT_USER": "u", "RABBITMQ_DEFAULT_PASS": "p", "RABBITMQ_DEFAULT_VHOST": "/v"},
         5672, "amqp://u:p@127.0.0.1:1/%2Fv"),
        ("memcached", {}, 11211, None),
        ("kafka", {}, 9092, None),
    ],
)  # fmt: skip
def test_a_known_product_has_its_scheme_and_what_its_variables_say(
    image: str, variables: dict[str, str], target: int, url: str | None
) -> None:
    assert told({"image": image, "environment": variables}, target) == url


def test_an_image_without_a_name_is_known_by_its_variables() -> None:
    facts = ImageFacts(environment={"REDIS_VERSION": "7", "REDIS_PASSWORD": "s"})

    assert told({"image": "sha256:1"}, 6379, image=facts) == "redis://:s@127.0.0.1:1"


def served(handle: Callable[..., Awaitable[None]], target: int, tls: ssl.SSLContext | None = None) -> str | None:
    """Return the URL of a port on which *handle* answers; the port is written as PORT."""

    async def ask() -> str | None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        entry = {"target": target, "published": str(port), "protocol": "tcp"}
        address = Address(service="it", target=target, protocol="tcp", host="127.0.0.1", port=port)
        (found,) = await published_protocols.spoken([address], {"services": {"it": {"ports": [entry]}}}, {})
        server.close()
        return found.url and found.url.replace(str(port), "PORT")

    return asyncio.run(ask())


def answering(text: bytes) -> Callable[..., Awaitable[None]]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(text)
        await writer.drain()
        writer.close()

    return handle


@pytest.mark.parametrize(
    ("target", "answer", "url"),
    [
        (7000, b"HTTP/1.1 404 Not Found\r\n\r\n", "http://127.0.0.1:PORT"),
        (8443, b"HTTP/1.1 400 Bad Request\r\n\r\n", "http://127.0.0.1:PORT"),
        (8080, b"+OK hello\r\n", None),
        (8080, b"", None),
        (5432, b"HTTP/1.1 200 OK\r\n\r\n", None),
    ],
)
def test_an_http_answer_makes_a_link_and_no_other_does(target: int, answer: bytes, url: str | None) -> None:
    assert served(answering(answer), target) == url


@pytest.mark.parametrize(("target", "url"), [(8080, "http://127.0.0.1:PORT"), (7000, None)])
def test_a_server_that_says_nothing_in_time_counts_only_where_http_is_usual(
    monkeypatch: pytest.MonkeyPatch, target: int, url: str | None
) -> None:
    monkeypatch.setattr(published_protocols, "LIMIT", 0.05)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    assert served(silent, target) == url


def test_a_server_that_wants_tls_has_its_scheme(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-subj", "/CN=x", "-keyout", str(key), "-out", str(certificate)]  # fmt: skip
    subprocess.run(words, check=True, capture_output=True)  # noqa: S603 - words of our own
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    assert served(answering(b""), 8443, context) == "https://127.0.0.1:PORT"


def test_a_port_that_no_one_serves_has_no_url() -> None:
    assert told({}, 80) is None
