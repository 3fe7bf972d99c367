"""The environments file of any project: its services have any names, and nothing else is known about them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from stackyard.errors import ConfigError, UsageError
from stackyard.leases import LeaseBook
from stackyard.leases.directory.files import restorer
from stackyard.probes import HttpProbe, PostgresProbe, WebSocketProbe
from stackyard.project.environments import Environment, load_services
from stackyard.settings import Settings
from stackyard.stacks.environments.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

YAML = "envs/docker_environments.yaml"
SHOP = {
    YAML: """\
version: 1
compose_file: compose.yaml
environments:
  local:
    description: for daily work
    profile: all
    env_file: envs/.env.local
    flavour: debian
    data: tmpfs
    ports: {shop: 7081, db: 7054}
    subnet: 10.213.254.0/28
    budget: {startup: 30s, memory: 500MB, cleanup: 5s, image: 400MB}
    health: {interval: 5s, timeout: 3s, retries: 10, start_period: 30s, start_interval: 250ms}
services:
  db: postgresql://owner:{db_key}@{db}/goods
  shop: http://{shop}
  live_prices: ws://{shop}/prices
variables:
  STACKYARD_SHOP_READY: /alive
  STACKYARD_SHOP_SIGNING_KEY: "{signing-key}"
  STACKYARD_SHOP_TENANT: "tenant-{lease}"
""",
    "envs/.env.local": """\
COMPOSE_PROJECT_NAME=stackyard-local
COMPOSE_PROFILES=all
STACKYARD_ENVIRONMENT=local
STACKYARD_FLAVOUR=debian
STACKYARD_SUBNET=10.213.254.0/28
STACKYARD_SHOP_PORT=7081
STACKYARD_DB_PORT=7054
STACKYARD_DB_DURABLE=off
""",
    "compose.yaml": """\
services:
  db:
    image: example/db:1
    environment: {DURABLE: "${STACKYARD_DB_DURABLE}", IN: "${STACKYARD_ENVIRONMENT}"}
    ports: ["127.0.0.1:${STACKYARD_DB_PORT}:5432"]
    mem_reservation: 100m
    secrets: [key]
  shop:
    image: example/shop:1
    ports: ["127.0.0.1:${STACKYARD_SHOP_PORT}:80"]
    secrets: [key, signing, theirs]
networks:
  default: {ipam: {config: [{subnet: "${STACKYARD_SUBNET}"}]}}
secrets:
  key: {file: "${STACKYARD_SECRETS_DIR:-./secrets}/db_key"}
  signing: {file: "${STACKYARD_SECRETS_DIR}/signing-key"}
  theirs: {file: ./theirs}
""",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "envs").mkdir()
    for name, text in SHOP.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def make(tmp_path: Path, free_host: None) -> Iterator[Callable[..., LeaseBook]]:
    del free_host
    books = []

    def book(**settings: str) -> LeaseBook:
        given = {"STACKYARD_STATE_DIR": str(tmp_path / "state"), "STACKYARD_POOL": "11000-11039"}
        books.append(LeaseBook(Settings.load({**given, "STACKYARD_POOL_SUBNETS": "10.214.0.0/17", **settings})))
        return books[-1]

    yield book
    for lease in books[0].leases():
        books[0].release(lease)


def test_an_environment_has_the_services_of_its_file(project: Path) -> None:
    found = Environment.load("local", project)

    assert found.ports == {"db": 7054, "shop": 7081}
    assert found.services.names == ("db", "shop", "live_prices")
    assert found.services.published == ("db", "shop")
    assert found.services.secrets == ("db_key", "signing-key")
    assert found.reserve_mb == 105
    assert load_services(project) == found.services


def test_a_lease_gives_the_variables_that_the_file_describes(project: Path, make: Callable[..., LeaseBook]) -> None:
    lease = make().acquire(Environment.load("local", project), variables={"STACKYARD_MAIL_URL": "smtp://127.0.0.1:25"})
    found = lease.variables()
    key, signing = (lease.secrets_dir.joinpath(name).read_text() for name in ("db_key", "signing-key"))

    assert found["STACKYARD_PORTS"] == "db:11000,shop:11001,live_prices:11002,spare:11003-11009"
    assert lease.urls() == {
        "db": f"postgresql://owner:{key}@127.0.0.1:11000/goods", "shop": "http://127.0.0.1:11001",
        "live_prices": "ws://127.0.0.1:11001/prices",
    }  # fmt: skip
    told = {name: found[f"STACKYARD_{name}"] for name in ("DB_PORT", "SHOP_PORT", "LIVE_PRICES_PORT", "SPARE_PORT_1")}
    assert [*told.values()] == ["11000", "11001", "11001", "11003"]
    assert (found["STACKYARD_SHOP_SIGNING_KEY"], found["STACKYARD_SHOP_TENANT"]) == (signing, f"tenant-{lease.id}")
    assert found["STACKYARD_DB_DURABLE"] == "off"
    assert sorted(lease.secrets()) == sorted([key, signing])
    assert not [name for name in found if any(word in name for word in ("POSTGRES", "REDIS", "AUTH", "BACKEND", "JWT"))]


def test_a_second_address_of_a_service_is_no_service_of_its_own(project: Path, make: Callable[..., LeaseBook]) -> None:
    lease = make().acquire(Environment.load("local", project))

    assert lease.servers() == {"db": "db", "shop": "shop", "live_prices": "shop"}
    assert lease.to_json()["ports"] == {"db": 11000, "shop": 11001}
    assert lease.to_json()["spare"] == [*range(11002, 11010)]
    with pytest.raises(UsageError, match="no service 'redis' in environment local; known: db, shop, live_prices"):
        lease.url("redis")


def test_the_fixed_block_is_that_of_the_file(project: Path, make: Callable[..., LeaseBook]) -> None:
    lease = make().acquire(Environment.load("local", project), fixed="only")

    assert lease.variables()["STACKYARD_PORTS"] == "db:7054,shop:7081"
    assert lease.urls()["live_prices"] == "ws://127.0.0.1:7081/prices"
    assert not lease.is_copy


def test_a_lease_that_moves_takes_its_addresses_along_and_keeps_the_rest(
    project: Path, make: Callable[..., LeaseBook]
) -> None:
    book, kept = make(), {"STACKYARD_MAIL_URL": "smtp://127.0.0.1:7081", "STACKYARD_NOTE": "7081"}
    lease = book.acquire(Environment.load("local", project), fixed="only", variables=kept)
    before, back = lease.variables(), restorer(lease)

    moved = book.move(lease)
    found = moved.variables()

    assert dict(moved.ports) == {"db": 11000, "shop": 11001, "live_prices": 11002}
    assert moved.urls() == {name: url.replace("7081", "11001").replace("7054", "11000")
                            for name, url in lease.urls_in(before).items()}  # fmt: skip
    assert (found["STACKYARD_SHOP_PORT"], found["STACKYARD_SPARE_PORT_1"]) == ("11001", "11003")
    assert {name: found[name] for name in kept} == kept
    assert found["STACKYARD_SHOP_TENANT"] == before["STACKYARD_SHOP_TENANT"]
    back()
    assert lease.variables() == before


def test_more_services_than_a_block_has_ports_get_the_next_block_too(
    project: Path, make: Callable[..., LeaseBook]
) -> None:
    more = "".join(f"  web{number}: http://{{shop}}/{number}\n" for number in range(9))
    edit(project, "variables:\n", f"{more}variables:\n")

    lease = make().acquire(Environment.load("local", project))

    assert lease.every_port == (*range(11000, 11020),)
    assert len(lease.ports) == 12


def test_a_lost_book_knows_the_lease_again(project: Path, make: Callable[..., LeaseBook]) -> None:
    book, environment = make(), Environment.load("local", project)
    fixed, pooled = book.acquire(environment, fixed="only"), book.acquire(environment)
    (book.settings.state_dir / "book.sqlite3").unlink()

    found = {lease.id: lease for lease in make().leases()}

    assert [replace(found[lease.id], created=lease.created) for lease in (fixed, pooled)] == [fixed, pooled]
    assert (found[fixed.id].slot, found[pooled.id].slot) == (None, 0)


def test_what_proves_a_service_usable_follows_from_its_url(project: Path, make: Callable[..., LeaseBook]) -> None:
    book = make()
    environment = Environment.load("local", project)
    engine: Any = None

    db, shop, live = Stack(environment, book.acquire(environment), book, engine).probes()

    assert (type(db), type(shop), type(live)) == (PostgresProbe, HttpProbe, WebSocketProbe)
    assert isinstance(shop, HttpProbe)
    assert shop.path == "/alive"
    assert isinstance(live, WebSocketProbe)
    assert live.origin == "http://127.0.0.1:11001"


def edit(project: Path, old: str, new: str, file: str = YAML) -> None:
    text = (project / file).read_text()
    assert old in text
    (project / file).write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "key", "rule"),
    [
        ("http://{shop}\n", "http://shop\n", "services.shop", "must hold one service in braces, such as {shop}"),
        ("{shop}/prices", "{shop}{db}/prices", "services.live_prices", "must hold one service"),
        ("ws://{shop}/prices", "ws://{db}/prices\n  a: http://{live_prices}", "services.a", "live_prices has no port"),
        ("http://{shop}\n", "mysql://{shop}\n", "services.shop", "must be a URL such as http://{shop}"),
        ("  shop: http", "  web_80_tcp: http", "services", "a name must be at most 32"),
        ("  shop: http", "  spare: http", "services", "not spare, lease"),
        ("  live_prices: ", "  a-b: http://{shop}\n  a_b: ", "services.a_b", "has the same variable as a-b"),
        ("{db_key}", "{no_key}", "services.db", "unknown word {no_key}; did you mean 'db_key'?"),
        ("{signing-key}", "{live_prices}", "variables.STACKYARD_SHOP_SIGNING_KEY", "unknown word {live_prices}"),
        ("STACKYARD_SHOP_TENANT", "TENANT", "variables", "a name must be a variable that begins with STACKYARD_"),
        ("ports: {shop: 7081,", "ports: {", "environments.local.ports.shop", "missing key; needed here: db, shop"),
        ("ports: {shop", "ports: {redis", "environments.local.ports.redis", "unknown key; known: db, shop"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_services_names_its_place_and_rule(
    project: Path, old: str, new: str, key: str, rule: str
) -> None:
    edit(project, old, new)

    with pytest.raises(ConfigError) as caught:
        Environment.load("local", project)

    assert (caught.value.file, caught.value.key) == (YAML, key)
    assert rule in caught.value.rule


def test_a_secret_has_no_name_of_a_service(project: Path) -> None:
    edit(project, "/db_key", "/shop", "compose.yaml")
    edit(project, "{db_key}", "x")

    with pytest.raises(ConfigError, match=r"services\.shop: must not be the name of a secret, too"):
        Environment.load("local", project)


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("STACKYARD_SHOP_PORT=7081\n", "", "STACKYARD_SHOP_PORT: missing variable; must be 7081"),
        ("DURABLE=off", "DURABLE=maybe", "STACKYARD_DB_DURABLE: must be on or off"),
        ("DURABLE=off", "DURABLE=off\nSTACKYARD_RESTART=no", "STACKYARD_RESTART: not a variable of compose.yaml"),
    ],
)
def test_an_env_file_has_what_the_compose_file_uses_and_nothing_else(
    project: Path, old: str, new: str, rule: str
) -> None:
    edit(project, old, new, "envs/.env.local")

    with pytest.raises(ConfigError, match=rule):
        Environment.load("local", project)


def test_a_lease_of_an_older_stackyard_is_read_and_moved(project: Path, make: Callable[..., LeaseBook]) -> None:
    book = make()
    lease = book.acquire(Environment.load("local", project))
    lines = lease.env_file.read_text().splitlines(keepends=True)
    lease.env_file.write_text("".join(line for line in lines if "STACKYARD_SECRETS=" not in line))

    assert len(lease.secrets()) == 2
    assert book.move(lease).url("shop") == "http://127.0.0.1:11011"
    assert len(book.find(lease.id).secrets()) == 2
