from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stackyard.errors import UsageError
from stackyard.probes.readiness_rules import ImageFacts, rules_for
from stackyard.project.readiness_hints import Hint
from stackyard.sites.swarm.removal import GRACE_LABEL, NEEDS_LABEL
from stackyard.sites.swarm.translation import Translation, swarm_name, translate

if TYPE_CHECKING:
    from pathlib import Path

LABELS = {"stackyard.swarm.lease": "shop-1"}
SECOND = 10**9


def model(services: dict[str, Any], **more: Any) -> dict[str, Any]:
    for service in services.values():
        service.setdefault("image", "box")
        if "network_mode" not in service:
            service.setdefault("networks", {"default": None})
    return {"name": "shop-1", "services": services, "networks": {"default": {"name": "shop-1_default"}}, **more}


def translated(
    services: dict[str, Any], variables: dict[str, str] | None = None, *, graceful: bool = False, **more: Any
) -> Translation:  # fmt: skip
    made = model(services, **more)
    images = dict.fromkeys(services, "sha256:1")
    return translate(made, rules_for(made, {}), images, LABELS, variables or {}, graceful=graceful).check()


def template(service: dict[str, Any], **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = translated({"web": service}, **more).services["web"]["TaskTemplate"]
    return found


def lines(services: dict[str, Any], **more: Any) -> list[str]:
    return [str(note) for note in translated(services, **more).changes]


CONTAINER: list[tuple[str, Any, str, Any]] = [
    ("cap_add", ["NET_ADMIN"], "CapabilityAdd", ["NET_ADMIN"]),
    ("cap_drop", ["ALL"], "CapabilityDrop", ["ALL"]),
    ("command", ["sh", "-c", "echo $$1"], "Args", ["sh", "-c", "echo $1"]),
    ("dns", ["192.0.2.1"], "DNSConfig", {"Nameservers": ["192.0.2.1"]}),
    ("dns_opt", ["timeout:1"], "DNSConfig", {"Options": ["timeout:1"]}),
    ("dns_search", ["example.org"], "DNSConfig", {"Search": ["example.org"]}),
    ("entrypoint", ["/bin/run"], "Command", ["/bin/run"]),
    ("environment", {"A": "1", "B": None}, "Env", ["A=1", "B"]),
    ("extra_hosts", ["db=192.0.2.7"], "Hosts", ["192.0.2.7 db"]),
    ("group_add", ["7"], "Groups", ["7"]),
    ("hostname", "www", "Hostname", "www"),
    ("image", "anything", "Image", "sha256:1"),
    ("init", True, "Init", True),
    ("labels", {"team": "a"}, "Labels", {"team": "a", **LABELS, "stackyard.swarm.service": "web"}),
    ("oom_score_adj", 5, "OomScoreAdj", 5),
    ("read_only", True, "ReadOnly", True),
    ("security_opt", ["no-new-privileges:true"], "Privileges", {"NoNewPrivileges": True}),
    ("security_opt", ["no-new-privileges=false"], "Privileges", {"NoNewPrivileges": False}),
    ("security_opt", ["seccomp=unconfined"], "Privileges", {"Seccomp": {"Mode": "unconfined"}}),
    ("security_opt", ["apparmor:unconfined"], "Privileges", {"AppArmor": {"Mode": "disabled"}}),
    ("stdin_open", True, "OpenStdin", True),
    ("stop_signal", "SIGINT", "StopSignal", "SIGINT"),
    ("sysctls", {"net.core.somaxconn": "9"}, "Sysctls", {"net.core.somaxconn": "9"}),
    ("tty", True, "TTY", True),
    ("ulimits", {"nofile": 9}, "Ulimits", [{"Name": "nofile", "Soft": 9, "Hard": 9}]),
    ("user", "7:8", "User", "7:8"),
    ("working_dir", "/srv", "Dir", "/srv"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "field", "expected"), CONTAINER)
def test_each_key_of_a_container_has_its_place_in_a_service(key: str, value: Any, field: str, expected: Any) -> None:
    assert template({key: value})["ContainerSpec"][field] == expected


MOUNTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"tmpfs": ["/run"]}, {"Type": "tmpfs", "Target": "/run", "TmpfsOptions": {}}),
    (
        {"tmpfs": ["/run:size=64m,mode=1770"]},
        {"Type": "tmpfs", "Target": "/run", "TmpfsOptions": {"SizeBytes": 64 << 20, "Mode": 0o1770}},
    ),
    (
        {"shm_size": "1024"},
        {"Type": "tmpfs", "Target": "/dev/shm", "TmpfsOptions": {"SizeBytes": 1024, "Mode": 0o1777}},
    ),
    (
        {"volumes": [{"type": "volume", "source": "data", "target": "/data", "volume": {}}]},
        {"Type": "volume", "Target": "/data", "ReadOnly": False, "VolumeOptions": {"NoCopy": False}},
    ),
    (
        {"volumes": [{"type": "tmpfs", "target": "/cache", "tmpfs": {"size": "7"}}]},
        {"Type": "tmpfs", "Target": "/cache", "TmpfsOptions": {"SizeBytes": 7}},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("service", "expected"), MOUNTS)
def test_what_a_service_stores_ends_with_its_container(service: dict[str, Any], expected: dict[str, Any]) -> None:
    assert template(service, volumes={"data": {"name": "shop-1_data"}})["ContainerSpec"]["Mounts"] == [expected]


RESOURCES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({}, {}, {}),
    ({"mem_limit": "1000"}, {"MemoryBytes": 1000}, {"MemoryBytes": 1000}),
    ({"mem_limit": "1000", "mem_reservation": "10"}, {"MemoryBytes": 1000}, {"MemoryBytes": 10}),
    ({"cpus": 0.5, "pids_limit": 9}, {"NanoCPUs": SECOND // 2, "Pids": 9}, {}),
    (
        {"deploy": {"resources": {
            "limits": {"memory": "9", "cpus": "2"}, "reservations": {"memory": "5", "cpus": "1"},
        }}},
        {"MemoryBytes": 9, "NanoCPUs": 2 * SECOND},
        {"MemoryBytes": 5, "NanoCPUs": SECOND},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("service", "limits", "reservations"), RESOURCES)
def test_what_a_service_may_use_is_what_its_node_keeps_for_it(
    service: dict[str, Any], limits: dict[str, Any], reservations: dict[str, Any]
) -> None:
    assert template(service)["Resources"] == {"Limits": limits, "Reservations": reservations}


RESTARTS: list[tuple[dict[str, Any], str, int]] = [
    ({}, "none", 0),
    ({"restart": "no"}, "none", 0),
    ({"restart": "on-failure:4"}, "on-failure", 4),
    ({"restart": "always"}, "on-failure", 0),
    ({"restart": "unless-stopped"}, "on-failure", 0),
    ({"deploy": {"restart_policy": {"condition": "any", "max_attempts": 2}}}, "any", 2),
]


@pytest.mark.parametrize(("service", "condition", "attempts"), RESTARTS)
def test_a_restart_policy_is_that_of_the_file(service: dict[str, Any], condition: str, attempts: int) -> None:
    found = template(service)["RestartPolicy"]

    assert (found["Condition"], found["MaxAttempts"]) == (condition, attempts)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [({}, {"Delay": SECOND}), ({"delay": "5s", "window": "1m0s"}, {"Delay": 5 * SECOND, "Window": 60 * SECOND})],
)
def test_a_restart_policy_keeps_its_times(policy: dict[str, str], expected: dict[str, int]) -> None:
    found = template({"deploy": {"restart_policy": {"condition": "on-failure", **policy}}})["RestartPolicy"]

    assert found == {"Condition": "on-failure", "MaxAttempts": 0, **expected}


def test_ports_are_free_ones_of_the_node_and_names_are_found_without_a_virtual_address() -> None:
    ports = [{"target": 80, "published": "8080", "protocol": "tcp", "host_ip": "127.0.0.1"}]
    found = translated({"web": {"ports": ports}}).services["web"]

    assert found["EndpointSpec"] == {
        "Mode": "dnsrr", "Ports": [{"TargetPort": 80, "Protocol": "tcp", "PublishMode": "host"}],
    }  # fmt: skip
    assert found["TaskTemplate"]["Networks"] == [{"Target": "default", "Aliases": ["web"]}]


def test_a_service_answers_to_every_name_that_the_file_gives_it() -> None:
    services = {
        "db": {"container_name": "the-db", "networks": {"default": {"aliases": ["store"]}}},
        "web": {"links": ["db:database"]},
    }
    found = translated(services).services["db"]["TaskTemplate"]["Networks"]

    assert found == [{"Target": "default", "Aliases": ["db", "store", "the-db", "database"]}]


def test_a_one_shot_is_a_job_and_a_service_has_its_replicas() -> None:
    found = translated({
        "web": {"depends_on": {"migrate": {"condition": "service_completed_successfully"}}, "deploy": {"replicas": 3}},
        "migrate": {},
    })  # fmt: skip

    assert found.services["web"]["Mode"] == {"Replicated": {"Replicas": 3}}
    assert found.services["migrate"]["Mode"] == {"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 1}}
    assert found.waits == {"web": {"migrate": "service_completed_successfully"}, "migrate": {}}


def test_a_health_check_runs_every_tenth_of_a_second_until_it_first_passes() -> None:
    check = template({"healthcheck": {"test": ["CMD", "true"], "interval": "30s"}})["ContainerSpec"]["Healthcheck"]

    assert check == {
        "Test": ["CMD", "true"], "Interval": 30 * SECOND, "StartInterval": SECOND // 10, "StartPeriod": 600 * SECOND,
    }  # fmt: skip


def test_a_database_s_own_client_becomes_a_check_of_the_node() -> None:
    made = model({"db": {"image": "postgres:17"}})
    rules = rules_for(made, {"db": ImageFacts()})
    found = translate(made, rules, {"db": "sha256:1"}, LABELS, {})
    check = found.services["db"]["TaskTemplate"]["ContainerSpec"]["Healthcheck"]

    assert check["Test"][:3] == ["CMD", "/bin/sh", "-c"]
    assert "select 1" in check["Test"][3]
    assert [note.place for note in found.changes] == ["services.db.healthcheck"]


def test_files_that_are_only_read_travel_with_their_modes(tmp_path: Path) -> None:
    (tmp_path / "init").mkdir()
    (tmp_path / "init/a.sh").write_bytes(b"a")
    (tmp_path / "init/a.sh").chmod(0o755)
    (tmp_path / "token").write_bytes(b"t")
    bind = {"type": "bind", "source": str(tmp_path / "init"), "target": "/init/", "read_only": True}
    found = translated(
        {"web": {"volumes": [bind], "secrets": [{"source": "token"}, {"source": "key", "target": "/k", "mode": "0400"}],
                 "configs": [{"source": "motd", "target": "/motd"}]}},
        {"KEY": "k"},
        secrets={"token": {"file": str(tmp_path / "token")}, "key": {"environment": "KEY"}},
        configs={"motd": {"content": "hello"}},
    )  # fmt: skip

    assert [(file.kind, file.target, file.content, file.mode) for file in found.files["web"]] == [
        ("config", "/init/a.sh", b"a", 0o755), ("secret", "/run/secrets/token", b"t", 0o444),
        ("secret", "/k", b"k", 0o400), ("config", "/motd", b"hello", 0o444),
    ]  # fmt: skip


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"container_name": "x"}, "services.web.container_name is dropped: the Swarm names containers"),
    ({"mac_address": "02:00:00:00:00:01"}, "services.web.mac_address is dropped"),
    (
        {"deploy": {"update_config": {"parallelism": 2}}},
        "services.web.deploy.update_config is dropped: a copy is never",
    ),
    ({"deploy": {"labels": {"a": "b"}}}, "services.web.deploy.labels is dropped"),
    ({"deploy": {"endpoint_mode": "vip"}}, "services.web.deploy.endpoint_mode is changed: dnsrr"),
    ({"restart": "on-failure"}, "services.web.restart is changed: restart_policy on-failure, which also moves it"),
    ({"mem_limit": "9"}, "services.web.mem_limit is changed: resources.limits.memory"),
    ({"mem_limit": "9"}, "services.web.deploy.resources is changed: its memory limit is reserved"),
    ({"security_opt": ["label:disable"]}, "services.web.security_opt is dropped: label:disable"),
    ({"stop_grace_period": "9s"}, "services.web.stop_grace_period is dropped: a copy is removed at once, unless"),
    ({"cpu_shares": 9}, "services.web (CpuShares) is dropped: a service has no word for it"),
    ({"tmpfs": ["/run:noexec"]}, "services.web.tmpfs is dropped: noexec of /run"),
    ({"ports": [{"target": 80, "published": "81"}]}, "services.web.ports[0] is changed: a free port on all addresses"),
    (
        {"deploy": {"placement": {"preferences": [{"spread": "node.labels.zone"}]}}},
        "services.web.deploy.placement.preferences is dropped",
    ),
]


@pytest.mark.parametrize(("service", "expected"), CHANGES)
def test_what_is_dropped_or_changed_is_named(service: dict[str, Any], expected: str) -> None:
    assert any(line.startswith(expected) for line in lines({"web": service})), lines({"web": service})


def test_a_plain_service_changes_in_nothing() -> None:
    assert lines({"web": {}}) == []


def bind(source: str, *, read_only: bool) -> dict[str, Any]:
    return {"type": "bind", "source": source, "target": "/x", "read_only": read_only}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"network_mode": "host"}, "services.web.network_mode: host"),
    ({"network_mode": "service:db"}, "services.web.network_mode: service:db"),
    ({"pid": "host"}, "services.web.pid: host"),
    ({"privileged": True}, "services.web.privileged: a service of a Swarm is never privileged"),
    ({"devices": [{"source": "/dev/fuse"}]}, "services.web.devices: a node's devices"),
    ({"deploy": {"mode": "global"}}, "services.web.deploy.mode: global"),
    ({"extra_hosts": ["up=host-gateway"]}, "services.web.extra_hosts: up:host-gateway"),
    ({"volumes": [bind("/etc", read_only=False)]}, "services.web.volumes.0.: a container cannot write"),
    ({"volumes": [bind("/does/not/exist", read_only=True)]}, "is no file or folder of this host"),
    ({"networks": {"default": {"ipv4_address": "10.9.8.7"}}}, "services.web.networks.default: a fixed address"),
    ({"secrets": [{"source": "outside"}]}, "secrets.outside: it is external"),
    ({"secrets": [{"source": "unset"}]}, "secrets.unset: variable UNSET is not set"),
]


@pytest.mark.parametrize(("service", "expected"), REFUSED)
def test_what_a_swarm_cannot_have_is_refused_in_one_line(service: dict[str, Any], expected: str) -> None:
    secrets = {"outside": {"external": True}, "unset": {"environment": "UNSET"}}

    with pytest.raises(UsageError, match=expected) as caught:
        translated({"web": service}, secrets=secrets)
    assert "\n" not in str(caught.value)


def test_a_volume_of_two_containers_is_refused_because_they_may_be_on_two_nodes() -> None:
    mount = {"type": "volume", "source": "data", "target": "/data"}
    services = {"a": {"volumes": [mount]}, "b": {"volumes": [mount]}}

    with pytest.raises(UsageError, match=r"volumes\.data: 2 containers use it \(a, b\)"):
        translated(services, volumes={"data": {"name": "shop-1_data"}})


def test_a_folder_of_too_many_files_is_refused(tmp_path: Path) -> None:
    for number in range(65):
        (tmp_path / str(number)).touch()

    with pytest.raises(UsageError, match="the folder has 65 files, and at most 64 travel"):
        translated({"web": {"volumes": [bind(str(tmp_path), read_only=True)]}})


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dump").write_bytes(bytes((500 << 10) + 1))

    with pytest.raises(UsageError, match="has 500 KiB, and at most 500 KiB travel"):
        translated({"web": {"volumes": [bind(str(tmp_path / "dump"), read_only=True)]}})


def test_a_hint_of_the_configuration_decides_how_a_service_proves_itself() -> None:
    made = model({"web": {}})
    rules = rules_for(made, {}, {"web": Hint(kind="exit")})

    assert "ReplicatedJob" in translate(made, rules, {"web": "i"}, LABELS, {}).services["web"]["Mode"]


def test_a_long_name_is_cut_and_stays_apart_from_others() -> None:
    names = {swarm_name("shop-1", "x" * 80), swarm_name("shop-1", "x" * 81)}

    assert len(names) == 2
    assert {len(name) for name in names} == {63}


@pytest.mark.parametrize(("given", "grace", "label"), [({}, 10, "10"), ({"stop_grace_period": "1m30s"}, 90, "90"),
                                                       ({"stop_grace_period": "250ms"}, 0.25, "1")])  # fmt: skip
def test_a_graceful_copy_keeps_the_time_that_services_get_to_end_and_what_each_needs(
    given: dict[str, Any], grace: float, label: str
) -> None:
    services = {"web": {**given, "depends_on": {"db": {"condition": "service_started"}, "off": {}}}, "db": {}}

    found = translated(services, graceful=True)

    web = found.services["web"]
    assert web["TaskTemplate"]["ContainerSpec"]["StopGracePeriod"] == grace * 10**9
    assert (web["Labels"][GRACE_LABEL], web["Labels"][NEEDS_LABEL]) == (label, "db")
    assert [line for line in map(str, found.changes) if "grace" in line] == []
    plain = translated(services).services["web"]
    assert plain["TaskTemplate"]["ContainerSpec"]["StopGracePeriod"] == 0
    assert GRACE_LABEL not in plain["Labels"]
