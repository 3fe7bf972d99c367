from __future__ import annotations

import os
import sys
import types
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import pytest
from fake_docker import install_docker
from fake_stacks import STEPS, FakeArena, left_container, result

from stackyard.bench import (
    footprint_reset_pool,
    host_memory,
    leases,
    parallel,
    peers,
    pools,
    requirements,
    resets,
    startup,
    suites,
)
from stackyard.bench.configuration import Ready
from stackyard.bench.harness import Arena
from stackyard.bench.methods import DropIn, Own, Plain, Rival, Round, description, starters, steps_of
from stackyard.bench.options import Plan
from stackyard.bench.records import Findings, Step
from stackyard.errors import CommandError, EngineError, NotReadyError, UsageError
from stackyard.stacks.starts.times import Startup

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from stackyard.docker import Engine


@pytest.fixture
def arena(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeArena:
    made = FakeArena(tmp_path)
    for module in (startup, parallel):
        monkeypatch.setattr(module, "Arena", made)
    monkeypatch.setattr("stackyard.bench.methods.whole", list)
    return made


class Slow(Plain):
    """A way that takes the seconds it is given, in turn."""

    def __init__(self, name: str, *seconds: float) -> None:
        super().__init__(name=name, subject=name)
        object.__setattr__(self, "seconds", list(seconds))

    seconds: list[float]

    def take(self, stack: Any) -> Round:
        del stack
        took = self.seconds.pop(0)
        return Round(up=took, down=took / 2, memory=50 << 20, steps=(Step(name=f"{took}", begin=0, end=took),))


def test_starts_are_compared_round_by_round_and_the_first_does_not_count(arena: FakeArena) -> None:
    own, reference, plain = (
        Slow("stackyard", 9, 1, 2, 3),
        Slow("compose-100ms", 9, 4, 4, 4),
        Slow("compose", 9, 5, 5, 5),
    )

    found = startup.measure(Plan(rounds=3), [own, reference, plain])

    started, ratio, gone = (
        found.find(*key) for key in (
            ("startup", "stackyard"), ("startup", "ratio-compose-100ms"), ("cleanup", "ratio-compose")
        )
    )  # fmt: skip
    assert (started.samples, started.target, started.verdict) == ((1.0, 2.0, 3.0), 30.0, "PASS")  # type: ignore[union-attr]
    assert (ratio.target, gone.target) == (0.5, 0.5)  # type: ignore[union-attr]
    assert ratio.samples == (0.25, 0.5, 0.75)  # type: ignore[union-attr]
    assert gone.samples == (0.2, 0.4, 0.6)  # type: ignore[union-attr]
    assert [step.name for step in found.waterfall] == ["2"]
    assert found.notes == (peers.MISSING,)
    assert found.find("startup", "memory-compose").median == 50 << 20  # type: ignore[union-attr]
    assert len([call for call in arena.calls if call.startswith("down")]) == 12


def test_a_way_that_fails_is_counted_and_the_others_go_on(arena: FakeArena) -> None:
    class Broken(Slow):
        def take(self, stack: Any) -> Round:
            del stack
            raise CommandError(["docker"], 1, "no such\nimage")

    found = startup.measure(Plan(rounds=2), [Slow("stackyard", 1, 1, 1), Broken("compose-100ms")])

    broken = found.find("startup", "compose-100ms")
    assert broken is not None
    assert (broken.n, broken.failed, broken.median) == (0, 2, None)
    assert broken.reason.startswith("docker failed with exit code 1: no such image")
    assert found.find("startup", "ratio-compose-100ms") is None
    assert arena.left == []


def test_what_a_way_leaves_behind_is_its_failure(arena: FakeArena) -> None:
    arena.left = [left_container("l0")]

    found = startup.measure(Plan(rounds=1), [Slow("stackyard", 1, 1)])

    own = found.find("cleanup", "stackyard")
    assert own is not None
    assert (own.failed, own.verdict, own.reason) == (1, "FAIL", "1 left by its own removal: container forgotten")


def test_the_order_turns_with_each_round(arena: FakeArena) -> None:
    said: list[str] = []

    startup.race(arena, [Slow("a", 1, 1), Slow("b", 1, 1)], 1, said.append)  # type: ignore[arg-type]

    assert [line.split(": ")[1] for line in said if ": " in line] == ["a", "b", "b", "a"]


def test_after_the_warm_up_the_user_reads_how_long_the_other_rounds_take(
    arena: FakeArena, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    clock = iter([100.0, 160.0])
    monkeypatch.setattr(startup, "time", SimpleNamespace(monotonic=lambda: next(clock)))

    startup.race(arena, [Slow("a", *[1] * 11)], 10, said.append)  # type: ignore[arg-type]

    assert said[1] == "round 0 only warms up; at this pace the other 10 rounds take 10 min"


def test_stackyard_is_timed_as_its_user_sees_it(tmp_path: Path) -> None:
    arena = FakeArena(tmp_path, delay=0.05)

    taken = Own().take(arena.new())  # type: ignore[arg-type]

    assert taken.up >= 0.05
    assert taken.down < taken.up
    steps = {step.name: (step.begin, step.end) for step in taken.steps}
    assert steps["render"] == STEPS["render"]
    assert steps["ready backend"] == (0.4, 0.5)
    assert steps["ready websocket"] == (0.4, 0.55)
    assert steps["ready postgres"] == (0.4, 0.45)


def test_plain_compose_is_given_its_own_timing_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    install_docker(tmp_path, f'echo "$STACKYARD_HEALTH_START_INTERVAL" >> "{tmp_path}/seen"')
    compose = SimpleNamespace(command=lambda *words: ["docker", "compose", *words])

    engine = SimpleNamespace(containers=lambda _labels: [])
    stack: Any = SimpleNamespace(
        compose=compose, environment=SimpleNamespace(variables=FILE), engine=engine, labels=[]
    )  # fmt: skip
    monkeypatch.setattr(peers, "available", lambda *_: False)
    for way in starters()[1:]:
        assert way.take(stack).memory is None

    assert (tmp_path / "calls").read_text().split("\n")[:2] == ["compose up --wait", "compose down -v"]
    assert (tmp_path / "seen").read_text().split("\n")[:-1] == ["250ms", "250ms", "100ms", "100ms"]


def test_the_ways_depend_on_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [way.name for way in starters(few=True)] == [
        "stackyard",
        "compose",
        "compose-100ms",
        "testcontainers-compose",
    ]
    assert {way.name for way in starters()} >= set(peers.RIVALS)
    monkeypatch.setattr(peers, "available", lambda *_: False)
    assert [way.name for way in starters()] == ["stackyard", "compose", "compose-100ms"]


FILE = {"STACKYARD_HEALTH_START_INTERVAL": "250ms", "STACKYARD_SUBNET": "10.0.0.0/28"}
MODEL = {
    "services": {
        "postgres": {
            "image": "stackyard/postgres:debian", "environment": {"A": 1}, "labels": {"stackyard.lease": "l1"},
            "user": "10001:10001", "cpus": 1.0, "mem_limit": "402653184", "tmpfs": ["/tmp:size=16m"],
            "volumes": [{"type": "tmpfs", "target": "/data"}, {"type": "volume", "target": "/x"}],
            "ports": [{"target": 5432}],
            "secrets": [{"source": "postgres_password", "target": "/run/secrets/postgres_password"}],
        }
    },
    "secrets": {"postgres_password": {"file": "/state/secrets/postgres_password"}},
}  # fmt: skip


def modelled(tmp_path: Path) -> Any:
    compose = SimpleNamespace(
        model=lambda: MODEL, file=tmp_path / "compose.yml", env_file=tmp_path / ".env", project="p"
    )
    lease = SimpleNamespace(ports={"postgres": 9500}, subnet="10.0.0.0/28")
    return SimpleNamespace(compose=compose, lease=lease, environment=SimpleNamespace(variables=FILE, root=tmp_path))


def test_a_rival_is_given_all_but_credentials(tmp_path: Path) -> None:
    told = description(modelled(tmp_path))

    assert told["services"]["postgres"] == {
        "image": "stackyard/postgres:debian", "environment": {"A": "1"}, "port": 9500, "target": 5432,
        "tmpfs": {"/tmp": "size=16m", "/data": ""},
        "secrets": {"/state/secrets/postgres_password": "/run/secrets/postgres_password"},
        "options": {"user": "10001:10001", "mem_limit": "402653184", "nano_cpus": 1_000_000_000},
        "ready": Ready(),
    }  # fmt: skip
    assert told["labels"] == {"stackyard.lease": "l1"}


def standing(tmp_path: Path) -> Any:
    stack = modelled(tmp_path)
    stack.lease.id, stack.labels = "l1", ["stackyard.lease=l1"]
    memory = SimpleNamespace(used=5)
    stack.engine = SimpleNamespace(containers=lambda _labels: [SimpleNamespace(id="c")], memory=lambda _id: memory)
    return stack


def test_a_rival_runs_with_the_timing_of_the_env_file_and_is_left_as_it_was_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []

    @contextmanager
    def block(given: Mapping[str, Any]) -> Iterator[None]:
        seen.append(given["project"])
        seen.append(os.environ.get("STACKYARD_HEALTH_START_INTERVAL"))
        yield
        seen.append("left")

    monkeypatch.setenv("STACKYARD_HEALTH_START_INTERVAL", "9s")
    monkeypatch.setitem(peers.RIVALS, "testcontainers", block)

    taken = Rival(name="testcontainers", subject="").take(standing(tmp_path))

    assert seen == ["p", "250ms", "left"]
    assert (os.environ["STACKYARD_HEALTH_START_INTERVAL"], "STACKYARD_SUBNET" in os.environ) == ("9s", False)
    assert (taken.memory, taken.up >= 0, taken.down >= 0) == (5, True, True)


def test_what_a_library_raises_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def broken(given: Mapping[str, Any]) -> Iterator[None]:
        if not given:
            yield
        raise TimeoutError("no such line")

    monkeypatch.setitem(peers.RIVALS, "pytest-docker", broken)

    with pytest.raises(NotReadyError, match=r"^theirs: TimeoutError: no such line$"):
        Rival(name="pytest-docker", subject="theirs").take(standing(tmp_path))


def test_the_drop_in_s_memory_is_that_of_its_own_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"a": 3, "b": 4}

    @contextmanager
    def block(_: Mapping[str, Any]) -> Iterator[None]:
        yield

    def copy(given: Mapping[str, Any]) -> Any:
        made = block(given)
        made.get_containers = lambda: [SimpleNamespace(ID=key) for key in sizes]  # type: ignore[attr-defined]
        return made

    monkeypatch.setitem(peers.RIVALS, "drop-in", copy)
    stack = standing(tmp_path)
    stack.engine.memory = lambda key: SimpleNamespace(used=sizes[key])

    assert DropIn().take(stack).memory == 7


def test_testcontainers_works_without_its_reaper_and_on_this_host() -> None:
    from testcontainers.core.config import testcontainers_config as config

    peers.load("testcontainers-compose")

    assert (config.ryuk_disabled, config.tc_host_override) == (True, "127.0.0.1")


class Recorder:
    """Stands in for the libraries: every call and entered block is noted."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes
        self.ports: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        def note(*_args: Any, **_kwargs: Any) -> Recorder:
            self.notes.append(name)
            return self

        return note

    def __enter__(self) -> Self:
        self.notes.append("enter")
        return self

    def __exit__(self, *_: object) -> None:
        self.notes.append("exit")


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    notes: list[str] = []
    for name in (
        "testcontainers", "testcontainers.compose", "testcontainers.core", "testcontainers.core.network",
        "testcontainers.core.container", "testcontainers.core.wait_strategies", "pytest_docker", "pytest_docker.plugin",
        "stackyard.testcontainers",
    ):  # fmt: skip
        module = types.ModuleType(name)
        module.__getattr__ = lambda attribute: lambda *_a, **_k: getattr(Recorder(notes), attribute)()  # type: ignore[method-assign]
        monkeypatch.setitem(sys.modules, name, module)
    return notes


GIVEN: dict[str, Any] = {
    "file": "/c.yml", "env_file": "e", "project": "p", "subnet": "10.0.0.0/28", "labels": {},
    "services": {
        name: {
            "image": "i", "environment": {}, "port": 1, "target": 80, "tmpfs": {}, "secrets": {"/a": "/b"},
            "options": {}, "ready": ready,
        }
        for name, ready in {"a": Ready(log="here"), "b": Ready(log="there"), "c": Ready(), "d": Ready()}.items()
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "entered"), [("testcontainers-compose", 1), ("testcontainers", 5), ("pytest-docker", 1), ("drop-in", 1)]
)
def test_every_rival_starts_and_removes_what_it_started(name: str, entered: int, libraries: list[str]) -> None:
    with peers.RIVALS[name](GIVEN):
        assert libraries.count("exit") == 0

    assert (libraries.count("enter"), libraries.count("exit")) == (entered, entered)


def crowded(arena: FakeArena, monkeypatch: pytest.MonkeyPatch) -> None:
    def launch(*_: object, **__: object) -> Any:
        stack = arena.new()
        return stack, stack.up()

    monkeypatch.setattr(parallel, "launch", launch)
    monkeypatch.setattr(parallel, "_listening", lambda: {1, 2})


def test_a_crowd_is_measured_whole_and_one_by_one(arena: FakeArena, monkeypatch: pytest.MonkeyPatch) -> None:
    crowded(arena, monkeypatch)
    arena.delay = 0.01

    found = parallel.measure(Plan(depth="full", parallel=6))

    rows = {row.row: row for row in found.results}
    assert rows["start-6"].n == rows["removal-6"].n == rows["memory-6"].n == rows["wait-6"].n == 6
    assert (rows["start-6"].median, rows["wait-6"].median) == (0.55, 0.0)
    assert [rows[f"wall-up-{size}"].at for size in (1, 3, 6)] == [1.0, 3.0, 6.0]
    assert rows["memory-6"].median == 30 << 20
    assert rows["host-memory-6"].n == 1
    assert rows["host-memory-3"].reason == parallel.TOO_FEW
    assert rows["failed-6"].verdict == rows["clashes-6"].verdict == rows["left-6"].verdict == "PASS"
    assert rows["growth"].unit == "x"
    assert found.notes == ()


def test_a_stack_that_fails_fails_the_crowd_and_says_why(arena: FakeArena, monkeypatch: pytest.MonkeyPatch) -> None:
    crowded(arena, monkeypatch)
    crowd_trouble = NotReadyError("not ready after 30 s:\n  auth")

    def first_fails(*_: object, **__: object) -> Any:
        if crowd_trouble not in seen:
            seen.append(crowd_trouble)
            raise crowd_trouble
        stack = arena.new()
        return stack, stack.up()

    seen: list[Exception] = []
    monkeypatch.setattr(parallel, "launch", first_fails)

    found = parallel.measure(Plan(parallel=2))

    rows = {row.row: row for row in found.results}
    assert (rows["start-2"].n, rows["start-2"].failed) == (1, 1)
    assert (rows["failed-2"].figure, rows["failed-2"].verdict) == (1, "FAIL")
    assert found.notes == ("2 stacks at once: one failed: not ready after 30 s: auth",)


def test_what_is_left_of_a_crowd_is_counted_by_kind(arena: FakeArena, monkeypatch: pytest.MonkeyPatch) -> None:
    crowded(arena, monkeypatch)
    monkeypatch.setattr(parallel, "_listening", lambda: {40010})
    arena.book.leases = iter([["other"], ["other"], ["other", "ours"]]).__next__
    arena.left = [left_container("l1"), left_container("stranger")]
    next(arena._numbers)
    arena.book.leases()

    crowd = parallel.stand(arena, 1, print)  # type: ignore[arg-type]

    assert crowd.left == {"containers": 1, "networks": 0, "volumes": 0, "listening ports": 1, "leases": 1}
    (note,) = parallel._told(crowd)
    assert note == "1 stack at once left 1 container, 1 listening port, 1 lease"
    rows = {row.row: row for row in parallel.results(crowd, Plan())}
    assert (rows["left-1"].figure, rows["left-1"].verdict) == (3, "FAIL")


def test_ports_of_two_leases_that_are_the_same_are_clashes() -> None:
    one = SimpleNamespace(ports={"postgres": 1, "websocket": 2, "backend": 2}, spare=(3,))
    other = SimpleNamespace(ports={"postgres": 3}, spare=(4, 5))

    assert parallel._clashes([one, other]) == 1  # type: ignore[list-item]


def test_listening_ports_are_the_kernels() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        assert server.getsockname()[1] in parallel._listening()


def test_an_interrupted_crowd_begins_nothing_new_and_removes_what_stands(
    arena: FakeArena, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded(arena, monkeypatch)

    def interrupted(*_: object, **__: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(parallel, "_look", interrupted)
    with pytest.raises(KeyboardInterrupt):
        parallel.stand(arena, 2, print)  # type: ignore[arg-type]

    assert {"down l0", "down l1"} <= set(arena.calls)


class Standing(Plain):
    """A way whose stacks stand as soon as it is asked; *broken* ones fail."""

    def __init__(self, *, broken: int = 0) -> None:
        super().__init__(name="other", subject="other way")
        object.__setattr__(self, "calls", [])
        object.__setattr__(self, "broken", [NotReadyError("not ready") for _ in range(broken)])

    calls: list[str]
    broken: list[NotReadyError]

    def prepare(self, stack: Any) -> None:
        self.calls.append(f"prepare {stack.lease.id}")

    def up(self, stack: Any) -> tuple[Step, ...]:
        if self.broken:
            raise self.broken.pop()
        self.calls.append(f"up {stack.lease.id}")
        return ()

    def down(self, stack: Any) -> None:
        self.calls.append(f"down {stack.lease.id}")


def test_other_ways_start_as_many_in_leases_they_were_given_before(
    arena: FakeArena, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded(arena, monkeypatch)
    way = Standing()

    rows = {row.row: row for row in parallel.measure(Plan(depth="quick"), [way]).results}

    assert [call.split()[0] for call in way.calls] == ["prepare"] * 3 + ["up"] * 3 + ["down"] * 3
    assert (rows["other-start-3"].n, rows["other-removal-3"].n, rows["other-memory-3"].median) == (3, 3, 30 << 20)
    assert (rows["other-wall-up-3"].subject, rows["other-wall-up-3"].target) == ("other way", None)
    assert "other-left-3" not in rows
    assert rows["wall-up-3"].subject == "stackyard"


def test_a_stack_that_another_way_cannot_start_is_its_own_failure_and_is_removed(
    arena: FakeArena, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded(arena, monkeypatch)

    found = parallel.measure(Plan(depth="quick"), [Standing(broken=1)])

    rows = {row.row: row for row in found.results}
    assert (rows["other-start-3"].failed, rows["other-start-3"].n, rows["other-removal-3"].n) == (1, 2, 2)
    assert (rows["other-failed-3"].figure, rows["other-failed-3"].verdict) == (1, None)
    assert found.notes == ("3 stacks by other way at once: one failed: not ready",)
    leases = {call.split()[1] for call in arena.calls}
    assert {f"down {lease}" for lease in leases} <= set(arena.calls)


def test_memory_of_the_host_is_read_for_each_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(n: int, *, name: str, way: Any = None) -> list[float]:
        assert name == "test"
        if way is not None and way.name == "testcontainers-compose":
            raise NotReadyError("no line")
        return [60_000_000.0 if way else 66_000_000.0] * n

    monkeypatch.setattr(host_memory, "measure", measure)

    rows = {row.row: row for row in footprint_reset_pool.measure(Plan(depth="quick"), "footprint").results}

    assert (rows["footprint"].verdict, rows["footprint-compose-100ms"].verdict) == (None, None)
    assert rows["footprint-compose-100ms"].median == 60_000_000
    assert (rows["added"].median, rows["added"].target, rows["added"].verdict) == (6_000_000, 5_000_000, "FAIL")
    failed = rows["footprint-testcontainers-compose"]
    assert (failed.failed, failed.reason, failed.target) == (1, "no line", None)


def test_requirements_take_the_worst_of_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "alpine_sizes", lambda: [64e6, 201e6])
    monkeypatch.setattr(requirements, "bare", list)
    found = Findings(
        results=(
            result("startup", "stackyard", 1.0, 2.0), result("parallel", "start-3", 31.0, 5.0),
            result("services", "stack-memory", 100 << 20, unit="bytes"), result("parallel", "failed-3", 0.0),
        )
    )  # fmt: skip

    rows = {row.row: row for row in requirements.measure(Plan(depth="quick"), found).results}

    assert (rows["start-up"].figure, rows["start-up"].verdict) == (31.0, "FAIL")
    assert rows["memory"].figure == 100 << 20
    assert rows["start-up"].command == "./noxw -s bench -- parallel startup requirements --quick"
    assert "clean-up" not in rows
    assert (rows["alpine-image"].figure, rows["alpine-image"].verdict) == (201_000_000, "FAIL")
    assert (rows["limits"].figure, rows["limits"].verdict) == (0, "PASS")


def test_a_requirement_that_cannot_be_looked_at_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> list[float]:
        raise EngineError("no engine answers")

    monkeypatch.setattr(requirements, "alpine_sizes", away)
    monkeypatch.setattr(requirements, "bare", lambda: ["test/auth"])

    rows = {row.row: row for row in requirements.measure(Plan(), Findings()).results}

    assert (rows["alpine-image"].figure, rows["alpine-image"].reason) == (None, "no engine answers")
    assert (rows["limits"].figure, rows["limits"].verdict) == (1, "FAIL")


def test_a_requirement_whose_every_attempt_failed_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "alpine_sizes", list)
    monkeypatch.setattr(requirements, "bare", list)
    found = Findings(results=(result("startup", "stackyard", failed=3, reason="not ready"),))

    rows = {row.row: row for row in requirements.measure(Plan(), found).results}

    assert (rows["start-up"].figure, rows["start-up"].verdict, rows["start-up"].reason) == (None, "FAIL", "not ready")
    assert set(rows) == {"start-up", "alpine-image", "limits"}


def test_every_service_needs_limits_and_a_health_check() -> None:
    good = {"mem_limit": "1", "cpus": 1, "pids_limit": 1, "healthcheck": {"test": ["CMD", "true"]}}

    assert requirements._complete(good)
    for change in ({"cpus": None}, {"healthcheck": None}, {"healthcheck": {"test": ["CMD"], "disable": True}}):
        assert not requirements._complete(good | change)


def test_the_models_of_all_environments_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    from stackyard.checks import composition

    model = SimpleNamespace(services={"auth": {}})
    monkeypatch.setattr(composition.Model, "render", lambda *_: model)

    assert requirements.bare() == [f"{name}/auth" for name in ("dev", "test", "alpine-test", "ci")]


def test_alpine_images_count_only_when_all_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    from stackyard import images

    built = [SimpleNamespace(reference="a:1", size=5_000_000), SimpleNamespace(reference="b:1", size=6_000_000)]
    monkeypatch.setattr(images, "listing", lambda: built)
    monkeypatch.setattr(images, "references", lambda _flavour: {"auth": "a:1", "backend": "b:1"})
    assert requirements.alpine_sizes() == [5_000_000, 6_000_000]

    built.pop()
    row = requirements._looked("alpine-image", Plan(), requirements.alpine_sizes)
    assert row.reason == "not built: backend (alpine); build the images ('invoke images.build')"


def test_leases_become_results_with_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(names: list[str], **_: int) -> list[leases.Outcome]:
        return [leases.Outcome(name=name, sharing=9 * (name != "stackyard"), failed=0, seconds=0.5) for name in names]

    taken = {1: [0.0035] * 640, leases.CONTENDING: [0.0035] * 600 + [0.06] * 40}
    monkeypatch.setattr(leases, "compare", compare)
    monkeypatch.setattr(leases, "latencies", lambda processes, _pairs, **_: taken[processes])
    monkeypatch.setattr(leases, "burst_ratio", lambda _size, **_: 3.0)

    rows = {row.row: row for row in leases.measure(Plan(depth="quick")).results}

    assert (rows["sharing-stackyard"].verdict, rows["sharing-bind(0)"].verdict) == ("PASS", None)
    assert (rows["seconds-bind(0)"].median, rows["seconds-bind(0)"].unit) == (0.5, "s")
    assert (rows["alone"].median, rows["alone"].verdict) == (0.0035, "FAIL")
    assert (rows["alone"].samples, rows["alone"].reason) == ((), "640 samples, not kept")
    assert (rows["contending"].p95, rows["contending"].verdict) == (0.06, None)
    assert (rows["contending-p99"].figure, rows["contending-p99"].verdict) == (0.06, "FAIL")
    assert (rows["burst"].subject, rows["burst"].verdict) == ("50 allocating commands at once", "PASS")
    assert {row.command for row in rows.values()} == {Plan(depth="quick").command("leases")}


def test_samples_of_other_modules_become_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resets, "measure", lambda n, **_: {"reset": [0.04] * n, "database": [0.05] * n})

    rows = {row.row: row for row in footprint_reset_pool.measure(Plan(depth="quick"), "reset").results}

    assert (rows["reset"].n, rows["reset"].verdict) == (20, "PASS")
    assert (rows["database"].what, rows["database"].verdict) == ("a database for one test", "FAIL")


def test_a_suite_of_samples_that_fails_is_a_failed_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(_n: int, *, name: str) -> list[float]:
        raise UsageError(f"a pool of {name} is kept by the reaper")

    monkeypatch.setattr(pools, "measure", measure)

    (row,) = footprint_reset_pool.measure(Plan(), "pool").results
    assert (row.failed, row.verdict, row.reason) == (1, "FAIL", "a pool of test is kept by the reaper")


def test_suites_are_chosen_by_name_or_by_depth() -> None:
    assert suites.choose(["pool", "startup"], "default") == ("startup", "pool")
    assert suites.choose([], "quick")[-1] == "requirements"
    assert suites.choose(["all"], "quick") == suites.choose([], "full") == tuple(suites.MODULES)
    with pytest.raises(UsageError, match="no benchmark 'nonsense'; there are: startup"):
        suites.choose(["nonsense"], "quick")


def test_a_run_measures_each_module_once_without_the_reaper(monkeypatch: pytest.MonkeyPatch, fake_engine: Any) -> None:
    del fake_engine
    seen: list[tuple[str, str]] = []

    def imported(name: str) -> Any:
        def measure(_plan: Plan, *more: object) -> Findings:
            seen.append((name.rpartition(".")[2], os.environ[suites.REAPER]))
            return Findings(notes=tuple(str(word) for word in more if isinstance(word, str)))

        return SimpleNamespace(measure=measure)

    monkeypatch.setattr(suites, "importlib", SimpleNamespace(import_module=imported))
    monkeypatch.delenv(suites.REAPER, raising=False)

    found = suites.run(("startup", "cleanup", "reset", "pool", "requirements"), Plan(depth="quick"))

    assert seen == [
        ("startup", "off"),
        ("footprint_reset_pool", "off"),
        ("footprint_reset_pool", "on"),
        ("requirements", "off"),
    ]
    assert found.notes == ("reset", "pool")
    assert (found.depth, found.options["parallel"]) == ("quick", 3)
    assert suites.REAPER not in os.environ
    monkeypatch.setenv(suites.REAPER, "on")
    suites.run(("startup",), Plan())
    assert os.environ[suites.REAPER] == "on"


def test_a_plan_tells_the_command_that_repeats_it() -> None:
    plan = Plan(environment="ci", depth="full", rounds=7, parallel=20)

    assert plan.command("startup") == "./noxw -s bench -- startup --env ci --full --rounds 7 --parallel 20"
    assert Plan().command("startup") == "./noxw -s bench -- startup"
    assert (plan.repeats, plan.stacks, Plan(depth="quick").repeats, Plan(depth="quick").stacks) == (7, 20, 3, 3)
    assert Plan().say("anything") is None  # type: ignore[func-returns-value]


def test_an_arena_leases_a_place_for_each_stack_and_gives_it_back(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("STACKYARD_POOL", "11500-11519")
    monkeypatch.setattr("stackyard.bench.harness.prepare_images", lambda *_: {"STACKYARD_IMAGE_REDIS": "r:1"})
    del engine

    with Arena.open("test", print) as arena, arena.stack() as stack:
        assert [lease.id for lease in arena.book.leases()] == [stack.lease.id]
        assert stack.lease.variables()["STACKYARD_IMAGE_REDIS"] == "r:1"

    assert arena.book.leases() == []


@pytest.mark.parametrize(("at_once", "threads"), [("3", 6), ("off", 2 * parallel.WORKERS)])
def test_twice_as_many_stacks_are_asked_for_as_may_start_at_a_time(
    monkeypatch: pytest.MonkeyPatch, at_once: str, threads: int
) -> None:
    monkeypatch.setenv("STACKYARD_STARTS_AT_ONCE", at_once)

    assert parallel._starters() == threads


def test_a_wait_for_a_turn_is_the_first_step_of_a_waterfall() -> None:
    startup = Startup(seconds=1.0, created=0.5, probes={"auth": 1.0}, steps={"start auth": (0.1, 0.5)}).after(2.0)

    assert [(step.name, step.begin, step.end) for step in steps_of(startup)] == [
        ("turn", 0.0, 2.0), ("start auth", 2.1, 2.5), ("ready auth", 2.5, 3.0),
    ]  # fmt: skip


def test_plain_compose_has_a_name_of_its_own() -> None:
    assert Plain().name == startup.PLAIN
    assert startup.REFERENCE in {way.name for way in starters()}
