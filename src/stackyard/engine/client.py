"""A client of the Docker Engine API: the few calls stackyard needs, each with a deadline and a plain error."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from stackyard.engine.records import SERVICE_LABEL, ContainerState, MemoryUse, Resource
from stackyard.errors import EngineError, RefusedError
from stackyard.host.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from docker.api import APIClient

    from stackyard.blueprints.records import ContainerPlan, NetworkPlan, VolumePlan

# Engine 25 speaks 1.44, the first with a health check's start_interval; asking for it by name saves one round trip.
API_VERSION: Final = "1.44"
KNOCK_S: Final = 6.0  # seconds an engine may take to say that it is there
SHARED: Final = "container:"  # begins the network mode of a container that shares another's namespace
T = TypeVar("T")


@contextlib.contextmanager
def plain_errors(doing: str, *, silent: Callable[[], None] | None = None) -> Iterator[None]:
    """
    Turn the client library's exceptions into one EngineError that says what was being done.

    Args:
        doing: What, for the message.
        silent: Called when the engine did not answer in time.
    """
    import docker.errors  # noqa: PLC0415 - costs 0.2 s, so only who talks to the engine pays
    import requests.exceptions  # noqa: PLC0415 - as above

    try:
        yield
    except docker.errors.APIError as error:
        raise RefusedError(f"{doing}: the engine refused: {error.explanation or error}") from None
    except requests.exceptions.Timeout:
        if silent is not None:
            silent()
        raise EngineError(f"{doing}: the engine did not answer in time; try 'invoke doctor'") from None
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
        raise EngineError(f"{doing}: no engine answers ({error}); try 'invoke doctor'") from None


class Engine:
    """
    One connection to the engine the docker client would use: DOCKER_HOST, its context, or the host's own.

    It may be used from several threads at once.

    Args:
        deadline: Seconds any single call may take.

    Raises:
        EngineError: From every method, when the engine is away, too slow, or refuses.
    """

    def __init__(self, *, deadline: float = 20.0) -> None:
        self._deadline = deadline

    @functools.cached_property
    def api(self) -> APIClient:
        """The library's low-level client, made at the first call."""
        with plain_errors("connecting to the Docker engine"):
            import docker.utils  # noqa: PLC0415 - see plain_errors
            from docker.api import APIClient  # noqa: PLC0415 - see plain_errors

            settings = docker.utils.kwargs_from_env()
            settings.setdefault("base_url", Endpoint.find().url)  # as the docker client, which follows its context
            client = APIClient(version=API_VERSION, timeout=int(self._deadline), **settings)
            # an engine that hangs is found out here, before several calls have each waited for their whole deadline
            answer = client.get(f"{client.base_url}/_ping", timeout=min(self._deadline, KNOCK_S))
            answer.close()
            return client

    def close(self) -> None:
        """Close the connection; the next call opens it again."""
        client = self.__dict__.pop("api", None)
        if client is not None:
            client.close()

    def _plain_errors(self, doing: str) -> contextlib.AbstractContextManager[None]:
        """As *plain_errors*; after a silence the next call knocks first, and so waits less for another."""
        return plain_errors(doing, silent=self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def version(self) -> str:
        """Return the engine's version, for example 26.1.5."""
        with self._plain_errors("asking the engine's version"):
            return str(self.api.version(api_version=False)["Version"])

    def containers(self, labels: Sequence[str]) -> list[Resource]:
        """List containers, running or not, that carry every label of *labels* (`key` or `key=value`)."""
        with self._plain_errors("listing containers"):
            rows = self.api.containers(all=True, filters={"label": list(labels)})
        return [
            Resource(
                kind="container", id=row["Id"], name=row["Names"][0].lstrip("/") if row["Names"] else row["Id"][:12],
                labels=row["Labels"], joins=_network_mode(row).startswith(SHARED),
            )
            for row in rows
        ]  # fmt: skip

    def troubled(self, labels: Sequence[str]) -> list[Resource]:
        """List containers with *labels* that ended, keep restarting, or fail their health check."""
        with self._plain_errors("listing containers"):
            rows = self.api.containers(all=True, filters={"label": list(labels)})
        return [
            _named("container", row["Id"], row | {"Name": (row["Labels"] or {}).get(SERVICE_LABEL, row["Id"][:12])})
            for row in rows
            if row["State"] in {"exited", "dead", "restarting"} or "(unhealthy)" in row["Status"]
        ]

    def networks(self, labels: Sequence[str]) -> list[Resource]:
        """List networks that carry every label of *labels*."""
        with self._plain_errors("listing networks"):
            rows = self.api.networks(filters={"label": list(labels)})
        return [_named("network", row["Id"], row) for row in rows]

    def volumes(self, labels: Sequence[str]) -> list[Resource]:
        """List volumes that carry every label of *labels*."""
        with self._plain_errors("listing volumes"):
            rows = self.api.volumes(filters={"label": list(labels)})["Volumes"]
        return [_named("volume", row["Name"], row) for row in rows or ()]

    def everything(self, labels: Sequence[str]) -> list[Resource]:
        """List containers, then networks, then volumes: the order in which they can be removed."""
        return [*self.containers(labels), *self.networks(labels), *self.volumes(labels)]

    def create_network(self, plan: NetworkPlan) -> None:
        """Make a network; one of the same name is an error."""
        with self._plain_errors(f"creating network {plan.name}"):
            from docker.types import IPAMConfig, IPAMPool  # noqa: PLC0415 - see plain_errors

            ipam = IPAMConfig(pool_configs=[IPAMPool(subnet=subnet) for subnet in plan.subnets])
            self.api.create_network(
                plan.name, driver=plan.driver, ipam=ipam, labels=dict(plan.labels), internal=plan.internal
            )

    def create_volume(self, plan: VolumePlan) -> None:
        """Make a named volume; one that is there stays as it is."""
        with self._plain_errors(f"creating volume {plan.name}"):
            self.api.create_volume(plan.name, labels=dict(plan.labels))

    def create_container(self, plan: ContainerPlan) -> str:
        """Make a container and return its id; it does not run yet."""
        with self._plain_errors(f"creating container {plan.name}"):
            answer = self.api.create_container_from_config(plan.config, plan.name)  # type: ignore[no-untyped-call]
        return str(answer["Id"])

    def start(self, container: str) -> None:
        """Start a container by its id; one that runs already is left alone."""
        with self._plain_errors(f"starting container {container[:40]}"):
            self.api.start(container)

    def remove(self, resource: Resource) -> None:
        """Remove one thing at once, with a container's anonymous volumes; already gone is success."""
        with self._plain_errors(f"removing {resource.kind} {resource.name}"), _gone_is_fine():
            match resource.kind:
                case "container":
                    self.api.remove_container(resource.id, force=True, v=True)
                case "network":
                    self.api.remove_network(resource.id)
                case "volume":
                    self.api.remove_volume(resource.id)

    def attached(self, network: Resource) -> list[str]:
        """Return the names of the containers that still use *network*."""
        with self._plain_errors(f"inspecting network {network.name}"):
            answer = self.api.inspect_network(network.id)
        return sorted(end["Name"] for end in (answer.get("Containers") or {}).values())

    def state(self, container: str) -> ContainerState:
        """Inspect one container by id or name."""
        with self._plain_errors(f"inspecting container {container[:40]}"):
            return ContainerState.from_inspect(self.api.inspect_container(container))

    def logs(self, container: str, *, tail: int = 50) -> str:
        """Return the last *tail* lines a container wrote to both of its streams."""
        with self._plain_errors(f"reading the log of container {container[:40]}"):
            raw = self.api.logs(container, stdout=True, stderr=True, tail=tail)
        return bytes(raw).decode(errors="replace")

    def memory(self, container: str) -> MemoryUse | None:
        """Measure a container's memory now; None when it does not run."""
        with self._plain_errors(f"measuring container {container[:40]}"):
            return MemoryUse.from_stats(self.api.stats(container, stream=False, one_shot=True))

    def restart(self, container: str, *, grace: int = 3) -> None:
        """
        Restart a container, and after it those that share its network namespace, for theirs is gone then.

        Args:
            container: Its id.
            grace: Seconds each gets to end by itself.
        """
        with self._plain_errors(f"restarting container {container[:40]}"):
            self.api.restart(container, timeout=grace)
            rows = self.api.containers(all=True)
        for row in rows:
            if _network_mode(row) == f"{SHARED}{container}":
                self.restart(row["Id"], grace=grace)

    def published_ports(self) -> set[int]:
        """Return every host port any running container publishes."""
        with self._plain_errors("listing published ports"):
            rows = self.api.containers(filters={"status": "running"})
        return {port["PublicPort"] for row in rows for port in row.get("Ports") or () if "PublicPort" in port}

    def subnets(self) -> list[str]:
        """Return the subnets of all networks, in CIDR notation."""
        with self._plain_errors("listing networks"):
            rows = self.api.networks()
        configs = [config for row in rows for config in (row.get("IPAM") or {}).get("Config") or ()]
        return [config["Subnet"] for config in configs if "Subnet" in config]


def _named(kind: Any, identity: str, row: Mapping[str, Any]) -> Resource:
    return Resource(kind=kind, id=identity, name=row["Name"], labels=row.get("Labels") or {})


def _network_mode(row: Mapping[str, Any]) -> str:
    return str((row.get("HostConfig") or {}).get("NetworkMode", ""))


@contextlib.contextmanager
def _gone_is_fine() -> Iterator[None]:
    """Swallow the two answers that mean somebody else is removing, or has removed, the same thing."""
    import docker.errors  # noqa: PLC0415 - see plain_errors

    try:
        yield
    except docker.errors.NotFound:
        return
    except docker.errors.APIError as error:
        if "already in progress" not in str(error.explanation):
            raise


def each(work: Callable[[T], object], items: Sequence[T], *, workers: int = 8) -> list[EngineError]:
    """Do *work* on all items at once and return the engine's refusals; one failure never stops the others."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - 20 ms that most commands do not need

    def attempt(item: T) -> EngineError | None:
        try:
            work(item)
        except EngineError as error:
            return error
        return None

    if not items:
        return []
    with ThreadPoolExecutor(max_workers=min(workers, len(items))) as pool:
        return [error for error in pool.map(attempt, items) if error is not None]
