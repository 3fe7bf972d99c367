"""Databases in images of no known name: what the health check, the port and the variables tell, and what decides."""

from __future__ import annotations

from typing import Any

import pytest

from stackyard.probes.guessed_databases import CLIENTS
from stackyard.probes.known_databases import PRODUCTS
from stackyard.probes.readiness_rules import ImageFacts, choose, recognised
from stackyard.project.service_kinds import KEY, KINDS, marked

OWN: dict[str, Any] = {
    "image": "me/pg:1", "ports": [{"target": 5432, "protocol": "tcp"}],
    "environment": {"POSTGRES_USER": "me", "POSTGRES_PASSWORD": "x"},
}  # fmt: skip


def checked(text: str) -> dict[str, Any]:
    return {"image": "me/own:1", "healthcheck": {"test": ["CMD-SHELL", text]}}


def title(service: dict[str, Any], image: ImageFacts | None = None) -> str:
    found = recognised(service, image)
    return found[0].title if found else ""


@pytest.mark.parametrize(
    ("text", "product"),
    [
        ("pg_isready -U app -d app || exit 1", "PostgreSQL"),
        ("/usr/lib/postgresql/15/bin/pg_isready -h 127.0.0.1", "PostgreSQL"),
        ("pg_isready -h /var/run/postgresql", "PostgreSQL"),
        ("mysqladmin ping -hlocalhost -uroot -p$$PASS", "MariaDB or MySQL"),
        ("redis-cli ping | grep -q PONG", "Redis or Valkey"),
        ("echo 'db.hello().ok' | mongosh localhost:27017/test --quiet", "MongoDB"),
        ("rabbitmq-diagnostics -q ping", "RabbitMQ"),
        ("pg_isready -h db", ""),
        ("pg_isready --host=db", ""),
        ("pg_isready -d postgresql://me:x@db/app", ""),
        ("redis-cli -u redis://cache:6379 ping", ""),
        ("mongosh mongo:27017/test --quiet", ""),
        ("redis-cli ping && curl -f http://localhost", ""),
        ("curl -f http://localhost", ""),
        ("./pg_isready.py", ""),
    ],
)
def test_a_health_check_tells_the_database_in_its_own_container(text: str, product: str) -> None:
    assert title(checked(text)) == product


@pytest.mark.parametrize(
    "more",
    [
        {"command": ["sleep", "infinity"]},
        {"image": "me/web-migrations"},
        {"image": "edoburu/pgbouncer"},
        {"image": "postgres:17", "command": ["bash"]},
        {"ports": [{"target": 80, "protocol": "tcp"}]},
        {"environment": {"PGHOST": "db"}},
    ],
)
def test_another_sign_forbids_a_guess(more: dict[str, Any]) -> None:
    assert title(checked("pg_isready") | more) == ""


def test_the_port_and_the_account_tell_it_and_the_rule_says_so() -> None:
    said = "; taken for PostgreSQL because of its port and variables alone (services.db.kind in the configuration"

    assert title(OWN) == "PostgreSQL"
    assert choose("db", OWN).why.endswith(f"{said} decides)")
    assert said not in choose("db", OWN | {"healthcheck": {"test": ["CMD", "pg_isready"]}}).why
    assert title(OWN | {"environment": {"POSTGRES_PASSWORD_FILE": "/run/secrets/x"}}) == "PostgreSQL"


@pytest.mark.parametrize(
    "more", [{"environment": {}}, {"ports": []}, {"ports": [*OWN["ports"], {"target": 80, "protocol": "tcp"}]}]
)
def test_neither_the_port_nor_the_account_is_enough(more: dict[str, Any]) -> None:
    assert title(OWN | more) == ""


def test_a_guess_decides_nothing_about_readiness() -> None:
    image = ImageFacts(test=("CMD", "pg_isready"), exposed=("5432/tcp",))

    assert title({"image": "me/pg"}, image) == "PostgreSQL"
    assert choose("db", {"image": "me/pg"}, image).gate is None
    assert choose("db", OWN).kind == "tcp"


def test_the_configuration_wins_over_name_and_guess() -> None:
    assert title(OWN | {KEY: "none"}) == ""
    assert title({"image": "postgres:17", KEY: "redis"}) == "Redis or Valkey"
    assert choose("db", OWN | {KEY: "postgresql"}).kind == "command"


def test_each_kind_of_the_configuration_is_a_product() -> None:
    assert [*KINDS] == [*(product.kind for product in PRODUCTS), "none"]
    assert CLIENTS.keys() < {*KINDS}


def test_a_kind_is_in_the_model_of_the_service_alone() -> None:
    model = {"services": {"db": {"image": "x"}, "web": {}}}

    assert marked(model, {"db": "redis", "gone": "mysql"}) == {
        "services": {"db": {"image": "x", KEY: "redis"}, "web": {}}
    }
    assert model["services"]["db"] == {"image": "x"}
