from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fake_compose import install_compose, model

from stackyard.docker.compose import Compose
from stackyard.docker.fast_start import render, templates, translate
from stackyard.docker.fast_start.translation import nanoseconds
from stackyard.errors import EngineError, UnsupportedModelError

if TYPE_CHECKING:
    from stackyard.docker.fast_start import Blueprint

VARIABLES = {
    "COMPOSE_PROJECT_NAME": "stackyard-test-1",
    "STACKYARD_LEASE": "cafe0001",
    "STACKYARD_HOST": "0123456789ab",
    "STACKYARD_PARALLEL_ID": "",
    "STACKYARD_SUBNET": "10.213.0.0/28",
    "STACKYARD_AUTH_PORT": "9503",
    "STACKYARD_SECRETS_DIR": "/state/secrets",
    "STACKYARD_HEALTH_RETRIES": "10",
}


def made_of(**changes: Any) -> dict[str, Any]:
    """Return the request for the service auth."""
    (found,) = (plan for plan in blueprint_of(model(**changes)).containers if plan.service == "auth")
    return dict(found.config)


def blueprint_of(rendered: dict[str, Any]) -> Blueprint:
    return translate(rendered, file=Path("/p/compose/c.yml"), env_file=Path("/state/env"))


def test_networks_and_containers_carry_composes_labels_and_their_own() -> None:
    found = blueprint_of(model())

    (network,) = found.networks
    assert (network.name, network.subnets) == ("@COMPOSE_PROJECT_NAME@_platform", ["@STACKYARD_SUBNET@"])
    assert network.labels == {
        "stackyard.lease": "@STACKYARD_LEASE@",
        "stackyard.host": "@STACKYARD_HOST@",
        "com.docker.compose.project": "@COMPOSE_PROJECT_NAME@",
        "com.docker.compose.network": "platform",
    }
    assert [plan.service for plan in found.containers] == ["postgres", "redis", "auth", "backend"]
    labels = found.containers[2].config["Labels"]
    assert labels["com.docker.compose.service"] == "auth"
    assert labels["com.docker.compose.project.working_dir"] == "/p/compose"
    assert labels["stackyard.lease"] == "@STACKYARD_LEASE@"


def test_a_volume_is_made_only_when_a_service_mounts_it() -> None:
    mount = {"type": "volume", "source": "data", "target": "/data"}

    assert blueprint_of(model()).volumes == []
    assert [plan.name for plan in blueprint_of(model(volumes=[mount])).volumes] == ["@COMPOSE_PROJECT_NAME@_data"]


@pytest.mark.parametrize(
    ("key", "value", "host", "expected"),
    [
        ("cap_drop", ["ALL"], "CapDrop", ["ALL"]),
        ("cpus", 0.5, "NanoCpus", 500_000_000),
        ("mem_limit", "1024", "Memory", 1024),
        ("init", False, "Init", False),
        ("restart", "on-failure:5", "RestartPolicy", {"Name": "on-failure", "MaximumRetryCount": 5}),
        ("tmpfs", ["/tmp:size=16m,mode=1777"], "Tmpfs", {"/tmp": "size=16m,mode=1777"}),
        ("ulimits", {"nofile": 4096}, "Ulimits", [{"Name": "nofile", "Soft": 4096, "Hard": 4096}]),
        ("ulimits", {"core": {"soft": 0, "hard": 1}}, "Ulimits", [{"Name": "core", "Soft": 0, "Hard": 1}]),
        ("logging", {"driver": "local"}, "LogConfig", {"Type": "local", "Config": {}}),
        (
            "ports",
            [{"mode": "ingress", "host_ip": "127.0.0.1", "target": 8000, "published": "9503", "protocol": "tcp"}],
            "PortBindings",
            {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "9503"}]},
        ),
        (
            "secrets",
            [{"source": "key"}],
            "Mounts",
            [{"Type": "bind", "Source": "/secrets/key", "ReadOnly": True, "Target": "/run/secrets/key"}],
        ),
        (
            "volumes",
            [
                {"type": "tmpfs", "target": "/z"},
                {"type": "volume", "source": "data", "target": "/a", "read_only": True},
            ],
            "Mounts",
            [
                {"Target": "/a", "Type": "volume", "Source": "@COMPOSE_PROJECT_NAME@_data", "ReadOnly": True},
                {"Target": "/z", "Type": "tmpfs"},
            ],
        ),
    ],
)
def test_a_key_becomes_what_compose_makes_of_it(key: str, value: Any, host: str, expected: Any) -> None:
    assert made_of(**{key: value})["HostConfig"][host] == expected


def test_names_of_hosts_are_given_as_the_engine_has_them() -> None:
    assert made_of(extra_hosts=["a=127.0.0.1", "b=::1"])["HostConfig"]["ExtraHosts"] == ["a:127.0.0.1", "b:::1"]


def test_health_checks_count_in_nanoseconds() -> None:
    check = {"test": ["CMD", "x"], "interval": "5s", "retries": 10, "start_interval": "250ms", "start_period": "1m30s"}

    assert made_of(healthcheck=check)["Healthcheck"] == {
        "Test": ["CMD", "x"], "Interval": 5 * 10**9, "Retries": 10, "StartInterval": 250 * 10**6,
        "StartPeriod": 90 * 10**9,
    }  # fmt: skip
    assert made_of(stop_grace_period="3s")["StopTimeout"] == 3


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"deploy": {"replicas": 2}}, "services.auth.deploy"),
        ({"environment": {"HOME": None}}, "services.auth.environment.HOME"),
        ({"networks": {"platform": None, "other": None}}, "services.auth.networks"),
        ({"networks": None, "network_mode": "host"}, "services.auth.network_mode"),
        ({"networks": None, "network_mode": "service:redis"}, "services.auth.network_mode"),
        ({"links": ["redis"]}, "services.auth.links"),
        ({"networks": {"platform": {"ipv4_address": "10.0.0.1"}}}, "services.auth.networks.platform.ipv4_address"),
        ({"ports": [{"target": 80}]}, "services.auth.ports"),
        ({"ports": [{"target": 80, "published": "80-90"}]}, "services.auth.ports"),
        ({"ports": [{"target": 80, "published": "80", "name": "web"}]}, "services.auth.ports.name"),
        ({"pull_policy": "always"}, "services.auth.pull_policy"),
        ({"secrets": [{"source": "key", "uid": "7"}]}, "services.auth.secrets.uid"),
        ({"volumes": [{"type": "bind", "source": "/", "target": "/x"}]}, "services.auth.volumes"),
        ({"stop_grace_period": "soon"}, "duration"),
        ({"healthcheck": {"disable": True}}, "services.auth.healthcheck.disable"),
    ],
)
def test_what_is_not_fully_understood_is_named_and_left_to_compose(changes: dict[str, Any], place: str) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        made_of(**changes)

    assert caught.value.place == place
    assert str(caught.value) == f"{place} is left to Compose"


@pytest.mark.parametrize(
    ("part", "change", "place"),
    [
        ("networks", {"platform": {"name": "n", "external": True}}, "networks.platform.external"),
        ("networks", {"platform": {"name": "n", "ipam": {"driver": "x"}}}, "networks.platform.ipam.driver"),
        ("configs", {"c": {"content": "x"}}, "configs"),
        ("secrets", {"key": {"environment": "KEY"}}, "secrets.key.environment"),
    ],
)
def test_parts_beside_the_services_are_as_strict(part: str, change: dict[str, Any], place: str) -> None:
    rendered = model(secrets=[{"source": "key"}]) | {part: change}

    with pytest.raises(UnsupportedModelError) as caught:
        blueprint_of(rendered)

    assert caught.value.place == place


def test_a_secret_without_a_file_is_left_to_compose() -> None:
    with pytest.raises(UnsupportedModelError, match=r"services\.auth\.secrets"):
        blueprint_of(model(secrets=[{"source": "key"}]) | {"secrets": {"key": {"name": "k"}}})


@pytest.mark.parametrize("text", ["", "5", "5x", "s5"])
def test_only_durations_as_go_prints_them_are_read(text: str) -> None:
    with pytest.raises(UnsupportedModelError):
        nanoseconds(text)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compose:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(templates, "PLUGIN_PLACES", [str(tmp_path / "plugins")])
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "docker-compose").touch()
    (tmp_path / "c.yml").write_text("services: {}\n")
    return Compose(file=tmp_path / "c.yml", env_file=tmp_path / "env", project="stackyard-test-1")


def rendering(project: Compose, **changes: str) -> Any:
    variables = VARIABLES | changes
    project.env_file.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    return asyncio.run(render(project, variables, project.file.parent / "models", deadline=10))


def test_a_template_renders_the_next_lease_without_compose(project: Compose, tmp_path: Path) -> None:
    calls = install_compose(tmp_path, model(mem_limit="@STACKYARD_HEALTH_RETRIES@"))

    first = rendering(project)
    asked = calls.read_text().count("config")
    second = rendering(project, COMPOSE_PROJECT_NAME="stackyard-test-2", STACKYARD_SUBNET="10.213.0.16/28")

    assert (asked, calls.read_text().count("config")) == (2, 2)
    assert first["name"] == "stackyard-test-1"
    assert second["networks"]["platform"]["ipam"]["config"] == [{"subnet": "10.213.0.16/28"}]
    assert second["services"]["auth"]["mem_limit"] == "10"
    assert list(tmp_path.glob(".trial*")) == []


@pytest.mark.parametrize(
    "changes", [{"STACKYARD_HEALTH_RETRIES": "11"}, {"STACKYARD_PARALLEL_ID": "mine"}], ids=["common", "kind"]
)
def test_other_variables_mean_another_template(project: Compose, tmp_path: Path, changes: dict[str, str]) -> None:
    calls = install_compose(tmp_path, model())
    rendering(project)

    rendering(project, **changes)

    assert calls.read_text().count("config") == 4


def test_a_model_that_a_value_changes_otherwise_is_rendered_each_time(project: Compose, tmp_path: Path) -> None:
    calls = install_compose(tmp_path, model(mem_limit="%COMPOSE_PROJECT_NAME%", hostname="%STACKYARD_SECRETS_DIR%x"))

    for _ in range(2):
        assert rendering(project, STACKYARD_SECRETS_DIR="/s")["services"]["auth"]["hostname"] == "2x"
    assert calls.read_text().count("config") == 4


def test_numbers_that_a_lease_gives_stay_numbers(project: Compose, tmp_path: Path) -> None:
    install_compose(tmp_path, model(cpus="NUMBER"))
    source = tmp_path / "model.json"
    source.write_text(source.read_text().replace('"NUMBER"', "@STACKYARD_AUTH_PORT@"))

    assert [rendering(project)["services"]["auth"]["cpus"] for _ in range(2)] == [9503, 9503]


@pytest.mark.parametrize("spoilt", ["", "[]", '{"version": 1}', '{"version": 0, "template": "{}"}', "\0"])
def test_a_spoilt_template_is_made_again(project: Compose, tmp_path: Path, spoilt: str) -> None:
    install_compose(tmp_path, model())
    rendering(project)
    (stored,) = (tmp_path / "models").iterdir()
    stored.write_text(spoilt)

    assert rendering(project)["name"] == "stackyard-test-1"


def test_files_beside_the_compose_file_forbid_a_template(project: Compose, tmp_path: Path) -> None:
    calls = install_compose(tmp_path, model())
    project.file.write_text("include: [other.yml]\n")

    rendering(project)
    rendering(project)

    assert calls.read_text().count("config") == 2
    assert not (tmp_path / "models").exists()


def test_a_folder_that_cannot_be_written_costs_only_the_template(project: Compose, tmp_path: Path) -> None:
    install_compose(tmp_path, model())
    (tmp_path / "models").write_text("in the way")

    assert rendering(project)["name"] == "stackyard-test-1"


def test_old_templates_do_not_pile_up(project: Compose, tmp_path: Path) -> None:
    install_compose(tmp_path, model())
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "config.json").write_text("somebody's own")
    os.utime(tmp_path / "models" / "config.json", (0, 0))
    for number in range(25):
        file = tmp_path / "models" / f"{number:032}.json"
        file.touch()
        os.utime(file, (number, number))

    rendering(project)

    assert len(list((tmp_path / "models").iterdir())) == 21
    assert (tmp_path / "models" / "config.json").read_text() == "somebody's own"
    assert not (tmp_path / "models" / f"{0:032}.json").exists()


def test_a_compose_that_prints_no_model_is_named(project: Compose, tmp_path: Path) -> None:
    install_compose(tmp_path, model())
    (tmp_path / "model.json").write_text("not JSON")

    with pytest.raises(EngineError, match="'docker compose config' printed no model but 'not JSON"):
        rendering(project)
