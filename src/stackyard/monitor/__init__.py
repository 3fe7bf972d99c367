"""Watching stacks: use and state of every container, in a table, as JSON, and for Prometheus."""

from __future__ import annotations

from stackyard.monitor.records import Service, Snapshot
from stackyard.monitor.watchers import Watcher

__all__ = ["Service", "Snapshot", "Watcher"]
