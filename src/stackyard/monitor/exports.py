"""Export metrics: once as text, or over HTTP on a loopback address until it is stopped."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from typing import TYPE_CHECKING, Any, Final

from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.registry import Collector

DEFAULT: Final = "127.0.0.1:9464"
PORTS: Final = range(65536)


def parse_listen(text: str) -> tuple[str, int]:
    """
    Return the address and port that *text* names; port 0 takes a free one.

    Raises:
        UsageError: If it is no loopback address with a port: metrics show who runs what, and there is no login.
    """
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:]+)\]|([0-9.]+)):([0-9]{1,5})", text, re.ASCII)
    rule = f"--listen must be a loopback address and a port such as {DEFAULT} or [::1]:9464, got {text[:60]!r}"
    if match is None or int(match[3]) not in PORTS:
        raise UsageError(rule)
    try:
        address = ipaddress.ip_address(match[1] or match[2])
    except ValueError:
        raise UsageError(rule) from None
    if not address.is_loopback:
        raise UsageError(f"{rule}; for other hosts, put a proxy with a login in front of it")
    return str(address), int(match[3])


def text(collector: Collector) -> str:
    """Return all metrics in Prometheus's text format."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()


def values(collector: Collector) -> list[dict[str, Any]]:
    """Return all metrics as plain data: name, labels and value of each sample, and its metric's type and help."""
    return [
        {
            "name": sample.name, "labels": sample.labels, "value": float(sample.value), "type": family.type,
            "help": family.documentation,
        }
        for family in collector.collect()
        for sample in family.samples
    ]  # fmt: skip


@contextlib.contextmanager
def serving(collector: Collector, listen: str) -> Iterator[str]:
    """
    Serve the metrics over HTTP until the block ends; yields the URL.

    Raises:
        UsageError: If *listen* is not a loopback address, or cannot be listened on.
    """
    from prometheus_client import CollectorRegistry, start_http_server

    host, port = parse_listen(listen)
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise UsageError(f"--listen {listen}: {error.strerror}; choose another port") from None
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
