from __future__ import annotations

import copy
import itertools
from ipaddress import IPv4Network
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackyard.errors import ConfigError, UsageError
from stackyard.plan import Place, Plan, exclusive, networks, plan, ports
from stackyard.plan.missing_files import missing_files
from stackyard.project.configuration import Configuration, Share

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackyard.project import Project

Model = dict[str, Any]


def rendered(**services: Model) -> Model:
    """Return a model as `docker compose config --format json` writes it."""
    full = {name: {"image": "box", "networks": {"default": None}} | service for name, service in services.items()}
    return {"name": "copy", "services": full, "networks": {"default": {"name": "copy_default", "ipam": {}}}}


def planned(
    model: Model, *, template: Model | None = None, usual: Model | None = None,
    configuration: Configuration | None = None,
    variables: Mapping[str, str] | None = None, tags: Mapping[str, str] | None = None, there: bool = True,
) -> Plan:  # fmt: skip
    subnets = itertools.count(0)
    place = Place(
        project="copy", ports=itertools.count(9500), variables=variables or {}, tags=tags or {},
        subnet=lambda prefix: IPv4Network((int(IPv4Network("10.0.0.0/8")[0]) + next(subnets) * 2**24, prefix)),
    )  # fmt: skip
    return plan(template or model, usual or model, model, place, configuration, exists=lambda _: there)


def tcp(target: int, published: str = "", **more: str) -> Model:
    entry = {"mode": "ingress", "target": target, "protocol": "tcp", **more}
    return entry | ({"published": published} if published else {})


def test_every_published_port_is_a_leased_one_on_loopback() -> None:
    done = planned(rendered(web={"ports": [tcp(80, "8080"), tcp(9229, "9229")]}, db={"ports": [tcp(5432, "5432")]}))

    published = [
        (p["host_ip"], p["published"], p["target"]) for s in ("web", "db") for p in done.model["services"][s]["ports"]
    ]
    assert published == [("127.0.0.1", "9500", 80), ("127.0.0.1", "9501", 9229), ("127.0.0.1", "9502", 5432)]
    assert next((c.before, c.after) for c in done.changes if c.kind == "port") == ("8080:80", "127.0.0.1:9500:80")


def test_tcp_and_udp_on_one_number_are_two_ports() -> None:
    done = planned(rendered(dns={"ports": [tcp(53, "53"), tcp(53, "53") | {"protocol": "udp"}]}))

    assert [(p["protocol"], p["published"]) for p in done.model["services"]["dns"]["ports"]] == [
        ("tcp", "9500"),
        ("udp", "9501"),
    ]
    assert done.changes[1].after == "127.0.0.1:9501:53/udp"


@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.7", "::1", "0.0.0.0"])  # noqa: S104 - named, not bound
def test_a_host_address_of_the_file_is_neither_widened_nor_narrowed(address: str) -> None:
    done = planned(rendered(web={"ports": [tcp(80, "8080", host_ip=address)]}))

    assert done.model["services"]["web"]["ports"][0]["host_ip"] == address


def test_further_keys_of_a_port_stay() -> None:
    done = planned(rendered(web={"ports": [tcp(80, "8080", name="web", app_protocol="http")]}))

    assert done.model["services"]["web"]["ports"][0] == tcp(
        80, "9500", name="web", app_protocol="http", host_ip="127.0.0.1"
    )


def test_a_target_without_a_host_port_gets_one() -> None:
    assert planned(rendered(web={"ports": [tcp(82)]})).model["services"]["web"]["ports"][0]["published"] == "9500"


def test_replicas_share_a_range_with_a_port_for_each() -> None:
    model = rendered(w={"ports": [tcp(80, "8080-8082")], "deploy": {"replicas": 3}}, x={"ports": [tcp(81, "81")]})

    done = planned(model)

    assert done.model["services"]["w"]["ports"][0]["published"] == "9500-9502"
    assert done.model["services"]["x"]["ports"][0]["published"] == "9503"
    assert len(ports.draws(model, {})) == 4


def test_one_container_behind_a_range_needs_one_port() -> None:
    assert (
        planned(rendered(c={"ports": [tcp(80, "3000-3005")]})).model["services"]["c"]["ports"][0]["published"] == "9500"
    )


@pytest.mark.parametrize("none", [{"scale": 0}, {"deploy": {"replicas": 0}}])
def test_a_service_without_containers_leases_nothing(none: Model) -> None:
    assert ports.draws(rendered(off={"ports": [tcp(80, "8080")], **none}), {}) == []


@pytest.mark.parametrize(
    ("entry", "variable"),
    [
        ("${WEB_PORT:-8080}:80", "WEB_PORT"),
        ("$WEB_PORT:80", "WEB_PORT"),
        ("127.0.0.1:${WEB_PORT}:80/tcp", "WEB_PORT"),
        ({"target": 80, "published": "${WEB_PORT:?set it}"}, "WEB_PORT"),
        ("8080:80", None),
        ("1${N}:80", None),
        ("${A}${B}:80", None),
        ("80", None),
        ("${ONLY_TARGET}", None),
        ("8080:${TARGET}", None),
    ],
)
def test_the_variable_of_a_host_port_is_found(entry: object, variable: str | None) -> None:
    template = {"services": {"web": {"ports": [entry]}}}

    assert ports.variables(template) == ({variable: ["services.web.ports[0]"]} if variable else {})


def test_a_port_that_a_variable_gives_keeps_the_variable_s_number() -> None:
    usual = rendered(web={"ports": [tcp(80, "8080")], "environment": {"CALLBACK": "http://localhost:8080/cb"}})
    own = rendered(web={"ports": [tcp(80, "9777")], "environment": {"CALLBACK": "http://localhost:9777/cb"}})

    done = planned(own, usual=usual, variables={"services.web.ports[0]": "WEB_PORT"})

    assert done.model["services"]["web"]["ports"][0]["published"] == "9777"
    assert (done.changes[0].before, done.changes[0].why) == ("8080:80", "variable WEB_PORT is set")
    assert not done.concerns


def test_a_literal_container_name_becomes_an_alias_on_every_network() -> None:
    model = rendered(db={"container_name": "shared-db", "networks": {"a": None, "b": {"aliases": ["old"]}}})

    done = planned(model)

    assert "container_name" not in done.model["services"]["db"]
    assert done.model["services"]["db"]["networks"] == {
        "a": {"aliases": ["shared-db"]},
        "b": {"aliases": ["old", "shared-db"]},
    }


def test_a_container_name_made_of_the_project_s_name_stays() -> None:
    model = rendered(db={"container_name": "copy_db"})
    template = rendered(db={"container_name": "${COMPOSE_PROJECT_NAME:-x}_db"})

    assert planned(model, template=template).model["services"]["db"]["container_name"] == "copy_db"


def test_joining_a_named_container_becomes_joining_its_service() -> None:
    done = planned(rendered(db={"container_name": "db"}, spy={"network_mode": "container:db", "networks": None}))

    assert done.model["services"]["spy"]["network_mode"] == "service:db"


def test_joining_a_foreign_container_is_said() -> None:
    done = planned(rendered(spy={"network_mode": "container:other", "networks": None}))

    assert [(c.level, c.place) for c in done.concerns] == [("careful", "services.spy.network_mode")]


def test_networks_with_literal_and_external_names_are_private_in_a_copy() -> None:
    model = rendered(a={}) | {"networks": {
        "corp": {"name": "corp-net", "external": True, "ipam": {}}, "front": {"name": "front-net", "ipam": {}},
    }}  # fmt: skip

    done = planned(model)

    assert [done.model["networks"][key]["name"] for key in ("corp", "front")] == ["copy_corp", "copy_front"]
    assert "external" not in done.model["networks"]["corp"]


def test_a_shared_network_stays_as_it_is_and_is_named() -> None:
    model = rendered(a={}) | {"networks": {"corp": {"name": "corp-net", "external": True, "ipam": {}}}}

    done = planned(model, configuration=Configuration(share=Share(networks=frozenset(["corp"]))))

    assert done.model["networks"]["corp"] == {"name": "corp-net", "external": True}
    assert done.concerns[0].text == "all copies share network corp-net"


def test_what_is_shared_is_the_user_s_own_and_made_by_no_one_else() -> None:
    model = rendered(a={"volumes": [{"type": "volume", "source": "cache", "target": "/cache"}]})
    model["volumes"] = {"cache": {"name": "copy_cache", "driver": "local"}, "rows": {"name": "copy_rows"}}
    usual = copy.deepcopy(model)
    usual["networks"]["default"]["name"], usual["volumes"]["cache"]["name"] = "shop_default", "shop_cache"
    share = Share(networks=frozenset(["default"]), volumes=frozenset(["cache"]))

    done = planned(model, usual=usual, configuration=Configuration(share=share))

    assert done.model["networks"]["default"] == {"name": "shop_default", "external": True}
    assert done.model["volumes"] == {
        "cache": {"name": "shop_cache", "external": True}, "rows": {"name": "copy_rows"}
    }  # fmt: skip
    assert done.verdict == "copies"


def test_host_entries_and_name_servers_move_with_their_subnet() -> None:
    hosts = ["db.lab=172.28.5.200", "other=192.0.2.1", "self=host-gateway"]
    model = rendered(a={"networks": {"lab": None}, "extra_hosts": hosts, "dns": ["172.28.5.53", "1.1.1.1"]})
    model["networks"] = {"lab": {"name": "shop_lab", "ipam": {"config": [{"subnet": "172.28.5.0/24"}]}}}

    done = planned(model)

    subnet = IPv4Network(done.model["networks"]["lab"]["ipam"]["config"][0]["subnet"])
    service = done.model["services"]["a"]
    assert service["extra_hosts"] == [f"db.lab={subnet[200]}", "other=192.0.2.1", "self=host-gateway"]
    assert service["dns"] == [str(subnet[53]), "1.1.1.1"]
    assert [change.place for change in done.changes if change.kind == "address"] == [
        "services.a.dns[0]", "services.a.extra_hosts[0]"
    ]  # fmt: skip


def test_a_fixed_address_on_a_shared_network_allows_one_copy() -> None:
    model = rendered(a={"networks": {"lab": {"ipv4_address": "172.28.5.10"}}})
    model["networks"] = {"lab": {"name": "lab"}}

    shared = frozenset(["lab"])
    done = planned(model, configuration=Configuration(share=Share(networks=shared)))

    assert done.verdict == "one at a time"
    assert exclusive(model, shared) == ("address:172.28.5.10@lab",)
    assert exclusive(model, frozenset()) == ()
    assert "has the address 172.28.5.10 on a shared network" in [item.text for item in done.concerns]


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_a_network_of_the_host_keeps_its_addresses_and_allows_one_copy(driver: str) -> None:
    config = [{"subnet": "192.0.2.0/24", "gateway": "192.0.2.1"}]
    model = rendered(a={"networks": {"lan": {"ipv4_address": "192.0.2.10"}}})
    model["networks"] = {
        "lan": {"name": "copy_lan", "driver": driver, "driver_opts": {"parent": "eth0.7"}, "ipam": {"config": config}},
        "other": {"name": "copy_other", "driver": driver},
    }

    done = planned(model)

    assert done.verdict == "one at a time"
    assert exclusive(model, frozenset()) == ("interface:eth0.7", "interface:other")
    assert networks.needed(model) == []
    assert done.model["networks"]["lan"]["ipam"]["config"] == config
    assert done.model["services"]["a"]["networks"]["lan"]["ipv4_address"] == "192.0.2.10"
    assert done.concerns[0].text.endswith("on the network of the host's interface eth0.7")
    outside = {"lan": {"name": "lan", "external": True, "driver": driver}}
    assert exclusive(model | {"networks": outside}, frozenset()) == ()


def test_the_name_of_a_host_interface_is_left_to_the_engine() -> None:
    model = rendered(a={})
    word = "com.docker.network.bridge.name"
    model["networks"]["default"]["driver_opts"] = {word: "shop0", "com.docker.network.driver.mtu": "1400"}

    done = planned(model)

    assert done.model["networks"]["default"]["driver_opts"] == {"com.docker.network.driver.mtu": "1400"}
    assert [(c.place, c.before) for c in done.changes] == [(f"networks.default.driver_opts.{word}", "shop0")]


def test_a_shared_service_is_named() -> None:
    done = planned(rendered(a={}), configuration=Configuration(share=Share(services=frozenset(["ldap"]))))

    assert [(item.place, item.text) for item in done.concerns] == [
        ("services.ldap", "is shared, so no copy starts it")
    ]  # fmt: skip


def test_a_rule_for_a_variable_that_is_not_there_is_refused_with_the_nearest() -> None:
    decided = Configuration(file="stackyard.toml", rewrite=frozenset(["web.API_ULR", "off.X"]))

    with pytest.raises(ConfigError, match=r"rewrite: no such variable of service web; did you mean 'API_URL'\?"):
        planned(rendered(web={"environment": {"API_URL": "x"}}), configuration=decided)


def test_a_network_without_a_subnet_gets_one_of_the_lease() -> None:
    done = planned(rendered(a={}))

    assert done.model["networks"]["default"]["ipam"]["config"] == [{"subnet": "10.0.0.0/28"}]


def test_a_fixed_subnet_moves_with_gateway_range_and_addresses() -> None:
    config = {
        "subnet": "172.28.5.0/24", "gateway": "172.28.5.1", "ip_range": "172.28.5.128/25",
        "aux_addresses": {"router": "172.28.5.2"},
    }  # fmt: skip
    model = rendered(a={"networks": {"lab": {"ipv4_address": "172.28.5.10"}}, "environment": {"PEER": "172.28.5.11"}})
    model["networks"] = {"lab": {"name": "copy_lab", "ipam": {"config": [config]}}}

    done = planned(model)

    assert done.model["networks"]["lab"]["ipam"]["config"] == [
        {
            "subnet": "10.0.0.0/24",
            "gateway": "10.0.0.1",
            "ip_range": "10.0.0.128/25",
            "aux_addresses": {"router": "10.0.0.2"},
        }
    ]
    assert done.model["services"]["a"]["networks"]["lab"]["ipv4_address"] == "10.0.0.10"
    assert done.model["services"]["a"]["environment"]["PEER"] == "172.28.5.11"
    assert [(c.level, c.place) for c in done.concerns] == [("asks", "services.a.environment.PEER")]


def test_an_ipv6_subnet_moves_to_a_unique_local_one_of_the_copy() -> None:
    model = rendered(a={"networks": {"six": {"ipv6_address": "2001:db8::10"}}})
    model["networks"] = {
        "six": {"name": "copy_six", "enable_ipv6": True, "ipam": {"config": [{"subnet": "2001:db8::/64"}]}}
    }

    done = planned(model)

    v6 = done.model["networks"]["six"]["ipam"]["config"][0]["subnet"]
    assert v6.startswith("fd")
    assert v6.endswith("/64")
    assert done.model["services"]["a"]["networks"]["six"]["ipv6_address"] == v6.removesuffix("/64") + "10"


def test_volumes_with_literal_and_external_names_are_private_in_a_copy() -> None:
    model = rendered(a={}) | {"volumes": {
        "data": {"name": "shop-data"}, "certs": {"name": "shop-certs", "external": True}, "own": {"name": "copy_own"},
    }}  # fmt: skip

    done = planned(model)

    assert done.model["volumes"] == {
        "data": {"name": "copy_data"},
        "certs": {"name": "copy_certs"},
        "own": {"name": "copy_own"},
    }
    assert [c.place for c in done.changes if c.kind == "volume"] == ["volumes.data.name", "volumes.certs.name"]


@pytest.mark.parametrize("options", [
    {"type": "none", "o": "bind", "device": "/home/me/pgdata"}, {"type": "nfs", "o": "addr=nas", "device": ":/pgdata"},
])  # fmt: skip
def test_a_volume_that_is_a_database_s_folder_elsewhere_becomes_a_plain_one(options: Model) -> None:
    mount = {"type": "volume", "source": "rows", "target": "/var/lib/postgresql/data", "volume": {}}
    model = rendered(db={"volumes": [mount]}) | {"volumes": {"rows": {"name": "copy_rows", "driver_opts": options}}}

    done = planned(model)

    assert done.model["volumes"] == {"rows": {"name": "copy_rows"}}
    assert [(c.place, c.before) for c in done.changes] == [("volumes.rows.driver_opts", options["device"])]
    assert done.concerns == ()


def test_a_volume_that_is_another_folder_stays_and_is_mentioned() -> None:
    options = {"type": "none", "o": "rbind", "device": "/home/me/uploads"}
    mount = {"type": "volume", "source": "files", "target": "/uploads", "volume": {}}
    model = rendered(web={"volumes": [mount]}) | {"volumes": {"files": {"name": "copy_files", "driver_opts": options}}}

    done = planned(model)

    assert done.model["volumes"]["files"]["driver_opts"] == options
    assert [(c.level, c.text) for c in done.concerns] == [("careful", "the volume's content is /home/me/uploads")]
    assert planned(model, there=False).verdict == "not possible"


def test_a_volume_in_memory_is_each_copy_s_own() -> None:
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}
    model = rendered(web={}) | {"volumes": {"ram": {"name": "copy_ram", "driver_opts": options}}}

    done = planned(model, there=False)

    assert (done.concerns, done.model["volumes"]["ram"]["driver_opts"]) == ((), options)


def bind(source: str, target: str, **more: object) -> Model:
    return {"type": "bind", "source": source, "target": target, "bind": {"create_host_path": True}, **more}


@pytest.mark.parametrize(
    ("image", "target"),
    [("postgres:17", "/var/lib/postgresql/data"), ("box", "/var/lib/mysql"), ("docker.io/library/redis:8", "/data"),
     ("bitnami/kafka@sha256:00", "/bitnami/kafka"), ("mongo", "/data/db")],
)  # fmt: skip
def test_a_database_s_folder_of_the_checkout_becomes_a_volume_of_the_copy(image: str, target: str) -> None:
    done = planned(rendered(db={"image": image, "volumes": [bind("/home/me/shop/pgdata", target)]}))

    mount = done.model["services"]["db"]["volumes"][0]
    assert (mount["type"], mount["target"]) == ("volume", target)
    assert done.model["volumes"][mount["source"]]["name"].startswith("copy_db-")
    assert done.changes[-1].why.startswith("a database's folder")


@pytest.mark.parametrize(
    ("service", "target"),
    [
        ({"environment": {"PGDATA": "/pg"}}, "/pg"), ({"environment": {"PGDATA": "/pg/data"}}, "/pg"),
        ({"environment": {"PGDATA": "/pg"}, "build": {}}, "/pg/wal"), ({"command": ["--datadir=/rows"]}, "/rows"),
        ({"command": ["mongod", "--dbpath", "/rows"]}, "/rows"),
        ({"command": ["postgres", "-c", "x=1", "-D", "/r"]}, "/r"),
        ({"entrypoint": ["sh", "-c", "exec redis-server --dir '/keys'"]}, "/keys"),
        ({"entrypoint": ["sh", "-c", "exec redis-server --dir=/keys"]}, "/keys"),
    ],
)  # fmt: skip
def test_a_folder_in_which_the_settings_of_a_service_keep_a_database_becomes_a_volume(
    service: Model, target: str
) -> None:
    done = planned(rendered(db={**service, "volumes": [bind("/home/me/shop/rows", target)]}))

    assert done.model["services"]["db"]["volumes"][0]["type"] == "volume"


@pytest.mark.parametrize(
    ("service", "target"),
    [
        ({"environment": {"PGDATA": "/work/pg"}, "build": {}}, "/work"), ({"environment": {"PGDATA": "pg"}}, "/src"),
        ({"command": ["serve", "--dir", "/src"]}, "/src"), ({"command": ["cc", "-D", "/src"]}, "/src"),
        ({"environment": {"PGDATA": None}}, "/src"), ({"environment": {"PGDATA": "/a/b/pg"}}, "/a"),
    ],
)  # fmt: skip
def test_another_folder_of_such_a_service_stays(service: Model, target: str) -> None:
    mounts = [bind("/home/me/shop/src", target)]

    assert planned(rendered(db={**service, "volumes": mounts})).model["services"]["db"]["volumes"] == mounts


def test_sources_and_read_only_binds_stay() -> None:
    mounts = [bind("/home/me/shop/src", "/src"), bind("/home/me/seed", "/var/lib/postgresql/data", read_only=True)]

    assert planned(rendered(db={"volumes": mounts})).model["services"]["db"]["volumes"] == mounts


def test_the_engine_s_socket_is_mentioned() -> None:
    done = planned(rendered(a={"volumes": [bind("/var/run/docker.sock", "/var/run/docker.sock")]}))

    assert [c.text for c in done.concerns] == ["mounts the engine's socket"]


def of_template(template: Model, *enabled: str) -> Project:
    return cast("Project", SimpleNamespace(template=template, enabled=lambda: frozenset(enabled)))


def test_all_missing_files_are_found_at_once_with_their_templates() -> None:
    needs: Model = {
        "env_file": [{"path": "/p/.env.secret", "required": True}, {"path": "/p/.env.extra", "required": False}],
        "volumes": [bind("/p/conf/app.ini", "/app.ini", read_only=True), bind("/p/pgdata", "/var/lib/mysql"),
                    bind("${HOME}/x.ini", "/x.ini")],
        "build": {"context": "/p/app", "dockerfile": "Dockerfile"},
        "secrets": [{"source": "word"}], "configs": ["rules"],
    }  # fmt: skip
    template = {
        "services": {
            "a": needs, "b": {"build": {"context": "/p/src", "dockerfile": "prod/Dockerfile"}},
            "c": {"build": {"context": "https://example.invalid/x.git"}}, "off": {**needs, "env_file": []},
            "d": {"build": {"context": "${SOURCE}"}},
            "e": {"build": {"context": "/p/src", "dockerfile_inline": "FROM a", "dockerfile": "Dockerfile"}},
        },
        "secrets": {"word": {"file": "/p/word"}, "unused": {"file": "/p/unused"}, "given": {"environment": "WORD"}},
        "configs": {"rules": {"file": "${RULES}"}},
    }  # fmt: skip
    there = {Path("/p/.env.secret.example"), Path("/p/src")}

    found = missing_files(of_template(template, "a", "b", "c", "d", "e"), there.__contains__)

    assert [(c.place, c.advice) for c in found] == [
        ("services.a.env_file[0]", "copy /p/.env.secret.example to it"), ("services.a.volumes[0]", "create it"),
        ("services.a.build.context", "create it"), ("services.b.build.dockerfile", "create it"),
        ("secrets.word.file", "create it"),
    ]  # fmt: skip


def test_what_only_a_service_without_its_profile_needs_may_be_missing() -> None:
    template = {"services": {
        "web": {}, "debug": {"env_file": [{"path": "/p/x"}], "build": {"context": "/p/y"}, "secrets": ["word"]},
    }, "secrets": {"word": {"file": "/p/word"}}}  # fmt: skip

    assert missing_files(of_template(template, "web"), lambda _: False) == []
    assert len(missing_files(of_template(template, "web", "debug"), lambda _: False)) == 3


def test_a_missing_bind_source_that_compose_would_make_a_folder_of_is_refused() -> None:
    assert planned(rendered(a={"volumes": [bind("/p/app.ini", "/app.ini")]}), there=False).verdict == "not possible"


@pytest.mark.parametrize("policy", ["always", "unless-stopped"])
def test_a_copy_does_not_come_back_after_a_reboot(policy: str) -> None:
    assert planned(rendered(a={"restart": policy})).model["services"]["a"]["restart"] == "on-failure"


@pytest.mark.parametrize(("policy", "kept"), [("any", "on-failure"), ("none", "none")])
def test_neither_does_one_whose_deployment_says_so(policy: str, kept: str) -> None:
    made = planned(rendered(a={"deploy": {"restart_policy": {"condition": policy}}}))

    assert made.model["services"]["a"]["deploy"]["restart_policy"] == {"condition": kept}
    assert [change.place for change in made.changes if change.kind == "restart"] == (
        ["services.a.deploy.restart_policy"] if kept != policy else []
    )


def test_what_is_built_here_gets_its_own_tag_and_others_follow_it() -> None:
    model = rendered(
        migrate={"image": "app:local", "build": {"context": "."}},
        worker={"image": "app:local", "build": {"context": "."}},
        viewer={"image": "app:local"},
        db={"image": "postgres:17"},
    )

    done = planned(model, tags={"migrate": "copy/app:1f", "worker": "copy/app:1f"})

    images = {name: service["image"] for name, service in done.model["services"].items()}
    assert images == {"migrate": "copy/app:1f", "worker": "copy/app:1f", "viewer": "copy/app:1f", "db": "postgres:17"}


def test_the_host_s_network_allows_one_copy_at_a_time() -> None:
    model = rendered(a={"network_mode": "host", "networks": None})
    done = planned(model)

    assert done.verdict == "one at a time"
    assert exclusive(model, frozenset()) == ("host-network",)
    assert done.concerns[0].place == "services.a.network_mode"


VALUE = "http://localhost:8080/v1"


def test_a_value_that_repeats_a_published_port_is_reported_and_left() -> None:
    done = planned(rendered(api={"ports": [tcp(80, "8080")]}, web={"environment": {"API_URL": VALUE, "LEVEL": "8080"}}))

    assert done.model["services"]["web"]["environment"]["API_URL"] == VALUE
    assert [(c.level, c.place) for c in done.concerns] == [("asks", "services.web.environment.API_URL")]
    assert 'rewrite = ["web.API_URL"]' in done.concerns[0].advice


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "host.docker.internal", "[::1]"])
def test_a_value_that_the_configuration_names_follows_the_copy(host: str) -> None:
    model = rendered(api={"ports": [tcp(80, "8080")]}, web={"environment": {"API_URL": f"http://{host}:8080/v1"}})

    done = planned(model, configuration=Configuration(rewrite=frozenset(["web.API_URL"])))

    assert done.model["services"]["web"]["environment"]["API_URL"] == f"http://{host}:9500/v1"
    assert done.changes[-1].kind == "value"
    assert not done.concerns


@pytest.mark.parametrize(
    "value",
    ["http://api:8080", "0.0.0.0:8080", "http://localhost:80800", "x.localhost:8080.y", "8080", "notlocalhost:8080"],
)
def test_other_values_with_the_same_number_are_left_alone(value: str) -> None:
    done = planned(rendered(api={"ports": [tcp(80, "8080")]}, web={"environment": {"A": value}}))

    assert [c.text for c in done.concerns if c.place.endswith(".A") and value != "x.localhost:8080.y"] == []


def test_a_command_that_repeats_a_published_port_is_reported() -> None:
    done = planned(rendered(api={"ports": [tcp(80, "8080")], "command": ["--url", "http://localhost:8080"]}))

    assert [c.place for c in done.concerns] == ["services.api.command"]


def test_without_an_enabled_service_the_profiles_are_named() -> None:
    template = {"services": {"a": {"profiles": ["test", "debug"]}}}

    with pytest.raises(UsageError, match="choose a profile: debug, test"):
        planned({"name": "copy", "services": {}}, template=template)


def test_a_project_without_services_says_so() -> None:
    with pytest.raises(UsageError, match="has no services"):
        planned({"name": "copy", "services": {}}, template={"services": {}})


def test_the_user_s_model_is_not_changed() -> None:
    model = rendered(db={"container_name": "db", "ports": [tcp(1, "1")], "restart": "always"})
    before = copy.deepcopy(model)

    planned(model)

    assert model == before


@given(st.lists(st.tuples(st.integers(1, 65535), st.booleans(), st.integers(0, 4)), max_size=12))
def test_no_two_ports_of_a_copy_are_one(entries: list[tuple[int, bool, int]]) -> None:
    services: dict[str, Model] = {
        f"s{n}": {"ports": [tcp(target, str(target) if fixed else "")], "scale": scale}
        for n, (target, fixed, scale) in enumerate(entries)
    }
    services["last"] = {}

    done = planned(rendered(**services))

    leased = [
        number
        for service in done.model["services"].values()
        if service.get("scale", 1)
        for port in service.get("ports", ())
        for number in range(int(port["published"].split("-")[0]), int(port["published"].split("-")[-1]) + 1)
    ]
    assert leased == list(range(9500, 9500 + sum(scale for *_, scale in entries)))
