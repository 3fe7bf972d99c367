"""A Docker Swarm through one of its managers: its services, tasks, nodes, networks, configs and secrets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Final, Literal

from stackyard.docker.engine import plain_errors
from stackyard.docker.json_fields import Part
from stackyard.docker.logs import split
from stackyard.errors import EngineError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from docker.api import APIClient

    from stackyard.docker import Engine

Kind = Literal["service", "network", "config", "secret"]
KINDS: Final[tuple[Kind, ...]] = ("service", "network", "config", "secret")  # the order in which they can be removed
SERVICE_LABEL: Final = "stackyard.swarm.service"
ENDED: Final = frozenset({"failed", "rejected", "orphaned", "shutdown", "remove"})
LOST: Final = "lost"  # the state of a container whose node is down or has left
USUAL_POOL: Final = ip_network("10.0.0.0/8")  # the Swarm's own
CONFLICT: Final = 409
TASK_DETAIL: Final = "com.docker.swarm.task.id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """
    Something that the Swarm holds.

    Attributes:
        kind: What it is.
        id: The Swarm's id.
        name: Its name.
        labels: All its labels.
        version: The version that a change must name; 0 for a network.
        created: When it was made, as RFC 3339; empty for a network.
    """

    kind: Kind
    id: str
    name: str
    labels: Mapping[str, str]
    version: int = 0
    created: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """
    One container of a service, from the wish to its end.

    Attributes:
        service: The service's name in the Compose file.
        slot: Which of the service's replicas it is.
        state: new, pending, assigned, preparing, starting, running, complete, failed, rejected, orphaned and the like.
            A node that is down reports nothing: its containers keep their state.
        desired: The state that the Swarm wants it to have.
        reason: Why it is not further, or why it ended; may be empty.
        exit_code: Of its container; 0 while it runs.
        node: The id of its node; empty while it has none.
        container: The id of its container; empty while it has none.
        created: When it was made, as RFC 3339.
        ports: Ports of the node, by port and protocol of the container.
        restarts: How many earlier tasks of its place the Swarm still lists; 0 where nothing has counted them.
    """

    service: str
    slot: int
    state: str
    desired: str
    reason: str
    exit_code: int
    node: str
    container: str
    created: str
    ports: Mapping[tuple[int, str], int]
    restarts: int = 0

    @property
    def last_exit(self) -> int | None:
        """Exit code of its container; None while that has not ended."""
        return self.exit_code if self.exit_code or self.state == "complete" else None

    @property
    def failed(self) -> bool:
        """True when it ended and had not done what it had to do."""
        return self.state in ENDED

    @property
    def said(self) -> str:
        """Its state with the exit code and the reason, as messages show it."""
        code = f"with exit code {self.exit_code}" if self.exit_code else ""
        return " ".join(filter(None, (self.state, code, self.reason and f"({self.reason})")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """
    One engine of the Swarm.

    Attributes:
        id: The Swarm's id.
        name: Its host name.
        address: Where its ports answer.
        state: ready, down, unknown or disconnected.
        availability: active, pause or drain.
    """

    id: str
    name: str
    address: str
    state: str
    availability: str

    @property
    def shown(self) -> str:
        """Its name, and why it takes no tasks if it does not."""
        return self.name if self.availability == "active" else f"{self.name} (availability {self.availability})"


def detailed(line: str) -> tuple[str, str, str]:
    """
    Return the time, the id of the task and the text of a line of a service's log that has time and details.

    What the manager itself writes there, of a node that does not answer for example, has neither.
    """
    if not line[:4].isdecimal():
        return "", "", line
    at, _, rest = line.partition(" ")
    details, _, text = rest.partition(" ")
    return at, dict(word.partition("=")[::2] for word in details.split(",")).get(TASK_DETAIL, ""), text


def member(engine: Engine) -> str:
    """Return the id that its Swarm has for an engine's node; empty if the engine is in none."""
    with plain_errors("asking an engine which node it is"):
        return Part(engine.api.info()).get("Swarm").text("NodeID", "")


class Swarm:
    """
    The Swarm that an engine manages.

    Args:
        engine: One of its managers.

    Raises:
        EngineError: From every method, when the engine is away, too slow, or refuses.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._ports: dict[str, Mapping[tuple[int, str], int]] = {}

    @property
    def api(self) -> APIClient:
        """The engine's client."""
        return self.engine.api

    def now(self) -> str:
        """
        Return the manager's time, as RFC 3339: one clock for all who use the Swarm.

        Raises:
            EngineError: If the engine manages no Swarm.
        """
        with plain_errors("asking the engine about its Swarm"):
            answer = Part(self.api.info())
            manages = answer.get("Swarm").truth("ControlAvailable", default=False)
            time = answer.text("SystemTime")
        if not manages:
            where = self.engine.endpoint.where
            raise EngineError(f"the engine at {where} manages no Swarm; 'docker swarm init' there, or name a manager")
        return time

    def heartbeat(self) -> float:
        """Return how often the nodes report, in seconds; the Swarm takes one for lost after three reports that fail."""
        with plain_errors("asking for the Swarm's heartbeat"):
            spec = Part(self.api.inspect_swarm()).get("Spec")
            return spec.get("Dispatcher").whole("HeartbeatPeriod") / 10**9

    def free_networks(self) -> int:
        """Return how many networks the Swarm's address pool still has room for."""
        with plain_errors("asking for the Swarm's address pool"):
            cluster = Part(self.api.inspect_swarm())
            size = cluster.whole("SubnetSize", 24) or 24
            pools = [ip_network(pool) for pool in cluster.get("DefaultAddrPool").words()] or [USUAL_POOL]
            used = sum(1 for _ in Part(self.api.networks(filters={"scope": "swarm", "driver": "overlay"})).items())
        return sum(1 << max(size - pool.prefixlen, 0) for pool in pools) - used

    def nodes(self) -> list[Node]:
        """List all nodes."""
        with plain_errors("listing nodes"):
            return [_node(row) for row in Part(self.api.nodes()).items()]

    def tasks(self, label: str) -> list[Task]:
        """
        List the tasks of services that carry *label*, as ``key=value``, the oldest first.

        A node that finds a new leading manager reports its containers again without their ports: `remember` keeps them.
        """
        with plain_errors("listing tasks"):
            rows = Part(self.api.tasks(filters={"label": [label]})).items()  # type: ignore[no-untyped-call]
            found = sorted((_task(row) for row in rows), key=lambda task: task.created)
        self.remember({task.container: task.ports for task in found if task.ports})
        return [task if task.ports else replace(task, ports=self._ports.get(task.container, {})) for task in found]

    def remember(self, ports: Mapping[str, Mapping[tuple[int, str], int]]) -> None:
        """Note the published ports of containers, by the id of each; they do not change while it runs."""
        self._ports |= ports

    def labelled(self, kind: Kind, label: str) -> list[Item]:
        """List what carries *label*: ``key`` or ``key=value``."""
        with plain_errors(f"listing {kind}s"):
            ask = getattr(self.api, f"{kind}s")
            return [_item(kind, row) for row in Part(ask(filters={"label": [label]})).items()]

    def everything(self, label: str) -> list[Item]:
        """List services, networks, configs and secrets with *label*, in the order in which they can be removed."""
        return [item for kind in KINDS for item in self.labelled(kind, label)]

    def create_service(self, name: str, spec: Mapping[str, Any]) -> str:
        """
        Make a service and return its id.

        Args:
            name: Its name.
            spec: ``TaskTemplate``, ``Labels``, ``Mode`` and ``EndpointSpec``, as the Engine API has them.
        """
        with plain_errors(f"creating service {name}", changes=True):
            answer = self.api.create_service(  # type: ignore[no-untyped-call]
                spec["TaskTemplate"], name=name, labels=spec["Labels"], mode=spec["Mode"],
                endpoint_spec=spec["EndpointSpec"],
            )  # fmt: skip
            return Part(answer).text("ID")

    def create_network(self, name: str, labels: Mapping[str, str], *, internal: bool = False) -> str:
        """Make an overlay network and return its id; the Swarm chooses a subnet that no other network of it has."""
        with plain_errors(f"creating network {name}", changes=True):
            answer = self.api.create_network(
                name, driver="overlay", labels=dict(labels), internal=internal, scope="swarm"
            )
            return Part(answer).text("Id")

    def create_config(self, name: str, content: bytes, labels: Mapping[str, str]) -> str | None:
        """Make a config and return its id; None if there is one of that name."""
        return self._create("config", name, content, labels)

    def create_secret(self, name: str, content: bytes, labels: Mapping[str, str]) -> str | None:
        """Make a secret and return its id; None if there is one of that name."""
        return self._create("secret", name, content, labels)

    def _create(self, kind: Kind, name: str, content: bytes, labels: Mapping[str, str]) -> str | None:
        import docker.errors

        with plain_errors(f"creating {kind} {name}", changes=True):
            try:
                return Part(getattr(self.api, f"create_{kind}")(name, content, dict(labels))).text("ID")
            except docker.errors.APIError as error:
                if error.status_code != CONFLICT:
                    raise
                return None

    def content(self, config: str) -> tuple[Item, bytes]:
        """
        Return a config and what it holds.

        Raises:
            RefusedError: If there is none with this id or name.
        """
        import base64

        with plain_errors(f"reading config {config[:64]}"):
            row = Part(self.api.inspect_config(config))  # type: ignore[no-untyped-call]
            return _item("config", row), base64.b64decode(row.get("Spec").text("Data", ""))

    def relabel(self, config: Item, labels: Mapping[str, str]) -> bool:
        """
        Give a config other labels, unless it was changed after it was read; say whether it was done.

        The Swarm compares the version, so of two that write at once one gets False.
        """
        try:
            with plain_errors(f"changing config {config.name}", changes=True):
                found = self.api.inspect_config(config.id)  # type: ignore[no-untyped-call]
                # the library has no call for this
                answer = self.api._post_json(  # type: ignore[attr-defined]  # noqa: SLF001
                    self.api._url("/configs/{0}/update", config.id),  # type: ignore[attr-defined]  # noqa: SLF001
                    data={**found["Spec"], "Labels": dict(labels)}, params={"version": config.version},
                )  # fmt: skip
                answer.raise_for_status()
        except RefusedError as error:
            if "out of sequence" in str(error) or "not found" in str(error):
                return False
            raise
        return True

    def remove(self, item: Item) -> None:
        """Remove one thing; already gone is success."""
        import docker.errors

        with plain_errors(f"removing {item}", changes=True):
            try:
                getattr(self.api, f"remove_{item.kind}")(item.id)
            except docker.errors.NotFound:
                return

    def logs(
        self, service: str, *, tail: int, since: int = 0, timestamps: bool = False, details: bool = False
    ) -> list[str]:  # fmt: skip
        """
        Return the last *tail* lines that each container of a service wrote, each after its time and details if asked.

        Args:
            service: The service's id.
            tail: How many lines.
            since: Whole seconds of Unix time; only lines written from then on count. 0 means all.
            timestamps: Whether each line begins with its time.
            details: Whether what `detailed` reads follows, such as the task.
        """
        with plain_errors(f"reading the log of service {service}"):
            raw = self.api.service_logs(
                service, stdout=True, stderr=True, tail=str(tail), since=since, timestamps=timestamps,
                details=details,
            )  # fmt: skip
            content = raw if isinstance(raw, bytes) else b"".join(raw)
        return split(content.decode(errors="replace"))


def _item(kind: Kind, row: Part) -> Item:
    if kind == "network":
        return Item(kind=kind, id=row.text("Id"), name=row.text("Name"), labels=row.get("Labels").texts())
    spec = row.get("Spec")
    return Item(
        kind=kind, id=row.text("ID"), name=spec.text("Name"), labels=spec.get("Labels").texts(),
        version=row.get("Version").whole("Index"), created=row.text("CreatedAt", ""),
    )  # fmt: skip


def _task(row: Part) -> Task:
    status, labels = row.get("Status"), row.get("Spec").get("ContainerSpec").get("Labels").texts()
    inside = status.get("ContainerStatus") if status.get("ContainerStatus").value else Part({})
    open_ports = _entries(status.get("PortStatus"))
    return Task(
        service=labels.get(SERVICE_LABEL, ""), slot=row.whole("Slot", 0), state=status.text("State"),
        desired=row.text("DesiredState"), reason=status.text("Err", ""), exit_code=max(inside.whole("ExitCode", 0), 0),
        node=row.text("NodeID", ""), container=inside.text("ContainerID", ""), created=row.text("CreatedAt"),
        ports={(port.whole("TargetPort"), port.text("Protocol")): port.whole("PublishedPort") for port in open_ports},
    )  # fmt: skip


def _entries(status: Part) -> Sequence[Part]:
    if not status.value:
        return ()
    return [port for port in status.get("Ports").items() if port.get("PublishedPort").value]


def _node(row: Part) -> Node:
    status, manager = row.get("Status"), row.get("ManagerStatus")
    address = status.text("Addr", "")
    if address in {"", "0.0.0.0"} and manager.value:  # noqa: S104 - what a manager may say of itself
        address = manager.text("Addr").rpartition(":")[0]
    return Node(
        id=row.text("ID"), name=row.get("Description").text("Hostname"), address=address, state=status.text("State"),
        availability=row.get("Spec").text("Availability"),
    )  # fmt: skip
