"""What the engine says about the containers of a stack: all of them in one list, one in detail, and their images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stackyard.docker.engine import plain_errors
from stackyard.docker.json_fields import Part
from stackyard.docker.records import SERVICE_LABEL, ContainerState
from stackyard.docker.streams import Stream
from stackyard.docker.time_limit import allowing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stackyard.docker.engine import Engine

SHARED: Final = "container:"  # begins the network mode of a container that shares another's namespace
ONE_OFF_LABEL: Final = "com.docker.compose.oneoff"
CHANGES: Final = ("create", "start", "die", "destroy", "rename")  # commands inside are events too, but no changes
ANYWHERE: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - recognised, not bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """
    One container of a list.

    Attributes:
        id: The engine's id.
        name: Its name.
        service: Its service.
        image: The id of its image.
        status: created, running, paused, restarting, removing, exited or dead.
        unhealthy: Whether its health check has failed as often as its file allows.
    """

    id: str
    name: str
    service: str
    image: str
    status: str
    unhealthy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """
    Where one container can be reached.

    Attributes:
        state: How it is doing.
        pid: Its first process, as the engine's host counts them; 0 while it does not run.
        address: Its own address in one of its networks; empty without one.
        published: Host address and port of each published port, by ``80/tcp`` and the like.
    """

    state: ContainerState
    pid: int
    address: str
    published: Mapping[str, tuple[str, int]]


def seen(engine: Engine, labels: Sequence[str]) -> list[Seen]:
    """
    List the containers that carry every label of *labels* and that a service runs; leave out `docker compose run`'s.

    Raises:
        EngineError: If the engine does not answer.
    """
    with plain_errors("listing containers"):
        rows = Part(engine.api.containers(all=True, filters={"label": [*labels]})).items()
        return [_seen(row) for row in rows if row.get("Labels").texts().get(ONE_OFF_LABEL) != "True"]


class Changes(Stream):
    """
    The moments at which containers appear, start, end or go, until another thread calls *close*.

    Args:
        engine: Where they are.
        labels: Labels that each of them carries, as ``key=value``.
    """

    def __init__(self, engine: Engine, labels: Sequence[str]) -> None:
        super().__init__()
        self._engine = engine
        self._labels = [*labels]

    def __iter__(self) -> Iterator[None]:
        """
        Give the moment from which changes are seen, then each change.

        Raises:
            EngineError: If the engine does not answer.
        """
        with plain_errors("watching containers"):
            with allowing(quiet=True):
                filters = {"type": "container", "event": [*CHANGES], "label": self._labels}
                stream = self._engine.api.events(filters=filters, decode=True)
            with self._reading(stream) as changes:
                yield None
                yield from (None for _ in changes)


def _seen(row: Part) -> Seen:
    names, labels = row.get("Names").words(), row.get("Labels").texts()
    return Seen(
        id=row.text("Id"), name=names[0].lstrip("/") if names else row.text("Id")[:12],
        service=labels.get(SERVICE_LABEL, ""), image=row.text("ImageID"), status=row.text("State"),
        unhealthy="(unhealthy)" in row.text("Status", ""),
    )  # fmt: skip


def place(engine: Engine, container: str) -> Place:
    """
    Inspect one container; if it shares another's network namespace, its address and ports are that one's.

    Raises:
        RefusedError: If there is no such container.
        EngineError: If the engine does not answer.
    """
    with plain_errors(f"inspecting container {container[:80]}"):
        answer = engine.api.inspect_container(container)
        whole, state = Part(answer), ContainerState.from_inspect(answer)
        mode = whole.get("HostConfig").text("NetworkMode", "")
        owner = Part(engine.api.inspect_container(mode.removeprefix(SHARED))) if mode.startswith(SHARED) else whole
        ends = owner.get("NetworkSettings")
        addresses = (end.text("IPAddress", "") for _, end in ends.get("Networks").members())
        return Place(
            state=state, pid=whole.get("State").whole("Pid", 0), address=next(filter(None, addresses), ""),
            published={port: found for port, bound in ends.get("Ports").members() if (found := _published(bound))},
        )  # fmt: skip


def _published(bound: Part) -> tuple[str, int] | None:
    for end in bound.items():
        host = end.text("HostIp", "")
        return ("127.0.0.1" if host in ANYWHERE else host, int(end.text("HostPort")))
    return None


def image(engine: Engine, identity: str) -> Mapping[str, Any]:
    """
    Return what the engine says of one image.

    Raises:
        RefusedError: If there is no such image.
        EngineError: If the engine does not answer.
    """
    with plain_errors(f"inspecting image {identity[:40]}"):
        found: Mapping[str, Any] = engine.api.inspect_image(identity)  # type: ignore[no-untyped-call]
        return found
