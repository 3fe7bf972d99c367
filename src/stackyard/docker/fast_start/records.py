"""The records of a blueprint: the bodies of the engine's own requests, and the names they are made under."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STARTED: Final = "service_started"
COMPLETED: Final = "service_completed_successfully"


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
        pools: For each of *subnets* what else is known of it: `iprange`, `gateway`, `aux_addresses`.
        ipam_driver: Who hands out addresses.
        options: Options of its driver.
        ipv6: Whether it has IPv6 addresses.
        attachable: Whether containers of a Swarm's nodes may be attached by hand.
    """

    name: str
    driver: str
    subnets: Sequence[str]
    labels: Mapping[str, str]
    internal: bool = False
    pools: Sequence[Mapping[str, Any]] = ()
    ipam_driver: str = "default"
    options: Mapping[str, str] = field(default_factory=dict)
    ipv6: bool = False
    attachable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumePlan:
    """
    One named volume to make, or to find as it is.

    Attributes:
        name: Its name on the engine.
        labels: All its labels.
        driver: Its driver; None for the engine's own.
        options: Options of its driver.
    """

    name: str
    labels: Mapping[str, str]
    driver: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePlan:
    """
    One file that is copied into a container before its start.

    Attributes:
        path: Where, inside the container.
        content: What is in it.
        mode: Its permissions.
    """

    path: str
    content: str = field(repr=False)
    mode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPlan:
    """
    One container to make.

    Attributes:
        service: Compose's name of the service.
        name: Its name on the engine.
        config: Body of `POST /containers/create`.
        number: Its place among the containers of its service, from 1.
        platform: Operating system and architecture, such as ``linux/amd64``; empty for the engine's own.
        joins: Namespaces of other services' containers: the service by key of `HostConfig`, such as ``NetworkMode``.
        files: What is copied into it.
    """

    service: str
    name: str
    config: Mapping[str, Any]
    number: int = 1
    platform: str = ""
    joins: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[FilePlan] = ()

    @property
    def label(self) -> str:
        """What a step calls it."""
        return self.service if self.number == 1 else f"{self.service}-{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """
    Everything one `docker compose up` of a fresh project would make.

    Attributes:
        networks: All networks.
        volumes: All named volumes.
        containers: All containers.
        conditions: What each service waits for: another service, and the condition of `depends_on`.
    """

    networks: Sequence[NetworkPlan]
    volumes: Sequence[VolumePlan]
    containers: Sequence[ContainerPlan]
    conditions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """
    Where a model comes from, and what it does not say itself.

    Attributes:
        files: The Compose files, as Compose would name them in a label.
        folder: The project's folder.
        env_files: Env files that were named; empty for those that Compose finds.
        version: Compose's version; empty leaves the label out.
        images: Ids of images by their names; those of images that are not named here are not noted.
        variables: The caller's variables, for secrets and configs that come from one.
        ordered: Whether services start in the order of `depends_on`.
    """

    files: str
    folder: str
    env_files: str = ""
    version: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    ordered: bool = True
