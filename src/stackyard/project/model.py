"""What stackyard reads of a rendered Compose model: how many containers a service has, and what it publishes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stackyard._util import json_text
from stackyard.errors import EngineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPort:
    """
    One entry of a service's `ports`.

    Attributes:
        service: The service.
        index: Its place in the list, from 0.
        target: The container's port.
        protocol: tcp, udp or sctp.
        host_ip: The host address the file gives; empty if it gives none.
        published: Host ports that the file gives, from the first to the last; None if it gives none.
        count: Host ports that the copy needs: one for each container of the service.
        spoken: Its protocol as the file gives it (`app_protocol`); usually empty.
    """

    service: str
    index: int
    target: int
    protocol: str
    host_ip: str
    published: range | None
    count: int
    spoken: str = ""

    @property
    def place(self) -> str:
        """Its place in the model."""
        return f"services.{self.service}.ports[{self.index}]"

    @property
    def target_text(self) -> str:
        """The container's port as `docker port` writes it."""
        return str(self.target) if self.protocol == "tcp" else f"{self.target}/{self.protocol}"

    @property
    def written(self) -> str:
        """The entry in Compose's short form, such as ``127.0.0.1:8080:80``."""
        numbers = self.published or ()
        first_and_last = [str(number) for number in (*numbers[:1], *numbers[1:][-1:])]
        head = f"{self.host_ip}:" if self.host_ip else ""
        return f"{head}{'-'.join(first_and_last)}:{self.target_text}" if head or numbers else self.target_text


def copies_of(service: Mapping[str, Any]) -> int:
    """Return how many containers a service has: `deploy.replicas`, else `scale`, else 1."""
    replicas = (service.get("deploy") or {}).get("replicas")
    number = replicas if replicas is not None else service.get("scale", 1)
    return int(number)


def read_model(printed: str) -> dict[str, Any]:
    """
    Return the model that `docker compose config` printed as JSON.

    Raises:
        EngineError: If it is none.
        UsageError: If it is nested too deeply.
    """
    try:
        model = json_text.read(printed)
    except json_text.TooDeepError as error:
        if printed.startswith("{"):
            raise UsageError(f"the Compose files are {error}") from None
        model = None
    except ValueError:
        model = None
    if not isinstance(model, dict):
        raise EngineError(f"'docker compose config' printed no model but {printed[:60]!r}")
    return model


def refuse_negative_copies(model: Mapping[str, Any]) -> None:
    """
    Refuse what Compose renders but cannot start.

    Raises:
        UsageError: If a service has fewer than 0 containers.
    """
    for name, service in (model.get("services") or {}).items():
        if (number := copies_of(service)) < 0:
            raise UsageError(f"services.{name}: 'scale' or 'deploy.replicas' is {number}; write 0 or more")


def published_ports(model: Mapping[str, Any]) -> Iterator[PublishedPort]:
    """Return every port that a model publishes, of services that have at least one container."""
    for name, service in (model.get("services") or {}).items():
        count = copies_of(service)
        for index, entry in enumerate(service.get("ports") or () if count else ()):
            yield PublishedPort(
                service=name, index=index, target=int(entry["target"]), protocol=str(entry.get("protocol") or "tcp"),
                host_ip=str(entry.get("host_ip") or ""), published=_numbers(entry.get("published")), count=count,
                spoken=str(entry.get("app_protocol") or ""),
            )  # fmt: skip


def _numbers(published: object) -> range | None:
    found = _RANGE.fullmatch(str(published or ""))
    return range(int(found[1]), int(found[2] or found[1]) + 1) if found and int(found[1]) else None


def without(model: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return *model* without the services *names*; services that depend on them no longer do."""
    services = model.get("services") or {}
    kept = {name: _independent(service, names) for name, service in services.items() if name not in names}
    return {**model, "services": kept} if names else dict(model)


def _independent(service: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    needed = service.get("depends_on") or {}
    if not {*needed} & {*names}:
        return service
    left = {name: needed[name] for name in needed if name not in names} if isinstance(needed, dict) else [
        name for name in needed if name not in names
    ]  # fmt: skip
    return {**service, "depends_on": left}
