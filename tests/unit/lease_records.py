"""What the tests of the leases share: an environment's record, a clock that does not move, the makers' types."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from stackyard.docker.endpoint import Endpoint
from stackyard.project.environments import Services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from stackyard.leases import LeaseBook, Survivor


SERVICES = Services(
    urls={
        "postgres": "postgresql://app:{postgres_password}@{postgres}/app",
        "redis": "redis://app:{redis_password}@{redis}/0",
        "backend": "http://{backend}",
        "auth": "http://{auth}",
        "websocket": "ws://{backend}/ws",
    },
    variables={
        "STACKYARD_JWT_KEY": "{jwt_key}",
        "STACKYARD_JWT_ISSUER": "stackyard-auth",
        "STACKYARD_JWT_AUDIENCE": "{lease}",
        "STACKYARD_ALLOWED_ORIGIN": "http://{backend}",
    },
    secrets=("postgres_password", "redis_password", "jwt_key"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What leases read of an environment."""

    name: str = "test"
    data: Literal["tmpfs", "volume"] = "tmpfs"
    root: Path = Path("/srv/checkout")
    ports: Mapping[str, int] = field(
        default_factory=lambda: {"postgres": 11934, "redis": 11981, "backend": 11901, "auth": 11982}
    )
    services: Services | None = SERVICES
    subnet: str = "10.214.255.16/28"
    reserve_mb: int = 0
    variables: Mapping[str, str] = field(default_factory=lambda: {"COMPOSE_PROFILES": "test"})


class Clock:
    """A clock that stands still until a test moves it, and sleeps by moving itself."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class MakeBook(Protocol):
    def __call__(self, survivors: Callable[[], Iterable[Survivor]] | None = None, **variables: str) -> LeaseBook: ...


class NothingRuns:
    """An engine with nothing on it."""

    endpoint = Endpoint(url="tcp://127.0.0.1:1")

    def everything(self, *_: object, **__: object) -> list[object]:
        return []

    containers = networks = volumes = troubled = everything
