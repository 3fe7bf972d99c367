from __future__ import annotations

import copy
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import pytest

from stackyard.checks import running_stacks
from stackyard.checks.records import examine
from stackyard.checks.running_stacks import Container, Running
from stackyard.errors import EngineError

if TYPE_CHECKING:
    from stackyard.stacks.environments.stack import Stack

STATUS = {
    "Uid": "10001 10001 10001 10001", "Gid": "10001 10001 10001 10001", "CapEff": "0000000000000000",
    "CapPrm": "0000000000000000", "CapBnd": "0000000000000000", "CapAmb": "0000000000000000", "NoNewPrivs": "1",
    "Seccomp": "2",
}  # fmt: skip
HOST = {"Memory": 1000, "MemorySwap": 1000, "PidsLimit": 32, "NanoCpus": 500_000_000, "NetworkMode": "x"}
FACTS: dict[str, Any] = {"HostConfig": HOST, "State": {"Status": "running", "Health": {"Status": "healthy"}}}
LIMITS = {"memory.max": "1000", "memory.swap.max": "0", "pids.max": "32", "cpu.max": "50000 100000"}
SOUND = Container(
    service="redis", facts=FACTS, status=STATUS, command="redis-server\0", limits=LIMITS,
    mounts={"/": "ro,relatime", "/tmp": "rw"},
)  # fmt: skip


def found(container: Container, **more: Any) -> list[tuple[str, str]]:
    stack = Running(containers=[container], secrets=["hunter2"], **more)
    return [(item.check, item.found) for out in examine(running_stacks.CHECKS, stack, "x") for item in out.findings]


def test_a_sound_stack_passes_every_check() -> None:
    assert found(SOUND, listeners=[("127.0.0.1", 9500), ("::1", 9501)]) == []


def status(**changes: str) -> Container:
    return replace(SOUND, status=STATUS | changes)


def facts(**changes: Any) -> Container:
    return replace(SOUND, facts=copy.deepcopy(FACTS) | {"HostConfig": HOST | changes})


def state(word: str, health: str | None) -> Container:
    return replace(SOUND, facts=FACTS | {"State": {"Status": word, "Health": {"Status": health} if health else None}})


PLANTED = {
    "root": (status(Uid="10001 0 10001 10001"), "stack-user", "redis: Uid 10001 0 10001 10001"),
    "capability": (status(CapBnd="00000000a80425fb"), "stack-capabilities", "redis: CapBnd 00000000a80425fb"),
    "new privileges": (status(NoNewPrivs="0"), "stack-no-new-privileges", "redis: NoNewPrivs 0"),
    "no filter": (status(Seccomp="0"), "stack-seccomp", "redis: Seccomp 0"),
    "writable root": (replace(SOUND, mounts={"/": "rw"}), "stack-read-only", "redis: / is mounted rw"),
    "unknown root": (replace(SOUND, mounts={}), "stack-read-only", "redis: / is mounted unknown"),
    "limit not enforced": (
        replace(SOUND, limits=LIMITS | {"memory.max": "max"}), "stack-limits", "redis: memory.max max, asked 1000"
    ),
    "no CPU limit": (
        replace(SOUND, limits=LIMITS | {"cpu.max": "max 100000"}), "stack-limits", "redis: cpu.max max 100000"
    ),
    "no limits asked for": (
        replace(facts(NanoCpus=0), limits={}), "stack-limits", "redis: asks for no limits"
    ),
    "unhealthy": (state("running", "unhealthy"), "stack-health", "redis: running, health unhealthy"),
    "paused": (state("paused", "healthy"), "stack-health", "redis: paused, health healthy"),
    "no health check": (state("running", None), "stack-health", "redis: running, health none"),
    "secret in inspect": (
        facts(Env=["X=hunter2"]), "stack-secret", "redis: a secret of the lease in docker inspect"
    ),
    "secret in the command": (
        replace(SOUND, command="redis-server\0--requirepass\0hunter2"), "stack-secret",
        "redis: a secret of the lease in command line or environment",
    ),
    "host network": (facts(NetworkMode="host"), "stack-host", "redis: NetworkMode host"),
    "privileged": (facts(Privileged=True, Devices=[{}]), "stack-host", "redis: privileged, devices"),
    "the engine's socket": (
        replace(SOUND, mounts={"/": "ro", "/run/docker.sock": "rw"}), "stack-host", "redis: /run/docker.sock"
    ),
}  # fmt: skip


@pytest.mark.parametrize("defect", PLANTED)
def test_a_planted_defect_is_found_by_exactly_its_check(defect: str) -> None:
    container, check, words = PLANTED[defect]

    assert [(name, text[: len(words)]) for name, text in found(container)] == [(check, words)]


def test_a_listener_on_another_address_is_found() -> None:
    told = found(SOUND, listeners=[("10.0.0.1", 9500), ("127.0.0.1", 9501), ("fe80::1%eth0", 9502)])

    assert told == [("stack-listeners", "10.0.0.1:9500"), ("stack-listeners", "fe80::1%eth0:9502")]


def test_a_host_without_these_control_groups_is_judged_by_what_was_asked_for() -> None:
    assert found(replace(SOUND, limits={})) == []


def test_the_host_s_own_table_of_sockets_is_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        listeners = running_stacks._listeners(frozenset({port}))

    assert listeners == [("127.0.0.1", port)]


class Api:
    """The calls of the engine's client that looking needs."""

    answers: ClassVar = {
        "/proc/1/status": b"Name:\tredis\nUid:\t10001\t10001\t10001\t10001\n",
        "/proc/1/mounts": b"overlay / overlay ro,relatime 0 0\nshort line\n",
        "/proc/1/cmdline": b"redis-server\0A=b\0",
        "/sys/fs/cgroup/memory.max": b"1000\n0\n32\n50000 100000\n",
    }

    def __init__(self, *, code: int = 0) -> None:
        self.code = code

    def inspect_container(self, _identity: str) -> dict[str, Any]:
        return FACTS

    def exec_create(self, _container: str, words: list[str]) -> dict[str, str]:
        return {"Id": words[1]}

    def exec_start(self, identity: str) -> bytes:
        return self.answers[identity]

    def exec_inspect(self, _identity: str) -> dict[str, int]:
        return {"ExitCode": self.code}


class FakeStack:
    """A stack of one container, and its lease."""

    labels = ("stackyard.lease=l1",)

    def __init__(self, api: Any) -> None:
        self.api = api
        self.engine = self.lease = self
        self.ports = {"redis": 1}
        self.spare = (2,)
        self.id, self.name = "c1", "c1"

    def containers(self) -> list[FakeStack]:
        vars(self)["labels"] = {"com.docker.compose.service": "redis"}
        return [self]

    def secrets(self) -> list[str]:
        return ["hunter2"]


@pytest.mark.parametrize(("code", "limits"), [(0, LIMITS), (1, {})])
def test_looking_reads_what_the_kernel_says_inside(code: int, limits: dict[str, str]) -> None:
    stack = running_stacks.look(cast("Stack", FakeStack(Api(code=code))))

    (container,) = stack.containers
    assert container.service == "redis"
    assert container.status["Uid"] == "10001 10001 10001 10001"
    assert container.mounts == {"/": "ro,relatime"}
    assert container.limits == limits
    assert (stack.secrets, list(stack.listeners)) == (["hunter2"], [])


def test_a_container_that_ended_meanwhile_is_the_engine_s_plain_error() -> None:
    class Gone(Api):
        def exec_create(self, _container: str, words: list[str]) -> dict[str, str]:
            del words
            raise OSError("gone")

    with pytest.raises(EngineError, match=r"looking into container c1: .* \(gone\)"):
        running_stacks.look(cast("Stack", FakeStack(Gone())))
