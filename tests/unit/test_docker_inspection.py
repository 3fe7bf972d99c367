"""What the engine says of a stack's containers, and commands inside them that may be given up: a made-up engine."""

from __future__ import annotations

import struct
import threading
from typing import TYPE_CHECKING, Any

import fake_engine as fakes
import pytest

from stackyard.docker import Engine, inspection
from stackyard.docker.container_commands import Command
from stackyard.errors import EngineError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STATE = {"Status": "running", "ExitCode": 0, "OOMKilled": False, "StartedAt": "2026-01-01T00:00:00Z", "Pid": 77}


def inspected(identity: str, *, mode: str = "bridge", **network: Any) -> dict[str, Any]:
    settings = {"Networks": {"none": {"IPAddress": ""}}, "Ports": {}} | network
    return {
        "Id": identity, "Config": {"Labels": {}}, "State": STATE, "HostConfig": {"NetworkMode": mode},
        "NetworkSettings": settings,
    }  # fmt: skip


class Answering(fakes.FakeEngine):
    """An engine that answers each path with what a test wants."""

    answers: dict[str, Any]

    def answer(
        self, method: str, path: str, query: dict[str, list[str]], body: dict[str, Any] | None = None
    ) -> tuple[int, Any]:
        del query
        self.requests.append(f"{method} {body}")
        found = self.answers.get(path.partition("/v1.44/")[2])
        if isinstance(found, threading.Event):
            found.wait(60)
            return 200, b""
        return (200, found) if found is not None else (404, {"message": "no such thing"})


@pytest.fixture
def answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Answering]:
    made = Answering()
    made.answers = {"_ping": "OK"}
    server = fakes.serve(made, tmp_path / "socket")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'socket'}")
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def engine(answering: Answering) -> Iterator[Engine]:
    assert answering.answers
    with Engine(deadline=20) as connected:
        yield connected


def test_the_containers_of_services_are_listed_without_those_of_run(answering: Answering, engine: Engine) -> None:
    service = {"com.docker.compose.service": "web"}
    row = {"Id": "a" * 64, "Names": ["/x-web-1"], "Labels": service, "ImageID": "sha256:1", "State": "exited"}
    one_off = row | {"Labels": service | {inspection.ONE_OFF_LABEL: "True"}}
    other = row | {"Names": [], "Labels": {inspection.ONE_OFF_LABEL: "False"}}
    answering.answers["containers/json"] = [row, one_off, other]

    first, second = inspection.seen(engine, ["a=b"])

    assert first == inspection.Seen(id="a" * 64, name="x-web-1", service="web", image="sha256:1", status="exited")
    assert (second.name, second.service) == ("a" * 12, "")


def test_a_container_is_reached_at_its_address_and_its_published_ports(answering: Answering, engine: Engine) -> None:
    ports = {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8081"}],  # noqa: S104 - as Docker says
        "81/tcp": [{"HostIp": "127.0.0.5", "HostPort": "9"}],
        "82/tcp": None,
    }
    networks = {"a": {"IPAddress": ""}, "b": {"IPAddress": "172.18.0.2"}}
    answering.answers["containers/c/json"] = inspected("c", Networks=networks, Ports=ports)

    place = inspection.place(engine, "c")

    assert (place.pid, place.address, place.state.status) == (77, "172.18.0.2", "running")
    assert place.published == {"80/tcp": ("127.0.0.1", 8080), "81/tcp": ("127.0.0.5", 9)}


def test_a_container_in_anothers_network_is_reached_at_that_ones_address(answering: Answering, engine: Engine) -> None:
    answering.answers["containers/c/json"] = inspected("c", mode="container:owner")
    answering.answers["containers/owner/json"] = inspected("owner", Networks={"a": {"IPAddress": "172.18.0.9"}})

    assert inspection.place(engine, "c").address == "172.18.0.9"


def test_an_image_is_shown_as_the_engine_says(answering: Answering, engine: Engine) -> None:
    answering.answers["images/sha256:1/json"] = {"Config": {}}

    assert inspection.image(engine, "sha256:1") == {"Config": {}}
    with pytest.raises(RefusedError, match="inspecting image sha256:2: the engine refused: no such thing"):
        inspection.image(engine, "sha256:2")


def test_a_command_inside_tells_its_exit_code_and_its_output(answering: Answering, engine: Engine) -> None:
    answering.answers["containers/c/exec"] = {"Id": "e"}
    answering.answers["exec/e/start"] = b"".join(
        struct.pack(">BxxxL", n, 3) + text for n, text in ((1, b"out"), (2, b"err"))
    )
    answering.answers["exec/e/json"] = {"ExitCode": 5}

    assert Command(engine, "c", ["psql", "-V"]).run() == (5, "outerr")
    assert any("'psql', '-V'" in request for request in answering.requests)


@pytest.mark.parametrize("early", [True, False])
def test_a_command_that_is_given_up_ends_at_once(answering: Answering, engine: Engine, *, early: bool) -> None:
    never = threading.Event()
    answering.answers["containers/c/exec"] = {"Id": "e"}
    answering.answers["exec/e/start"] = struct.pack(">BxxxL", 1, 3) + b"out" if early else never
    answering.answers["exec/e/json"] = {"ExitCode": None}
    command = Command(engine, "c", ["sleep", "9"])

    closing = threading.Timer(0.0 if early else 0.1, command.close)
    if early:
        command.close()
    else:
        closing.start()
        threading.Timer(0.2, never.set).start()
    with pytest.raises(EngineError, match="running a command in container c"):
        command.run()
