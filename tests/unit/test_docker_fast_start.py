from __future__ import annotations

import asyncio
import io
import os
import re
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from fake_compose import install_compose, model

from stackyard.docker.compose import Compose
from stackyard.docker.fast_start import FilePlan, Source, plugin, translate
from stackyard.docker.fast_start.building import packed
from stackyard.docker.fast_start.keys import nanoseconds
from stackyard.docker.fast_start.templates import render
from stackyard.errors import EngineError, UnsupportedModelError

if TYPE_CHECKING:
    from pathlib import Path

    from stackyard.docker.fast_start import Blueprint

VARIABLES = {
    "STACKYARD_HEALTH_RETRIES": "10",
    "COMPOSE_PROJECT_NAME": "stackyard-test-1",
    "STACKYARD_LEASE": "cafe0001",
    "STACKYARD_HOST": "0123456789ab",
    "STACKYARD_PARALLEL_ID": "",
    "STACKYARD_SUBNET": "10.213.0.0/28",
    "STACKYARD_AUTH_PORT": "9503",
    "STACKYARD_SECRETS_DIR": "/state/secrets",
}


SOURCE = Source(files="/p/compose/c.yml", folder="/p/compose", env_files="/state/env", ordered=False)


def made_of(**changes: Any) -> dict[str, Any]:
    """Return the request for the service auth."""
    (found,) = (plan for plan in blueprint_of(model(**changes)).containers if plan.service == "auth")
    return dict(found.config)


def blueprint_of(rendered: dict[str, Any], **source: Any) -> Blueprint:
    return translate(rendered, replace(SOURCE, **source))


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
        ("ulimits", {"core": {"hard": 1}}, "Ulimits", [{"Name": "core", "Soft": 0, "Hard": 1}]),
        ("logging", {"driver": "local"}, "LogConfig", {"Type": "local", "Config": {}}),
        ("privileged", True, "Privileged", True),
        ("ipc", "host", "IpcMode", "host"),
        ("pid", "host", "PidMode", "host"),
        ("sysctls", {"net.core.somaxconn": "1024"}, "Sysctls", {"net.core.somaxconn": "1024"}),
        ("group_add", [10], "GroupAdd", ["10"]),
        ("mem_swappiness", "10", "MemorySwappiness", 10),
        ("security_opt", ["no-new-privileges:true"], "SecurityOpt", ["no-new-privileges:true"]),
        ("deploy", {"resources": {"limits": {"cpus": 0.5, "memory": "1024", "pids": 20}}}, "Memory", 1024),
        ("deploy", {"resources": {"limits": {"cpus": "0.5"}}}, "NanoCpus", 500_000_000),
        ("deploy", {"resources": {"limits": {"pids": 20}}}, "PidsLimit", 20),
        ("deploy", {"resources": {"reservations": {"cpus": 1, "memory": "5"}}}, "MemoryReservation", 5),
        (
            "deploy",
            {"restart_policy": {"condition": "any", "max_attempts": 3}},
            "RestartPolicy",
            {"Name": "always", "MaximumRetryCount": 3},
        ),
        (
            "devices",
            ["/dev/a", "/dev/b:/dev/c:r"],
            "Devices",
            [
                {"PathOnHost": "/dev/a", "PathInContainer": "/dev/a", "CgroupPermissions": "rwm"},
                {"PathOnHost": "/dev/b", "PathInContainer": "/dev/c", "CgroupPermissions": "r"},
            ],
        ),
        (
            "devices",
            [{"source": "/dev/a"}],
            "Devices",
            [{"PathOnHost": "/dev/a", "PathInContainer": "/dev/a", "CgroupPermissions": "rwm"}],
        ),
        ("network_mode", "host", "NetworkMode", "host"),
        (
            "volumes",
            [
                {
                    "type": "bind",
                    "source": "/none",
                    "target": "/x",
                    "read_only": True,
                    "bind": {"create_host_path": True, "selinux": "z", "propagation": "rslave"},
                },
            ],
            "Binds",
            ["/none:/x:ro,z,rslave"],
        ),
        (
            "volumes",
            [{"type": "bind", "source": "/", "target": "/x", "bind": {"propagation": "rslave"}}],
            "Mounts",
            [{"Target": "/x", "Type": "bind", "Source": "/", "BindOptions": {"Propagation": "rslave"}}],
        ),
        (
            "volumes",
            [{"type": "tmpfs", "target": "/x", "tmpfs": {"size": "16", "mode": 511}}],
            "Mounts",
            [{"Target": "/x", "Type": "tmpfs", "TmpfsOptions": {"SizeBytes": 16, "Mode": 511}}],
        ),
        (
            "volumes",
            [{"type": "volume", "target": "/x", "consistency": "cached", "volume": {"nocopy": True}}],
            "Mounts",
            [
                {
                    "Target": "/x",
                    "Type": "volume",
                    "Consistency": "cached",
                    "VolumeOptions": {"NoCopy": True, "Subpath": ""},
                }
            ],
        ),
        (
            "links",
            ["redis:cache"],
            "Links",
            [
                f"@COMPOSE_PROJECT_NAME@-redis-1:{name}"
                for name in ("cache", "redis-1", "@COMPOSE_PROJECT_NAME@-redis-1")
            ],
        ),
        ("external_links", ["old", "other:new"], "Links", ["old:old", "other:new"]),
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


@pytest.mark.parametrize(
    ("key", "value", "name", "expected"),
    [
        ("tty", True, "Tty", True),
        ("stdin_open", True, "OpenStdin", True),
        ("domainname", "x.y", "Domainname", "x.y"),
        ("entrypoint", [], "Entrypoint", []),
        ("command", ["echo", "$$HOME"], "Cmd", ["echo", "$HOME"]),
        ("environment", {"PRICE": "$$5", "BARE": None}, "Env", ["PRICE=$5", "BARE"]),
        ("expose", ["3000", "4000-4001/udp"], "ExposedPorts", {"3000": {}, "4000-4001/udp": {}}),
        ("healthcheck", {"disable": True}, "Healthcheck", {"Test": ["NONE"]}),
    ],
)
def test_a_key_of_the_container_itself_becomes_what_compose_makes_of_it(
    key: str, value: Any, name: str, expected: Any
) -> None:
    assert made_of(**{key: value})[name] == expected


def test_the_restart_policy_of_deploy_wins() -> None:
    made = made_of(deploy={"restart_policy": {"condition": "none"}}, restart="always")

    assert made["HostConfig"]["RestartPolicy"]["Name"] == "no"


def test_keys_that_change_no_container_are_skipped() -> None:
    ignored = {"attach": False, "develop": {"watch": []}, "x-own": 1, "scale": 1, "pull_policy": "missing", "gpus": []}

    changed, plain = made_of(**ignored), made_of()

    assert changed == plain


def test_a_container_is_on_each_of_its_networks_the_first_by_priority_then_name() -> None:
    other = {"name": "other", "ipam": {}}
    rendered = model(mac_address="02:42:ac:11:00:99", networks={
        "b": {"ipv4_address": "10.0.0.5", "ipv6_address": "fd00::5", "aliases": ["q"]}, "a": {"mac_address": "02:1"},
        "platform": {"priority": 5},
    })  # fmt: skip
    rendered["networks"] |= {"a": {**other, "name": "net-a"}, "b": {**other, "name": "net-b"}}

    body = blueprint_of(rendered).containers[2].config

    platform = "@COMPOSE_PROJECT_NAME@_platform"
    ends = body["NetworkingConfig"]["EndpointsConfig"]
    assert (body["HostConfig"]["NetworkMode"], [*ends]) == (platform, [platform, "net-a", "net-b"])
    assert (ends[platform]["MacAddress"], ends["net-a"]["MacAddress"]) == ("02:42:ac:11:00:99", "02:1")
    assert ends["net-b"]["IPAMConfig"] == {"IPv4Address": "10.0.0.5", "IPv6Address": "fd00::5", "LinkLocalIPs": None}
    assert ends["net-b"]["Aliases"] == ["@COMPOSE_PROJECT_NAME@-auth-1", "auth", "q"]


def test_a_network_has_what_the_model_says_of_it() -> None:
    rendered = model()
    rendered["networks"]["platform"] |= {
        "driver_opts": {"mtu": 1400}, "enable_ipv6": True, "attachable": True, "internal": True,
        "ipam": {"driver": "own", "config": [{"subnet": "10.0.0.0/24", "gateway": "10.0.0.1", "ip_range": "10.0.0.0/25",
                                              "aux_addresses": {"h": "10.0.0.9"}}]},
    }  # fmt: skip

    (found,) = blueprint_of(rendered).networks

    assert (found.options, found.ipv6, found.attachable, found.internal) == ({"mtu": "1400"}, True, True, True)
    assert found.ipam_driver == "own"
    assert found.pools == [{"iprange": "10.0.0.0/25", "gateway": "10.0.0.1", "aux_addresses": {"h": "10.0.0.9"}}]


def test_networks_and_volumes_that_no_service_uses_are_not_made() -> None:
    rendered = model()
    rendered["networks"]["spare"] = {"name": "spare"}

    assert [plan.name for plan in blueprint_of(rendered).networks] == ["@COMPOSE_PROJECT_NAME@_platform"]


def test_what_is_external_is_used_and_not_made() -> None:
    rendered = model(volumes=[{"type": "volume", "source": "data", "target": "/data"}])
    rendered["networks"]["platform"] = {"name": "company", "external": True}
    rendered["volumes"]["data"] = {"name": "ledger", "external": True}

    made = blueprint_of(rendered)

    assert (made.networks, made.volumes) == ([], [])
    host = made.containers[2].config["HostConfig"]
    assert (host["NetworkMode"], host["Mounts"][0]["Source"]) == ("company", "ledger")


def test_each_container_of_a_service_has_a_number_and_a_port_of_its_own() -> None:
    port = {"target": 80, "published": "9500-9502", "host_ip": "127.0.0.1"}

    plans = [plan for plan in blueprint_of(model(scale=3, ports=[port])).containers if plan.service == "auth"]

    assert [plan.name[-6:] for plan in plans] == ["auth-1", "auth-2", "auth-3"]
    assert [plan.label for plan in plans] == ["auth", "auth-2", "auth-3"]
    assert [plan.config["Labels"]["com.docker.compose.container-number"] for plan in plans] == ["1", "2", "3"]
    bound = [plan.config["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"] for plan in plans]
    assert bound == ["9500", "9501", "9502"]


def test_a_service_without_a_container_is_not_made() -> None:
    assert "auth" not in {plan.service for plan in blueprint_of(model(scale=0)).containers}


def test_a_container_may_join_the_namespaces_of_another_service() -> None:
    plan = blueprint_of(model(networks=None, network_mode="service:redis", pid="service:redis")).containers[2]

    assert plan.joins == {"NetworkMode": "redis", "PidMode": "redis"}
    assert "NetworkingConfig" not in plan.config


def test_a_service_waits_as_depends_on_says() -> None:
    waits = {
        "redis": {"condition": "service_healthy", "restart": True, "required": True},
        "postgres": {"condition": "service_completed_successfully"},
        "absent": {"condition": "service_started", "required": False},
    }

    ordered = blueprint_of(model(depends_on=waits), ordered=True)
    free = blueprint_of(model(depends_on=waits))

    assert ordered.conditions == {
        "auth": {"redis": "service_healthy", "postgres": "service_completed_successfully"}
    }  # fmt: skip
    label = "com.docker.compose.depends_on"
    assert ordered.containers[2].config["Labels"][label].startswith("redis:service_healthy:true,postgres:service_com")
    assert (free.conditions, free.containers[2].config["Labels"][label]) == ({}, "")


def test_a_condition_on_a_service_that_has_no_container_is_compose_s_to_judge() -> None:
    waits = {"absent": {"condition": "service_healthy", "required": True}}

    with pytest.raises(UnsupportedModelError, match=r"services\.auth\.depends_on\.absent"):
        blueprint_of(model(depends_on=waits), ordered=True)


def test_labels_tell_what_compose_would_note() -> None:
    made = blueprint_of(model(platform="linux/amd64"), version="2.26.1", images={"stackyard/any:1": "sha256:1"})

    plan = made.containers[2]
    labels = plan.config["Labels"]
    assert (labels["com.docker.compose.version"], labels["com.docker.compose.image"]) == ("2.26.1", "sha256:1")
    assert labels["com.docker.compose.project.environment_file"] == "/state/env"
    assert made.networks[0].labels["com.docker.compose.version"] == "2.26.1"
    assert plan.platform == "linux/amd64"
    without = blueprint_of(model(), env_files="").containers[2].config["Labels"]
    assert "com.docker.compose.project.environment_file" not in without


@pytest.mark.parametrize("mode", [0o440, "0440"], ids=["before Compose 2.34", "since"])
def test_secrets_and_configs_that_are_no_files_are_copied_in(mode: int | str) -> None:
    rendered = model(
        secrets=[{"source": "key"}, {"source": "word", "target": "/own/word"}],
        configs=[{"source": "motd", "target": "etc/motd", "mode": mode}, {"source": "ini"}, {"source": "empty"}],
    )
    rendered["secrets"]["word"] = {"name": "w", "environment": "WORD"}
    rendered["configs"] = {
        "motd": {"content": "hi $$x"}, "ini": {"file": "/p/ini"}, "empty": {"content": ""}
    }  # fmt: skip

    plan = blueprint_of(rendered, variables={"WORD": "secret"}).containers[2]

    assert plan.files == [
        FilePlan(path="/own/word", content="secret", mode=0o444),
        FilePlan(path="/etc/motd", content="hi $x", mode=0o440),
    ]
    assert [mount["Target"] for mount in plan.config["HostConfig"]["Mounts"]] == ["/ini", "/run/secrets/key"]
    assert "secret" not in repr(plan.files)


def test_a_container_that_nothing_can_be_copied_into_is_left_to_compose() -> None:
    rendered = model(configs=[{"source": "motd"}], read_only=True) | {"configs": {"motd": {"content": "hi"}}}

    with pytest.raises(UnsupportedModelError, match=r"services\.auth\.read_only"):
        blueprint_of(rendered)


def test_copied_files_are_packed_from_the_container_s_root() -> None:
    with tarfile.open(fileobj=io.BytesIO(packed([FilePlan(path="/etc/motd", content="hi", mode=0o440)]))) as archive:
        (entry,) = archive.getmembers()
        assert (entry.name, entry.mode, entry.uid) == ("etc/motd", 0o440, 0)
        assert archive.extractfile(entry).read() == b"hi"  # type: ignore[union-attr]


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
        ({"gpus": "all"}, "services.auth.gpus"),
        ({"image": None, "provider": {"type": "model"}}, "services.auth.image"),
        ({"env_file": [{"path": "x"}]}, "services.auth.env_file"),
        ({"volumes_from": ["redis"]}, "services.auth.volumes_from"),
        ({"blkio_config": {"weight": 300}}, "services.auth.blkio_config"),
        (
            {"deploy": {"resources": {"reservations": {"devices": [{}]}}}},
            "services.auth.deploy.resources.reservations.devices",
        ),
        ({"networks": None}, "services.auth.networks"),
        ({"networks": None, "network_mode": "service:none"}, "services.auth.network_mode"),
        ({"networks": {"platform": {"gw_priority": 1}}}, "services.auth.networks.platform.gw_priority"),
        ({"ports": [{"target": 80, "published": "80-90"}]}, "services.auth.ports"),
        ({"ports": [{"target": 80, "published": "80", "new": "web"}]}, "services.auth.ports.new"),
        ({"pull_policy": "always"}, "services.auth.pull_policy"),
        ({"secrets": [{"source": "key", "uid": "7"}]}, "services.auth.secrets.uid"),
        ({"security_opt": ["seccomp=profile.json"]}, "services.auth.security_opt"),
        ({"volumes": [{"type": "bind", "source": "/none", "target": "/x"}]}, "services.auth.volumes.bind"),
        ({"volumes": [{"type": "volume", "source": "data", "target": "/x/"}]}, "services.auth.volumes"),
        ({"volumes": [{"type": "npipe", "source": "data", "target": "/x"}]}, "services.auth.volumes"),
        ({"stop_grace_period": "soon"}, "duration"),
        ({"healthcheck": {"probe": True}}, "services.auth.healthcheck.probe"),
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
        ("networks", {"platform": {"name": "n", "ipam": {"options": {"a": "b"}}}}, "networks.platform.ipam.options"),
        ("volumes", {"data": {"name": "d", "driver_opts": {"o": "bind"}}}, "volumes.data.driver_opts.o"),
        ("models", {"m": {"model": "x"}}, "models"),
        ("secrets", {"key": {"driver": "x"}}, "secrets.key.driver"),
        ("secrets", {"key": {"environment": "KEY"}}, "secrets.key"),
        ("secrets", {"key": {"name": "k"}}, "secrets.key"),
    ],
)
def test_parts_beside_the_services_are_as_strict(part: str, change: dict[str, Any], place: str) -> None:
    mounts = [{"type": "volume", "source": "data", "target": "/data"}]
    rendered = model(secrets=[{"source": "key"}], volumes=mounts) | {part: change}

    with pytest.raises(UnsupportedModelError) as caught:
        blueprint_of(rendered)

    assert caught.value.place == place


@pytest.mark.parametrize("text", ["", "5", "5x", "s5"])
def test_only_durations_as_go_prints_them_are_read(text: str) -> None:
    with pytest.raises(UnsupportedModelError):
        nanoseconds(text)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compose:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(plugin, "PLACES", (str(tmp_path / "plugins"),))
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "docker-compose").touch()
    (tmp_path / "c.yml").write_text("services: {}\n")
    return Compose(file=tmp_path / "c.yml", env_file=tmp_path / "env", project="stackyard-test-1")


def rendering(project: Compose, **changes: str) -> Any:
    variables = VARIABLES | changes
    project.env_file.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    return asyncio.run(render(project, variables, project.file.parent / "models", deadline=120))


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


@pytest.mark.parametrize("text", ["not JSON", "[1, 2]", 200_000 * "["], ids=["words", "a list", "brackets"])
def test_a_compose_that_prints_no_model_is_named(project: Compose, tmp_path: Path, text: str) -> None:
    install_compose(tmp_path, model())
    (tmp_path / "model.json").write_text(text)

    with pytest.raises(EngineError, match=rf"'docker compose config' printed no model but '{re.escape(text[:8])}"):
        rendering(project)
