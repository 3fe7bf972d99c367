"""Where a copy answers, and how large its networks are."""

from __future__ import annotations

from typing import Any

import pytest

from stackyard.plan import Address, addresses, networks, ports, variables
from stackyard.plan.services import check_soon

Model = dict[str, Any]


def published(service: str, *entries: tuple[int, str, str], **more: Any) -> Model:
    listed = [{"target": target, "published": port, "host_ip": host} for target, port, host in entries]
    return {"services": {service: {"ports": listed, **more}}}


def test_ports_have_the_user_s_names_and_the_copy_s_numbers() -> None:
    usual, model = published("web", (8080, "80", "")), published("web", (9500, "9500", "127.0.0.1"))

    found = addresses(usual, model)

    port: Any = {"service": "web", "target": 8080, "protocol": "tcp", "host": "127.0.0.1", "port": 9500}
    assert found == [Address(**port, published="80:8080")]
    assert (found[0].shown, found[0].named, found[0].to_json()["published"]) == ("127.0.0.1:9500", *["80:8080"] * 2)


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ((80, "8080", ""), "8080:80"), ((80, "8080", "10.0.0.7"), "10.0.0.7:8080:80"), ((80, "", ""), "80"),
        ((80, "", "127.0.0.1"), "127.0.0.1::80"), ((80, "8000-8002", ""), "8000-8002:80"),
    ],
)  # fmt: skip
def test_two_ports_of_one_service_are_distinguished_by_what_the_file_says(
    entry: tuple[int, str, str], named: str
) -> None:
    found = addresses(published("web", entry, (80, "9", "")), published("web", (80, "9500", ""), (80, "9501", "")))

    assert [(item.port, item.named) for item in found] == [(9500, named), (9501, "9:80")]


def test_a_port_of_an_older_copy_has_the_container_s_name() -> None:
    old: Any = {"service": "dns", "target": 53, "protocol": "udp", "host": "127.0.0.1", "port": 9500}

    assert (Address(**old).named, Address(**old).to_json()["published"]) == ("53/udp", None)


@pytest.mark.parametrize(
    ("host", "shown"),
    [("0.0.0.0", "127.0.0.1:9500"), ("::", "[::1]:9500"), ("10.0.0.7", "10.0.0.7:9500")],  # noqa: S104 - in a file
)
def test_an_address_is_one_that_a_program_can_connect_to(host: str, shown: str) -> None:
    model = published("web", (80, "9500", host))

    assert [item.shown for item in addresses(model, model)] == [shown]


def at(service: str, target: int, port: int, **more: str) -> Address:
    return Address(**{"protocol": "tcp", "host": "127.0.0.1"} | more, service=service, target=target, port=port)


def test_a_program_gets_the_password_and_a_person_does_not() -> None:
    db = at("db", 5432, 1, scheme="postgresql", login="app:x", path="/rows")

    assert (db.url, db.shown, db.browser("mine")) == (
        "postgresql://app:x@127.0.0.1:1/rows", "postgresql://127.0.0.1:1/rows", ""
    )  # fmt: skip
    assert "app:x" not in repr(db)
    assert Address(**db.kept()) == db


def test_what_is_spoken_where_no_one_knows_has_no_url() -> None:
    game = at("game", 7777, 1)

    assert (game.url, game.shown, game.browser("mine")) == (None, "127.0.0.1:1", "")


@pytest.mark.parametrize(
    ("name", "host", "scheme", "link"),
    [
        ("mine", "127.0.0.1", "http", "http://mine.localhost:1"),
        ("agent_7", "::1", "https", "https://agent-7.localhost:1"),
        ("mine", "10.0.0.7", "http", "http://10.0.0.7:1"),
        ("_", "127.0.0.1", "http", "http://127.0.0.1:1"),
    ],
)
def test_a_browser_gets_a_name_of_the_copy_s_own(name: str, host: str, scheme: str, link: str) -> None:
    assert at("web", 80, 1, host=host, scheme=scheme).browser(name) == link


def test_variables_name_service_and_port() -> None:
    http = {"scheme": "http"}
    found = variables([at("my-web", 80, 1, **http), at("my-web", 80, 2, **http), at("dns", 53, 3, protocol="udp")])

    assert found == {
        "STACKYARD_MY_WEB_80_PORT": "1", "STACKYARD_MY_WEB_HOST": "127.0.0.1", "STACKYARD_MY_WEB_PORT": "1",
        "STACKYARD_MY_WEB_ADDRESS": "127.0.0.1:1", "STACKYARD_MY_WEB_80_URL": "http://127.0.0.1:1",
        "STACKYARD_MY_WEB_URL": "http://127.0.0.1:1", "STACKYARD_MY_WEB_80_PORT_2": "2",
        "STACKYARD_DNS_53_UDP_PORT": "3", "STACKYARD_DNS_HOST": "127.0.0.1", "STACKYARD_DNS_PORT": "3",
        "STACKYARD_DNS_ADDRESS": "127.0.0.1:3",
    }  # fmt: skip


def test_the_url_of_a_service_is_that_of_its_first_port_that_has_one() -> None:
    told = variables([at("mq", 5671, 1), at("mq", 5672, 2, scheme="amqp"), at("mq", 15672, 3, scheme="http")])

    assert (told["STACKYARD_MQ_ADDRESS"], told["STACKYARD_MQ_URL"]) == ("127.0.0.1:1", "amqp://127.0.0.1:2")
    assert told["STACKYARD_MQ_15672_URL"] == "http://127.0.0.1:3"
    assert "STACKYARD_MQ_5671_URL" not in told


def test_places_that_share_a_variable_share_a_port_and_replicas_share_none() -> None:
    usual = published("web", (80, "8080", ""), (81, "8080", ""), (82, "1-2", ""), scale=1)
    usual["services"]["many"] = {"scale": 2, "ports": [{"target": 83, "published": "8090-8091"}]}
    template = {
        "services": {
            "web": {"ports": ["${P:-8080}:80", "${P:-8080}:81", "1-2:82"]},
            "many": {"ports": ["${Q:-8090-8091}:83"]},
        }
    }

    given = ports.single_variables(template, usual)
    drawn = [(port.target, variable) for port, variable in ports.draws(usual, given)]

    assert given == {"P": ["services.web.ports[0]", "services.web.ports[1]"]}
    assert drawn == [(80, "P"), (82, ""), (83, ""), (83, "")]


def on(network: Model | None, *services: Model) -> Model:
    return {"networks": {"lan": network}, "services": {f"s{n}": item for n, item in enumerate(services)}}


def member(**settings: Any) -> Model:
    return {"networks": {"lan": settings or None}}


def subnet(text: str, **more: Any) -> Model:
    return {"ipam": {"config": [{"subnet": text, **more}]}}


@pytest.mark.parametrize(
    ("model", "prefixes"),
    [
        (on(None, member()), [28]),
        (on(None, *[member()] * 12), [28]),
        (on(None, *[member()] * 13), [27]),
        (on(None, {**member(), "scale": 100}), [25]),
        (on({"driver": "host"}, member()), []),
        (on(subnet("172.30.0.0/16"), member()), [28]),
        (on(subnet("172.30.0.0/16"), member(ipv4_address="172.30.9.10")), [20]),
        (on(subnet("172.30.9.0/24", gateway="172.30.9.254"), member()), [24]),
        (on(subnet("172.30.9.0/24", ip_range="172.30.9.64/26"), member()), [24]),
        (on(subnet("172.30.9.0/24", aux_addresses={"x": "172.30.9.20"}), member()), [27]),
        (on(subnet("172.30.9.0/29"), member()), [29]),
        (on(subnet("fd00::/64"), member()), [28]),
    ],
)
def test_a_network_is_as_large_as_its_members_and_addresses_need(model: Model, prefixes: list[int]) -> None:
    assert networks.needed(model) == prefixes


def test_a_shared_network_is_not_leased() -> None:
    assert networks.needed(on(None, member()), frozenset({"lan"})) == []


@pytest.mark.parametrize("health", [None, {"disable": True}, {"test": ["NONE"]}, {"interval": "5s"}])
def test_a_service_without_a_health_check_of_its_own_is_left_alone(health: Model | None) -> None:
    model: Model = {"services": {"web": {"healthcheck": health}}}

    check_soon(model)

    assert model["services"]["web"]["healthcheck"] == health


def test_a_health_check_runs_soon() -> None:
    model: Model = {"services": {"web": {"healthcheck": {"test": ["CMD", "true"], "interval": "30s"}}}}

    check_soon(model)

    assert model["services"]["web"]["healthcheck"]["start_interval"] == "100ms"
    assert model["services"]["web"]["healthcheck"]["interval"] == "30s"
