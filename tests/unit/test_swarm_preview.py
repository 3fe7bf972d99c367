"""What `check` and `explain` say of a copy on a Swarm, and what a lease keeps of its project; no engine is asked."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from fake_project import SHOP, FakeDocker
from invoke.exceptions import Exit
from test_swarm_leases import FakeSwarm

from stackyard.cli import project as commands
from stackyard.docker.swarm import Swarm
from stackyard.project import Project
from stackyard.sites.swarm import registry
from stackyard.sites.swarm.leases import Leases
from stackyard.sites.swarm.preparation import Prepared
from stackyard.sites.swarm.preview import preview
from stackyard.sites.swarm.start import Start
from stackyard.sites.swarm.translation import Translation

if TYPE_CHECKING:
    from pathlib import Path

    from fake_engine import FakeEngine

    from stackyard.docker import Engine
    from stackyard.plan import Preview

CONDITION = {"restart_policy": {"condition": "any"}}


@pytest.fixture
def docker(fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, folder: Path) -> FakeDocker:
    made = FakeDocker(fake_engine)
    made.install(monkeypatch)
    monkeypatch.setenv("STACKYARD_SITE", "local")  # the command changes it
    monkeypatch.chdir(folder)
    return made


def with_web(**more: Any) -> dict[str, Any]:
    return {**SHOP, "services": {**SHOP["services"], "web": {**SHOP["services"]["web"], **more}}}


def looked(docker: FakeDocker, folder: Path, engine: Engine, **web: Any) -> Preview:
    docker.model = with_web(**web)
    return preview(Project.find(folder, environment={}), Swarm(engine), lambda _line: None)


@pytest.mark.parametrize(
    ("web", "place", "after"),
    [
        (
            {"restart": "always"},
            "services.web.restart",
            "restart_policy on-failure, which also moves it from a lost node",
        ),
        ({"restart": "unless-stopped"}, "services.web.restart", "on-failure"),
        ({"deploy": CONDITION}, "services.web.deploy.restart_policy", "on-failure"),
        ({"mac_address": "02:00:00:00:00:01"}, "services.web.mac_address", "dropped"),
        ({}, "services.web.ports[0]", "a free port on all addresses of its node, instead of 8080"),
        ({}, "services.db.volumes[0]", "a volume without a name, which the node removes with its container"),
    ],
)
def test_what_a_copy_on_a_swarm_drops_and_changes_is_shown_before_its_start(
    docker: FakeDocker, capsys: pytest.CaptureFixture[str], web: dict[str, Any], place: str, after: str
) -> None:
    docker.model = with_web(**web)

    commands.check.body(None, site="swarm", json=True)
    printed = capsys.readouterr()
    seen = json.loads(printed.out)
    assert printed.err.startswith("warning: the Swarm was not asked for images and a registry: listing configs: ")

    assert (place, after) in [(change["place"], change["after"]) for change in seen["changes"]]
    assert (seen["verdict"], seen["missing_images"]) == ("copies", None)
    assert [change for change in seen["changes"] if change["kind"] in {"port", "network", "volume"}] == []


def test_explain_prints_what_becomes_of_the_model_on_a_swarm(
    docker: FakeDocker, capsys: pytest.CaptureFixture[str]
) -> None:
    docker.model = with_web(cpu_shares=9)

    commands.explain.body(None, site="swarm")
    seen = json.loads(capsys.readouterr().out)

    assert seen["services"]["web"]["ports"][0]["published"] == "8080"
    assert "services.web (CpuShares)" in [change["place"] for change in seen["x-stackyard"]["changes"]]
    assert {*seen["x-stackyard"]["ready"]} == {"web", "db"}


@pytest.mark.parametrize(
    ("web", "place"),
    [
        ({"network_mode": "host"}, "services.web.network_mode"), ({"privileged": True}, "services.web.privileged"),
        ({"build": {"context": "."}}, "services.web.build"),
    ],
)  # fmt: skip
def test_what_keeps_a_project_from_a_swarm_is_said_once_and_no_copy_can_run(
    docker: FakeDocker, folder: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, web: dict[str, Any], place: str
) -> None:
    monkeypatch.setattr(registry, "find", lambda _swarm: None)

    found = looked(docker, folder, engine, **web)

    assert [(item.level, item.place) for item in found.plan.concerns if item.place.startswith("services.web")] == [
        ("not possible", place)
    ]
    assert found.plan.verdict == "not possible"


def test_check_ends_with_exit_code_2_where_no_copy_can_run_on_a_swarm(docker: FakeDocker) -> None:
    docker.model = with_web(privileged=True)

    with pytest.raises(Exit) as caught:
        commands.check.body(None, site="swarm")

    assert caught.value.code == 2


def test_a_configuration_that_wants_resets_is_shown_as_without_effect(
    docker: FakeDocker, folder: Path, engine: Engine
) -> None:
    (folder / "stackyard.toml").write_text("reset = true")

    found = looked(docker, folder, engine)

    assert ("stackyard.toml: reset", "dropped") in [(change.place, change.after) for change in found.plan.changes]


def test_a_lease_keeps_the_variables_that_give_one_port_each() -> None:
    entries = {
        "${WEB_PORT:-8080}:80": 80, "${ADMIN_PORT:-8081}:81": 81, "${ALSO:-8083}:80": 80, "8082:82": 82,
        "${ADMIN_PORT:-8081}:84": 84,
    }  # fmt: skip
    usual = [
        {"target": target, "published": str(8080 + index), "protocol": "tcp"}
        for index, target in enumerate(entries.values())
    ]
    web, many = {"ports": usual}, {"ports": [{"target": 90, "published": "9000-9001"}], "scale": 2}
    written = {"web": {"ports": [*entries]}, "many": {"ports": ["${MANY:-9000-9001}:90"]}}
    project: Any = SimpleNamespace(template={"services": written})

    found = Prepared(project, {"services": {"web": web, "many": many}}, cast("Any", FakeSwarm())).ports()

    assert {(one["service"], one["target"]): one["variables"] for one in found} == {
        ("web", 80): ["WEB_PORT", "ALSO"], ("web", 81): [], ("web", 82): [], ("web", 84): [], ("many", 90): [],
    }  # fmt: skip


def test_networks_whose_long_names_begin_alike_get_names_of_their_own() -> None:
    fake: Any = FakeSwarm()
    lease = Leases(fake).acquire("a-project-of-a-long-name-0a1b2c", "mine", {})
    assert lease
    names: list[str] = []

    def create_network(name: str, _labels: object, *, internal: bool) -> str:
        names.append(name)
        return str(internal)

    fake.create_network = create_network
    networks = {f"{'the-same-words-' * 4}{end}": False for end in ("one", "two")}
    made = Translation(services={}, names={}, networks=networks, files={}, waits={}, changes=())

    Start(fake, lease, made, {"services": {}}, {}, lambda _line: None).run(1.0)

    assert len(set(names)) == 2
    assert max(map(len, names)) <= 63
