"""A client of the Docker Engine API: the few calls stackyard needs, each with a deadline and a plain error."""

from __future__ import annotations

import contextlib
import functools
import math
import struct
import warnings
from typing import TYPE_CHECKING, Final, Self, TypeVar

from stackyard.docker.client_settings import check_client_settings
from stackyard.docker.endpoint import Endpoint
from stackyard.docker.json_fields import Part
from stackyard.docker.records import (
    LEASE_LABEL,
    PROJECT_LABEL,
    SERVICE_LABEL,
    ContainerState,
    Kind,
    MemoryUse,
    Resource,
)
from stackyard.docker.time_limit import FOR_ONE, Patience, allowing, shared
from stackyard.errors import EngineError, RefusedError, StackyardError, UnansweredError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from docker.api import APIClient

    from stackyard.docker.fast_start.records import ContainerPlan, NetworkPlan, VolumePlan

# Engine 25 speaks 1.44, the first with a health check's start_interval; asking for it by name saves one round trip.
API_VERSION: Final = "1.44"
PING_TIMEOUT_S: Final = 6.0  # seconds an engine may take to say that it is there
DEFAULT_GRACE: Final = 10  # seconds, the engine's own
T = TypeVar("T")
WIDTH: Final = 300  # characters of a reason
# what reading a wrong answer raises, here or in the library
WRONG: Final = (LookupError, TypeError, ValueError, AttributeError, AssertionError, RecursionError, struct.error)


@contextlib.contextmanager
def plain_errors(doing: str, *, changes: bool = False, silent: Callable[[], None] | None = None) -> Iterator[None]:
    """
    Turn the client library's exceptions into one EngineError that says what was being done.

    Args:
        doing: What, for the message.
        changes: Whether the request changes something at the engine.
        silent: Called when the engine gave no usable answer.

    Raises:
        RefusedError: If the engine said no.
        UnansweredError: If it may still carry out a request that changes something.
        EngineError: If it cannot be reached or answers what no Docker engine does.
    """
    import docker.errors
    import urllib3.exceptions

    from stackyard.docker.transport import NoAnswerError

    failures = (docker.errors.DockerException, urllib3.exceptions.HTTPError, OSError)  # that of requests is one
    try:
        yield
    except docker.errors.APIError as error:
        raise RefusedError(f"{doing}: the engine refused: {error.explanation or error}") from None
    except NoAnswerError as error:
        if silent is not None:
            silent()
        kind = UnansweredError if changes and error.sent else EngineError
        raise kind(f"{doing}: {error}") from None
    except (*failures, *WRONG) as error:
        kind = UnansweredError if changes else EngineError
        said = " ".join((str(error) or type(error).__name__).split())[:WIDTH]
        raise kind(f"{doing}: {Endpoint.find().where} did not answer as a Docker engine does ({said})") from error


class Engine:
    """
    One connection to the engine that the docker command would use: DOCKER_HOST, its context, or the host's own.

    It may be used from several threads at once. All engines of a process that have no *deadline* share one budget of
    seconds for each address (STACKYARD_ENGINE_TIMEOUT), so that no command waits longer for an engine than that,
    however many requests it sends.

    Args:
        deadline: Seconds any single request may take; this engine then has a budget of its own.
        endpoint: The engine's address; None means the one that the docker command would use.

    Raises:
        EngineError: From every method, when the engine is away, too slow, or refuses.
        UnansweredError: From a method that changes something, when the engine may still do it.
        UsageError: If STACKYARD_ENGINE_TIMEOUT is not a number of seconds.
    """

    def __init__(self, *, deadline: float | None = None, endpoint: Endpoint | None = None) -> None:
        self.endpoint = endpoint or Endpoint.find()
        self._most = deadline or math.inf
        self._patience = shared(self.endpoint.url) if deadline is None else Patience(deadline / FOR_ONE)

    @functools.cached_property
    def api(self) -> APIClient:
        """The library's low-level client, made at the first call; it keeps the limits too."""
        if self.endpoint.fault:
            raise EngineError(self.endpoint.away(self.endpoint.fault))
        check_client_settings()
        with plain_errors("connecting to the Docker engine"):
            from stackyard.docker.transport import Client

            client = Client(self.endpoint, version=API_VERSION, patience=self._patience, most=self._most)
            try:
                # an engine that hangs is found out here, before a request has waited for its whole limit
                client.check_alive(PING_TIMEOUT_S)
            except BaseException:
                client.close()
                raise
            return client

    def close(self) -> None:
        """Close the connection; the next call opens it again."""
        client = self.__dict__.pop("api", None)
        if client is not None:
            client.close()

    def _plain_errors(self, doing: str, *, changes: bool = False) -> contextlib.AbstractContextManager[None]:
        """As *plain_errors*; after a silence the next call first asks whether the engine is there, and waits less."""
        return plain_errors(doing, changes=changes, silent=self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self, warn: Callable[..., None] = warnings.warn) -> None:
        if "api" in self.__dict__:
            warn("an Engine was not closed", ResourceWarning, source=self)
            self.close()

    def refuse_elsewhere(self) -> None:
        """
        Raise where the engine is on another host, before anything is started there.

        Raises:
            EngineError: If ports that the engine publishes are not this host's.
        """
        if self.endpoint.elsewhere:
            raise EngineError(
                f"the engine at {self.endpoint.where} is on another host, and the ports of its stacks would be open "
                f"there, not here; run stackyard on that host, or {self.endpoint.switch} to use this host's own"
            )

    def version(self) -> str:
        """Return the engine's version, for example 26.1.5."""
        with self._plain_errors("asking the engine's version"):
            return Part(self.api.version(api_version=False)).text("Version")

    def containers(self, labels: Sequence[str]) -> list[Resource]:
        """
        List containers, running or not, that carry every label of *labels* (`key` or `key=value`).

        A lease's containers that have its label from an image, which somebody made of one of them, are left out.
        """
        with self._plain_errors("listing containers"):
            return [_container(row) for row in self._rows(labels)]

    def troubled(self, labels: Sequence[str]) -> list[Resource]:
        """List containers with *labels* that ended, keep restarting, or fail their health check."""
        with self._plain_errors("listing containers"):
            return [_service(row) for row in self._rows(labels) if _in_trouble(row)]

    def _rows(self, labels: Sequence[str]) -> list[Part]:
        rows = Part(self.api.containers(all=True, filters={"label": list(labels)})).items()
        return [row for row in rows if _is_named(row) or not self._is_of_a_commit(row)]

    def _is_of_a_commit(self, row: Part) -> bool:
        """Say whether a container has the label of a lease from its image: no start makes it of such an image."""
        import docker.errors

        try:
            image = Part(self.api.inspect_image(row.text("ImageID")))  # type: ignore[no-untyped-call]
        except (docker.errors.NotFound, docker.errors.NullResource):
            return False
        labels = image.get("Config").get("Labels").texts() if image.get("Config").value else {}
        return LEASE_LABEL in labels and labels[LEASE_LABEL] == row.get("Labels").texts()[LEASE_LABEL]

    def networks(self, labels: Sequence[str]) -> list[Resource]:
        """List networks that carry every label of *labels*."""
        with self._plain_errors("listing networks"):
            rows = Part(self.api.networks(filters={"label": list(labels)})).items()
            return [_named("network", row.text("Id"), row) for row in rows]

    def volumes(self, labels: Sequence[str]) -> list[Resource]:
        """List volumes that carry every label of *labels*."""
        with self._plain_errors("listing volumes"):
            rows = Part(self.api.volumes(filters={"label": list(labels)})).get("Volumes").items()
            return [_named("volume", row.text("Name"), row) for row in rows]

    def everything(self, labels: Sequence[str]) -> list[Resource]:
        """List containers, then networks, then volumes: the order in which they can be removed."""
        return [*self.containers(labels), *self.networks(labels), *self.volumes(labels)]

    def create_network(self, plan: NetworkPlan) -> None:
        """Make a network; one of the same name is an error."""
        with self._plain_errors(f"creating network {plan.name}", changes=True):
            from docker.types import IPAMConfig, IPAMPool

            more = plan.pools or [{}] * len(plan.subnets)
            pools = [IPAMPool(subnet=subnet, **pool) for subnet, pool in zip(plan.subnets, more, strict=True)]
            self.api.create_network(
                plan.name, driver=plan.driver, options=dict(plan.options), labels=dict(plan.labels),
                ipam=IPAMConfig(driver=plan.ipam_driver, pool_configs=pools), internal=plan.internal,
                enable_ipv6=plan.ipv6, attachable=plan.attachable,
            )  # fmt: skip

    def create_volume(self, plan: VolumePlan) -> None:
        """Make a named volume; one that is there stays as it is."""
        with self._plain_errors(f"creating volume {plan.name}", changes=True):
            self.api.create_volume(plan.name, plan.driver, dict(plan.options) or None, dict(plan.labels))

    def create_container(self, plan: ContainerPlan) -> str:
        """Make a container and return its id; it does not run yet."""
        with self._plain_errors(f"creating container {plan.name}", changes=True):
            answer = self.api.create_container_from_config(  # type: ignore[no-untyped-call]
                plan.config, plan.name, platform=plan.platform or None
            )
            return Part(answer).text("Id")

    def copy_into(self, container: str, archive: bytes) -> None:
        """Unpack a tar *archive* at the root of a container, running or not."""
        with self._plain_errors(f"copying files into container {container[:80]}", changes=True):
            self.api.put_archive(container, "/", archive)

    def start(self, container: str) -> None:
        """Start a container by its id; one that runs already is left alone."""
        with self._plain_errors(f"starting container {container[:80]}", changes=True):
            self.api.start(container)

    def grace(self, container: str) -> int:
        """Return the seconds that a running container gets to end by itself; 0 if it does not run."""
        with self._plain_errors(f"inspecting container {container[:80]}"):
            found = Part(self.api.inspect_container(container))
            running = found.get("State").text("Status") == "running"
            return found.get("Config").whole("StopTimeout", DEFAULT_GRACE) if running else 0

    def stop(self, container: str) -> None:
        """Ask a container to end, by its own signal and within its own grace period; then end it."""
        with self._plain_errors(f"stopping container {container[:80]}", changes=True), gone_is_fine():
            grace = Part(self.api.inspect_container(container)).get("Config").whole("StopTimeout", DEFAULT_GRACE)
            with allowing(extra=grace):
                self.api.stop(container, timeout=grace)

    def remove(self, resource: Resource) -> None:
        """Remove one thing at once, with a container's anonymous volumes; already gone is success."""
        with self._plain_errors(f"removing {resource.kind} {resource.name}", changes=True), gone_is_fine():
            more = {"force": True, "v": True} if resource.kind == "container" else {}
            getattr(self.api, f"remove_{resource.kind}")(resource.id, **more)

    def attached(self, network: Resource) -> list[str]:
        """Return the names of the containers that still use *network*."""
        with self._plain_errors(f"inspecting network {network.name}"):
            ends = Part(self.api.inspect_network(network.id)).get("Containers").members()
            return sorted(end.text("Name") for _, end in ends)

    def state(self, container: str) -> ContainerState:
        """Inspect one container by id or name."""
        with self._plain_errors(f"inspecting container {container[:80]}"):
            return ContainerState.from_inspect(self.api.inspect_container(container))

    def logs(self, container: str, *, tail: int = 50, since: int = 0, timestamps: bool = False) -> str:
        """
        Return the last *tail* lines a container wrote to both of its streams, each after its time if asked.

        Args:
            container: Its id.
            tail: How many lines.
            since: Whole seconds of Unix time; only lines written from then on count. 0 means all.
            timestamps: Whether each line begins with its time.
        """
        with self._plain_errors(f"reading the log of container {container[:80]}"):
            raw = self.api.logs(
                container, stdout=True, stderr=True, tail=tail, since=since or None, timestamps=timestamps
            )
        return bytes(raw).decode(errors="replace")

    def memory(self, container: str) -> MemoryUse | None:
        """Measure a container's memory now; None when it does not run."""
        with self._plain_errors(f"measuring container {container[:80]}"):
            return MemoryUse.from_stats(self.api.stats(container, stream=False, one_shot=True))

    def processor_seconds(self, container: str) -> float:
        """Return the processor time that a running container has used since its start."""
        with self._plain_errors(f"measuring container {container[:80]}"):
            usage = Part(self.api.stats(container, stream=False, one_shot=True)).get("cpu_stats").get("cpu_usage")
            return usage.whole("total_usage") / 1e9

    def restart(self, container: str, *, grace: int = 3) -> None:
        """
        Restart one container.

        Args:
            container: Its id.
            grace: Seconds it gets to end by itself.
        """
        with self._plain_errors(f"restarting container {container[:80]}", changes=True), allowing(extra=grace):
            self.api.restart(container, timeout=grace)

    def published_ports(self) -> set[int]:
        """Return every host port any running container publishes."""
        with self._plain_errors("listing published ports"):
            rows = Part(self.api.containers(filters={"status": "running"})).items()
            ports = [port for row in rows for port in row.get("Ports").items()]
            return {port.whole("PublicPort") for port in ports if port.get("PublicPort").value is not None}

    def subnets(self) -> list[str]:
        """Return the subnets of all networks, in CIDR notation."""
        with self._plain_errors("listing networks"):
            rows = Part(self.api.networks()).items()
            configs = [
                config for row in rows if row.get("IPAM").value for config in row.get("IPAM").get("Config").items()
            ]
            return [found for config in configs if (found := config.text("Subnet", ""))]


def _container(row: Part) -> Resource:
    names = row.get("Names").words()
    return Resource(
        kind="container",
        id=row.text("Id"),
        name=names[0].lstrip("/") if names else row.text("Id")[:12],
        labels=row.get("Labels").texts(),
    )


def _is_named(row: Part) -> bool:
    """Say whether a container has no lease, or the name that its start gave it."""
    labels = row.get("Labels").texts()
    return LEASE_LABEL not in labels or _container(row).name.startswith(labels.get(PROJECT_LABEL, ""))


def _service(row: Part) -> Resource:
    """Return a container under its service's name."""
    labels, identity = row.get("Labels").texts(), row.text("Id")
    return Resource(kind="container", id=identity, name=labels.get(SERVICE_LABEL, identity[:12]), labels=labels)


def _in_trouble(row: Part) -> bool:
    return row.text("State") in {"exited", "dead", "restarting"} or "(unhealthy)" in row.text("Status")


def _named(kind: Kind, identity: str, row: Part) -> Resource:
    return Resource(kind=kind, id=identity, name=row.text("Name"), labels=row.get("Labels").texts())


@contextlib.contextmanager
def gone_is_fine() -> Iterator[None]:
    """Swallow the two answers that mean somebody else is removing, or has removed, the same thing."""
    import docker.errors

    try:
        yield
    except docker.errors.NotFound:
        return
    except docker.errors.APIError as error:
        if "already in progress" not in str(error.explanation):
            raise


def each(work: Callable[[T], object], items: Sequence[T], *, workers: int = 8) -> list[StackyardError]:
    """Do *work* on all items at once and return what went wrong; one failure never stops the others."""
    from concurrent.futures import ThreadPoolExecutor

    def attempt(item: T) -> StackyardError | None:
        try:
            work(item)
        except StackyardError as error:
            return error
        return None

    if not items:
        return []
    with ThreadPoolExecutor(max_workers=min(workers, len(items))) as pool:
        return [error for error in pool.map(attempt, items) if error is not None]
