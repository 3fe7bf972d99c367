"""The reaper of a Swarm: what it says, what its service consists of; no engine is asked."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from test_swarm_leases import FakeSwarm, task

from stackyard import __version__
from stackyard.docker import images as engine_images
from stackyard.docker.swarm import Node
from stackyard.errors import EngineError, ImageError, LeftoversError, NotReadyError, RefusedError
from stackyard.sites.swarm import reaper, reaper_service, registry, removal
from stackyard.sites.swarm.leases import LEASE_LABEL, Leases
from stackyard.sites.swarm.reaper_service import LABEL, Reaper

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from stackyard.docker.swarm import Item, Swarm


class FakeSite(FakeSwarm):
    """One with a manager's engine, whose services are kept as they were asked for."""

    services: dict[str, Mapping[str, Any]]
    engine: Any = SimpleNamespace(containers=lambda _labels: [])

    def create_service(self, name: str, spec: Mapping[str, Any]) -> None:
        self.services = {name: spec}
        self.add("service", name, spec["Labels"])

    def remove(self, item: Item) -> None:
        super().remove(item)
        self.running = []

    def logs(self, _service: str, *, tail: int) -> list[str]:
        return ["the engine does not answer"][:tail]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> FakeSite:
    monkeypatch.setattr(engine_images, "build", lambda _name, **_: True)
    monkeypatch.setattr(reaper_service, "reference", lambda _swarm, name, _registry: f"{name}@sha256:aa")
    monkeypatch.setattr(registry, "find", lambda _swarm: None)
    return FakeSite(members=[Node(id="n", name="n1", address="127.0.0.1", state="ready", availability="active")])


def start(site: FakeSite) -> Reaper:
    return reaper_service.start(cast("Swarm", site), image="own")


def test_its_service_runs_once_on_a_manager_with_the_socket_and_is_shown_and_removed(site: FakeSite) -> None:
    site.running = [task("running")]

    assert start(site) == start(site) == Reaper(version=__version__, node="n1")
    template = site.services["stackyard-reaper"]["TaskTemplate"]
    assert site.services["stackyard-reaper"]["Mode"] == {"Replicated": {"Replicas": 1}}
    assert template["Placement"] == {"Constraints": ["node.role == manager"]}
    assert template["ContainerSpec"]["Image"].endswith("@sha256:aa")
    socket = {"Type": "bind", "Source": "/var/run/docker.sock", "Target": "/var/run/docker.sock"}
    assert socket in template["ContainerSpec"]["Mounts"]
    assert reaper_service.remove(cast("Swarm", site)) == ["service stackyard-reaper"]
    assert site.items == {}


def test_one_that_stands_is_waited_for_while_it_moves(site: FakeSite) -> None:
    site.add("service", "stackyard-reaper", {LABEL: "0"})
    lost = task("running", desired="shutdown", node="gone")
    site.running = [lost, task("failed", desired="shutdown", reason="lost"), task("running")]

    found = start(site)

    assert (found.node, found.version, found.old) == ("n1", "0", True)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("failed", r"^the reaper does not run: failed \(task: non-zero exit\): the engine does not answer$"),
        ("rejected", r"rejected .*; load stackyard-reaper:.* on each manager, or run a registry on the Swarm"),
    ],
)
def test_one_that_does_not_run_says_why_and_is_removed(site: FakeSite, state: str, said: str) -> None:
    site.running = [task(state, reason="task: non-zero exit"), task("new")]

    with pytest.raises(NotReadyError, match=said):
        start(site)
    assert site.items == {}


class Overtaken(FakeSite):
    """One where another user starts the reaper while this one builds its image."""

    def create_service(self, name: str, spec: Mapping[str, Any]) -> None:
        super().create_service(name, spec)
        raise RefusedError("name conflicts with an existing object")


@pytest.mark.usefixtures("site")
def test_one_that_another_user_started_in_the_meantime_is_shown_and_stays() -> None:
    site = Overtaken(
        members=[Node(id="n", name="n1", address="127.0.0.1", state="ready", availability="active")],
        running=[task("running")],
    )

    assert start(site).node == "n1"
    assert [*site.items] == ["stackyard-reaper"]


@pytest.mark.usefixtures("site")
def test_a_service_of_its_name_that_is_not_stackyard_s_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Overtaken()
    monkeypatch.setattr(site, "add", lambda *_: None)

    with pytest.raises(RefusedError, match="name conflicts"):
        start(site)
    assert site.removed == []


def test_why_it_does_not_run_is_said_also_when_it_cannot_be_removed(
    site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.running = [task("failed", reason="out of memory")]

    def remove(_swarm: object) -> None:
        raise EngineError("the manager is away")

    monkeypatch.setattr(reaper_service, "remove", remove)

    with pytest.raises(
        NotReadyError, match=r"out of memory.*; what was made could not be removed: the manager is away"
    ):
        start(site)


def test_an_image_that_cannot_be_built_is_named(site: FakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_name: str, *, on_line: Any, **_: Any) -> bool:
        on_line("ERROR: own: not found")
        return False

    monkeypatch.setattr(engine_images, "build", fail)

    with pytest.raises(ImageError, match="the reaper's image cannot be built from own: ERROR: own: not found"):
        start(site)


def test_the_image_s_content_is_all_that_the_program_imports(tmp_path: Path) -> None:
    reaper_service.fill(tmp_path)

    # -S: no site-packages; -E: none of the caller's variables
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import {reaper.__name__}, stackyard.docker.transport"
    subprocess.run([sys.executable, "-S", "-E", "-c", code], check=True, cwd=tmp_path)  # noqa: S603 - this test's
    assert not [*tmp_path.rglob("*.so")]


def test_a_look_says_what_it_removed_and_a_fault_once_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers: Iterator[list[str] | EngineError] = iter(
        [["short"], EngineError("away"), EngineError("away"), [], EngineError("away")]
    )

    def sweep(_swarm: Swarm) -> list[str]:
        found = next(answers)
        if isinstance(found, EngineError):
            raise found
        return found

    monkeypatch.setattr(reaper, "sweep", sweep)
    beat = tmp_path / "beat"
    said = reaper.looks(beat)

    assert [next(said) for _ in range(8)] == ["removed short", "", "away", "", "", "", "away", ""]
    assert beat.exists()


def test_a_node_that_ends_no_container_does_not_end_the_reaper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def sweep(_swarm: Swarm) -> list[str]:
        raise LeftoversError("container c left")

    monkeypatch.setattr(reaper, "sweep", sweep)
    beat = tmp_path / "beat"
    said = reaper.looks(beat)

    assert [next(said) for _ in range(3)] == ["container c left", "", ""]
    assert beat.exists()


def test_a_first_look_without_an_answer_is_the_program_s_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sweep(_swarm: Swarm) -> list[str]:
        raise EngineError("away")

    monkeypatch.setattr(reaper, "sweep", sweep)
    monkeypatch.setattr("signal.signal", lambda *_: None)

    assert reaper.main() == 3
    assert capsys.readouterr().err == "away\n"


class Stuck(FakeSwarm):
    """One that never removes the network `stuck`."""

    def remove(self, item: Item) -> None:
        if item.name != "stuck":
            super().remove(item)


def test_a_copy_that_cannot_be_removed_does_not_keep_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "REMOVAL_TIMEOUT_S", 0.3)
    fake = Stuck()
    leases = Leases(cast("Swarm", fake))
    for name in ("a", "b"):
        made = leases.acquire("shop-0a1b2c", name, {})
        assert made is not None
        fake.add("network", "stuck" if name == "a" else "free", {LEASE_LABEL: made.id})
        leases.renew(made, -1)
    fake.add("network", "lost", {LEASE_LABEL: "nobodys"})

    with pytest.raises(LeftoversError, match="copy a keeps its lease: network stuck left"):
        removal.sweep(cast("Swarm", fake))
    assert sorted(fake.items) == ["stackyard-lease-a", "stuck"]


def test_a_sweep_that_is_late_leaves_a_new_copy_of_the_name_as_it_is() -> None:
    class Overtaken(FakeSwarm):
        """One where another process ends the lease, and a third takes the name, right after this one has taken it."""

        def relabel(self, item: Item, labels: Mapping[str, str]) -> bool:
            done = super().relabel(item, labels)
            if labels.get("stackyard.swarm.state") == "ending":
                self.items.pop(item.name)
                self.items[item.name] = replace(item, id="new", labels={**item.labels, LEASE_LABEL: "shop-new"})
                self.add("service", "new-service", {LEASE_LABEL: "shop-new"})
            return done

        def remove(self, item: Item) -> None:
            if any(known.id == item.id for known in self.items.values()):
                super().remove(item)

    fake = Overtaken()
    leases = Leases(cast("Swarm", fake))
    made = leases.acquire("shop-0a1b2c", "mine", {})
    assert made is not None
    leases.renew(made, -1)

    removal.sweep(cast("Swarm", fake))

    assert sorted(fake.items) == ["new-service", "stackyard-lease-mine"]
