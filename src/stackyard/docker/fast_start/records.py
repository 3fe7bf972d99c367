"""The records of a blueprint: the bodies of the engine's own requests, and the names they are made under."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlan:
    """
    One network to make.

    Attributes:
        name: Its name on the engine.
        driver: Its driver.
        subnets: In CIDR notation.
        labels: All its labels.
        internal: Without a way out.
    """

    name: str
    driver: str
    subnets: Sequence[str]
    labels: Mapping[str, str]
    internal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumePlan:
    """
    One named volume to make, or to find as it is.

    Attributes:
        name: Its name on the engine.
        labels: All its labels.
    """

    name: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPlan:
    """
    One container to make.

    Attributes:
        service: Compose's name of the service.
        name: Its name on the engine.
        config: Body of `POST /containers/create`.
    """

    service: str
    name: str
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """Everything one `docker compose up` of a fresh project would make."""

    networks: Sequence[NetworkPlan]
    volumes: Sequence[VolumePlan]
    containers: Sequence[ContainerPlan]
