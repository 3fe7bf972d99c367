"""Fake probes: of services that answer at once, or never."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stackyard.errors import NotReadyError

if TYPE_CHECKING:
    import pytest


@dataclass(frozen=True)
class Answering:
    """A probe whose service answers at once."""

    service: str

    async def check(self) -> None: ...


@dataclass(frozen=True)
class Silent:
    """A probe whose service never answers."""

    service: str

    async def check(self) -> None:
        raise NotReadyError("refused")


def replace_probes(monkeypatch: pytest.MonkeyPatch, kind: type[Answering | Silent]) -> None:
    """Probe every service of a stack with *kind*."""
    monkeypatch.setattr("stackyard.probes.probe_for", lambda service, _url: kind(service))
    monkeypatch.setattr("stackyard.probes.WebSocketProbe", lambda **_: kind("websocket"))
