"""
Proof that a service is usable: one real request, as its users make it, from the host.

A started container, a bound port and even an accepted connection prove nothing: the engine's port proxy accepts before
the server behind it listens, and PostgreSQL runs a first, private server while it sets itself up.
"""

from stackyard.probes.endpoints import Endpoint
from stackyard.probes.url_probes import HttpProbe, PostgresProbe, Probe, RedisProbe, WebSocketProbe, preload, probe_for
from stackyard.probes.waiting import Readiness, wait_until_ready

__all__ = [
    "Endpoint", "HttpProbe", "PostgresProbe", "Probe", "Readiness", "RedisProbe", "WebSocketProbe", "preload",
    "probe_for", "wait_until_ready",
]  # fmt: skip
