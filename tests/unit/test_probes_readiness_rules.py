"""Which readiness rule a service gets: cases as real Compose files and real images write them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from stackyard.probes.known_databases import PRODUCTS
from stackyard.probes.readiness_rules import ImageFacts, Rule, choose, conditions, rules_for
from stackyard.project.readiness_hints import Hint
from stackyard.project.service_ports import Port

if TYPE_CHECKING:
    from pathlib import Path

Model = dict[str, Any]


def image(**config: Any) -> ImageFacts:
    return ImageFacts.from_inspect({"Config": config})


POSTGRES = image(
    Env=["PATH=/usr/bin", "PG_MAJOR=17", "PGDATA=/var/lib/postgresql/data"], ExposedPorts={"5432/tcp": {}},
    Entrypoint=["docker-entrypoint.sh"], Cmd=["postgres"],
)  # fmt: skip
REDIS = image(
    Env=["REDIS_VERSION=7"], ExposedPorts={"6379/tcp": {}}, Entrypoint=["docker-entrypoint.sh"], Cmd=["redis-server"]
)
NGINX = image(
    Env=["NGINX_VERSION=1.27"], ExposedPorts={"80/tcp": {}}, Entrypoint=["/docker-entrypoint.sh"], Cmd=["nginx"]
)
APP = image(Env=["PYTHON_VERSION=3.12"], ExposedPorts={"8000/tcp": {}}, Cmd=["uvicorn", "app:app"])
APP_WITH_CHECK = image(
    ExposedPorts={"8000/tcp": {}}, Cmd=["serve"],
    Healthcheck={"Test": ["CMD-SHELL", "curl -f localhost:8000"], "Timeout": 3_000_000_000},
)  # fmt: skip
COMPLETED = {"app": "service_completed_successfully"}
HEALTHY = {"app": "service_healthy"}


def tcp(target: int, **more: str) -> Model:
    return {"mode": "ingress", "target": target, "published": str(target), "protocol": "tcp", **more}


def check(*test: str, **more: Any) -> Model:
    return {"healthcheck": {"test": [*test], **more}}


def found(service: Model, facts: ImageFacts | None = None, **more: Any) -> Rule:
    return choose("svc", service, facts, **more)


@pytest.mark.parametrize(
    ("service", "facts", "expected"),
    [
        ({"ports": [tcp(8000), tcp(9229)]}, APP_WITH_CHECK, (8000,)),
        ({"expose": ["7000"]}, APP_WITH_CHECK, (7000,)),
        ({}, APP_WITH_CHECK, (8000,)),
        ({"command": ["celery", "worker"]}, APP_WITH_CHECK, ()),
        ({"expose": ["7000/udp"]}, APP_WITH_CHECK, ()),
        ({"ports": [tcp(5432)], **check("CMD", "pg_isready")}, POSTGRES, ()),
    ],
)
def test_the_ports_of_a_service_likely_listen_before_its_health_check_passes(
    service: Model, facts: ImageFacts, expected: tuple[int, ...]
) -> None:
    assert tuple(port.number for port in found(service, facts).expected) == expected


# service, image, kind, what its sentence says
KINDS: dict[str, tuple[Model, ImageFacts | None, str, str]] = {
    "check of the file": (check("CMD", "pg", "up"), None, "health check", "health check of the Compose file: pg up"),
    "check in a shell": (check("CMD-SHELL", "a | b"), None, "health check", "Compose file: a | b"),
    "check of the image": ({}, APP_WITH_CHECK, "health check", "health check of the image: curl"),
    "file before image": (check("CMD", "true"), APP_WITH_CHECK, "health check", "Compose file: true"),
    "check before ports": ({**check("CMD", "true"), "ports": [tcp(80)]}, None, "health check", "true"),
    "check of a database": (check("CMD", "pg_isready"), POSTGRES, "health check", "once port 5432 listens"),
    "check that is off": ({"healthcheck": {"disable": True}, "ports": [tcp(80)]}, APP_WITH_CHECK, "http", "port 80"),
    "check NONE": ({**check("NONE")}, APP_WITH_CHECK, "http", "exposed port 8000"),
    "image's NONE": ({}, image(Healthcheck={"Test": ["NONE"]}), "running", "runs for 0.5 s"),
    "image's empty test": ({}, image(Healthcheck={"Test": []}), "running", "runs for 0.5 s"),
    "check without a command": (check("CMD"), None, "running", "runs for 0.5 s"),
    "postgres by name": ({"image": "postgres:17-alpine"}, None, "command", "PostgreSQL: the query `select 1`"),
    "postgres by digest": ({"image": "postgres@sha256:12"}, None, "command", "PostgreSQL"),
    "postgis": ({"image": "postgis/postgis:16-3.4"}, None, "command", "PostgreSQL"),
    "timescale": ({"image": "timescale/timescaledb-ha:pg16"}, None, "command", "PostgreSQL"),
    "pgvector": ({"image": "reg.example:5000/pgvector/pgvector:pg16"}, None, "command", "PostgreSQL"),
    "bitnami": ({"image": "bitnami/postgresql:16"}, None, "command", "PostgreSQL"),
    "built on postgres": ({"image": "shop-db", "build": {}}, POSTGRES, "command", "PostgreSQL"),
    "postgres with options": ({"image": "postgres", "command": ["-c", "fsync=off"]}, POSTGRES, "command", "PostgreSQL"),
    "postgres, named": ({"image": "postgres", "command": ["postgres", "-N", "9"]}, POSTGRES, "command", "PostgreSQL"),
    "postgres published": ({"image": "postgres", "ports": [tcp(5432)]}, POSTGRES, "command", "PostgreSQL"),
    "psql of its image": ({"image": "postgres", "command": ["psql", "-U", "postgres"]}, POSTGRES, "running", "runs"),
    "dump of its image": (
        {"image": "postgres", "entrypoint": ["sh", "-c", "while true; do pg_dump -U postgres; done"]}, POSTGRES,
        "running", "runs",
    ),
    "exporter": ({"image": "postgres-exporter", "ports": [tcp(9187)]}, None, "http", "published port 9187"),
    "mysql": ({"image": "mysql:8.4"}, None, "command", "MySQL: `mysqladmin ping`"),
    "mariadb": ({"image": "mariadb:11", "command": ["--character-set-server=utf8"]}, None, "command", "MariaDB"),
    "redis": ({"image": "redis:7"}, REDIS, "command", "PING"),
    "valkey": ({"image": "valkey/valkey:8"}, None, "command", "PING"),
    "redis in a shell": (
        {"image": "redis", "command": ["sh", "-c", "redis-server --requirepass $$REDIS_PASSWORD"]}, REDIS,
        "command", "PING",
    ),
    "redis with a file": ({"image": "redis", "command": ["/etc/redis.conf"]}, REDIS, "command", "PING"),
    "redis behind exec": (
        {"image": "redis", "entrypoint": ["sh", "-c", "sysctl x && exec redis-server"]}, REDIS, "command", "PING",
    ),
    "redis' cluster": ({"image": "redis", "command": ["redis-cli", "--cluster", "create"]}, REDIS, "running", "runs"),
    "mongo": ({"image": "mongo:7"}, None, "command", "MongoDB: the command `ping`"),
    "mongo replica": ({"image": "mongo:7", "command": ["mongod", "--replSet", "r"]}, None, "command", "MongoDB"),
    "rabbitmq": ({"image": "rabbitmq:3-management"}, None, "command", "rabbitmq-diagnostics ping"),
    "memcached": ({"image": "memcached:1.6"}, None, "tcp", "memcached: port 11211 listens"),
    "web": ({"image": "nginx", "ports": [tcp(80)]}, NGINX, "http", "published port 80: it answers HTTP below 500"),
    "two ports": ({"ports": [tcp(80), tcp(443)]}, NGINX, "http", "published ports 80 and 443: each answers HTTP"),
    "three ports": ({"ports": [tcp(1), tcp(2), tcp(3)]}, None, "http", "ports 1, 2 and 3"),
    "ldap": ({"image": "osixia/openldap", "ports": [tcp(389)]}, None, "tcp", "port 389: it listens"),
    "kafka": ({"image": "apache/kafka", "ports": [tcp(9092)]}, None, "tcp", "port 9092: it listens"),
    "mail": ({"image": "mailpit", "ports": [tcp(1025), tcp(8025)]}, None, "http", "ports 1025 and 8025: each answers"),
    "named protocol": ({"ports": [tcp(80, app_protocol="tcp")]}, None, "tcp", "port 80: it listens"),
    "named http": ({"ports": [tcp(5432, app_protocol="http")]}, None, "http", "port 5432: it answers HTTP"),
    "debugger too": ({"ports": [tcp(3000), tcp(9229)]}, None, "http", "published port 3000"),
    "debugger only": ({"ports": [tcp(9229)]}, None, "running", "no port to ask"),
    "udp too": ({"ports": [tcp(80), {"target": 53, "protocol": "udp"}]}, None, "http", "published port 80"),
    "udp only": ({"ports": [{"target": 53, "protocol": "udp"}]}, None, "tcp", "published port 53/udp: it listens"),
    "range of udp": (
        {"ports": [{"target": port, "protocol": "udp"} for port in range(10000, 10100)]}, None,
        "tcp", "published port 10000/udp",
    ),
    "exposed by the file": ({"expose": ["9000"]}, None, "http", "exposed port 9000"),
    "exposed by the image": ({"image": "nginx"}, NGINX, "http", "exposed port 80: it answers"),
    "exposed range": ({"expose": ["7000-7005/tcp"]}, None, "http", "exposed port 7000"),
    "exposed several": ({"expose": ["389", "636"]}, None, "tcp", "exposed ports 389 and 636: one of them listens"),
    "exposed udp": ({"expose": ["9000/udp"]}, None, "tcp", "exposed port 9000/udp"),
    "worker of a web image": ({"command": ["celery", "-A", "app", "worker"]}, APP, "running", "no port to ask"),
    "nothing": ({"image": "box", "command": ["sleep", "600"]}, image(Cmd=["sh"]), "running", "runs for 0.5 s"),
    "no image known": ({"build": {}}, None, "running", "runs for 0.5 s"),
    "migration": ({"command": ["python", "manage.py", "migrate"]}, APP, "exit 0", "its command says that it ends"),
    "alembic": ({"command": ["alembic", "-c", "a.ini", "upgrade", "head"]}, None, "exit 0", "its command"),
    "rails": ({"command": ["bundle", "exec", "rails", "db:migrate"]}, None, "exit 0", "its command"),
    "prisma": ({"command": ["npx", "prisma", "migrate", "deploy"]}, None, "exit 0", "its command"),
    "buckets": (
        {"image": "minio/mc", "entrypoint": ["sh", "-c", "\nsleep 2;\nmc alias set m http://m;\nmc mb m/b;\n"]},
        None, "exit 0", "its command",
    ),
    "migration, then a server": (
        {"command": ["sh", "-c", "python manage.py migrate && python manage.py runserver 0:8000"]}, APP,
        "running", "no port to ask",
    ),
    "migration that stays": ({"command": ["sh", "-c", "flyway migrate; sleep infinity"]}, None, "running", "runs"),
    "migration that restarts": (
        {"command": ["flyway", "migrate"], "restart": "always"}, None, "running", "runs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", KINDS)
def test_a_service_gets_the_rule_that_fits_it_and_a_sentence_that_says_why(case: str) -> None:
    service, facts, kind, says = KINDS[case]

    rule = found(service, facts)

    assert rule.kind == kind
    assert says in rule.why
    assert rule.service == "svc"


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("migrate", True), ("db-migrate", True), ("migrations", True), ("seed", True), ("minio-init", True),
        ("init-db", True), ("setup", True), ("kafka_setup", True), ("createbuckets", True), ("create-bucket", True),
        ("initializr", False), ("seed-node", False), ("web", False), ("worker", False), ("bootstrap", False),
    ],
)  # fmt: skip
def test_a_name_says_that_a_service_ends(name: str, *, ends: bool) -> None:
    assert (choose(name, {"image": "x"}).kind == "exit 0") is ends


@pytest.mark.parametrize(
    "service", [{"ports": [tcp(80)]}, {"restart": "unless-stopped"}, {"command": ["tail", "-f", "/dev/null"]}]
)
def test_a_name_says_nothing_about_a_service_that_stays(service: Model) -> None:
    assert choose("setup", service).kind != "exit 0"


def test_a_service_that_another_needs_healthy_does_not_end() -> None:
    assert choose("setup", {}, awaited=HEALTHY).kind == "running"


def test_who_waits_for_an_end_decides_before_any_health_check() -> None:
    rule = found(
        {**check("CMD", "true"), "ports": [tcp(80)]}, APP_WITH_CHECK, awaited=COMPLETED | {"b": "service_started"}
    )

    assert rule.kind == "exit 0"
    assert rule.why == "app waits until it has ended with exit code 0"
    assert rule.may_end


def test_several_who_wait_are_all_named() -> None:
    rule = found({}, awaited=COMPLETED | {"web": "service_completed_successfully"})

    assert rule.why == "app and web wait until it has ended with exit code 0"


@pytest.mark.parametrize(
    ("service", "facts", "words"),
    [
        (check("CMD", "a", "$$b"), None, ("a", "$b")),
        (check("CMD-SHELL", "test $$X = '$$$$'"), None, ("/bin/sh", "-c", "test $X = '$$'")),
        (check("CMD-SHELL", "x"), image(Shell=["/bin/bash", "-ec"]), ("/bin/bash", "-ec", "x")),
        ({}, APP_WITH_CHECK, ("/bin/sh", "-c", "curl -f localhost:8000")),
        ({"healthcheck": {"interval": "5s"}}, APP_WITH_CHECK, ("/bin/sh", "-c", "curl -f localhost:8000")),
    ],
)
def test_a_health_check_runs_what_the_engine_would_run(
    service: Model, facts: ImageFacts | None, words: tuple[str, ...]
) -> None:
    assert found(service, facts).words == words


@pytest.mark.parametrize(
    ("service", "facts", "seconds"),
    [
        (check("CMD", "a", timeout="1m30s"), APP_WITH_CHECK, 90.0),
        (check("CMD", "a", timeout="500ms"), None, 0.5),
        (check("CMD", "a"), APP_WITH_CHECK, 3.0),
        ({}, APP_WITH_CHECK, 3.0),
        (check("CMD", "a"), None, 30.0),
        (check("CMD", "a", timeout="0s"), None, 30.0),
    ],
)
def test_a_health_check_has_its_own_timeout(service: Model, facts: ImageFacts | None, seconds: float) -> None:
    assert found(service, facts).timeout == seconds


@pytest.mark.parametrize(
    ("service", "facts", "port"),
    [
        ({"image": "postgres"}, POSTGRES, 5432),
        ({"image": "postgres", "environment": {"PGPORT": "5433"}}, POSTGRES, 5433),
        ({"image": "postgres", "environment": {"PGPORT": "5433"}, "command": ["-p", "6000"]}, POSTGRES, 6000),
        ({"image": "postgres", "command": ["postgres", "-c", "port=5500"]}, POSTGRES, 5500),
        ({"image": "mysql", "command": ["mysqld", "--port=3307"]}, None, 3307),
        ({"image": "redis", "command": ["redis-server", "--port", "6380"]}, REDIS, 6380),
        ({"image": "redis", "command": ["sh", "-c", "redis-server --port 6381 --save x"]}, REDIS, 6381),
        ({"image": "redis", "command": ["redis-server", "--port", "0"]}, REDIS, 6379),
        ({"image": "redis", "command": ["redis-server", "--port"]}, REDIS, 6379),
        ({"image": "mongo", "command": ["--port", "27018"]}, None, 27018),
        ({"image": "rabbitmq", "environment": {"RABBITMQ_NODE_PORT": "5673"}}, None, 5673),
        ({"image": "rabbitmq", "environment": {"RABBITMQ_NODE_PORT": None}}, None, 5672),
    ],
)
def test_a_database_is_asked_on_the_port_that_it_was_given(service: Model, facts: ImageFacts | None, port: int) -> None:
    rule = found(service, facts)

    assert rule.gate == Port(port)
    assert rule.words[-1] == str(port)


@pytest.mark.parametrize(("mode", "host"), [(None, ""), ("service:web", "127.0.0.1"), ("host", "127.0.0.1")])
def test_a_database_is_asked_by_its_own_name_so_that_a_private_server_on_loopback_does_not_count(
    mode: str | None, host: str
) -> None:
    rule = found({"image": "mongo", "network_mode": mode})

    assert rule.words[-2] == host
    assert rule.loopback is bool(host)


def test_only_a_database_that_sets_itself_up_holds_a_health_check_back() -> None:
    assert found(check("CMD", "redis-cli", "ping"), REDIS).gate is None
    assert found(check("CMD", "pg_isready"), POSTGRES).gate == Port(5432)


@pytest.mark.parametrize(
    "service",
    [
        {"command": ["sleep", "600"]}, {"command": ["/bin/sleep", "infinity"]},
        {"command": ["tail", "-f", "/dev/null"]},
        {"command": ["sh", "-c", "while sleep 1000; do :; done"]}, {"entrypoint": ["sleep"], "command": ["1h"]},
        {"command": ["bash", "-c", "while true; do sleep 3600; done"]},
        {"command": ["sh", "-lc", "exec sleep infinity"]},
    ],
)  # fmt: skip
def test_a_command_that_only_waits_never_listens_on_its_published_ports(service: Model) -> None:
    for facts in (None, image(Entrypoint=["/usr/bin/tini", "--"]), image(Entrypoint=["docker-entrypoint.sh"])):
        rule = found({"ports": [tcp(80)], **service}, facts)

        assert (rule.kind, rule.seconds, rule.may_end) == ("running", 0.5, False)
        assert rule.why.startswith("its command only waits (")
    assert found({"ports": [tcp(80)]}, image(Cmd=["sleep", "infinity"])).kind == "running"


@pytest.mark.parametrize(
    ("service", "facts"),
    [
        ({"command": ["sh", "-c", "sleep 20; exec httpd"]}, None),
        ({"command": ["sh", "-c", "sleep 1 && httpd"]}, None),
        ({"command": ["sleep-server", "600"]}, None), ({"command": ["tail", "-f", "/var/log/app"]}, None),
        ({"command": ["sleep", "infinity"]}, image(Entrypoint=["/start-servers.sh"])),
        ({}, image(Entrypoint=["/start-servers.sh"], Cmd=["sleep", "infinity"])),
        ({"command": ["sh", "-c", "while sleep 1; do serve; done"]}, None),
    ],
)  # fmt: skip
def test_a_command_that_may_still_listen_is_waited_for(service: Model, facts: ImageFacts | None) -> None:
    assert found({"ports": [tcp(80)], **service}, facts).kind == "http"


def test_udp_ports_that_are_published_beside_tcp_ones_may_show_that_a_server_is_there() -> None:
    ports = [tcp(53), {**tcp(53), "protocol": "udp"}, {**tcp(1700), "protocol": "udp"}]
    rule = found({"ports": ports})

    assert rule.ports == (Port(53),)
    assert rule.datagrams == (Port(53, "udp"), Port(1700, "udp"))
    assert found({"expose": ["53", "53/udp"]}).datagrams == ()


def test_published_ports_are_all_wanted_and_exposed_ones_are_not() -> None:
    assert found({"ports": [tcp(80)]}).strict
    assert not found({"expose": ["80"]}).strict
    assert not found({}, NGINX).strict


@pytest.mark.parametrize(
    ("service", "awaited", "may_end"),
    [
        ({}, {}, True),
        ({"restart": "on-failure:3"}, {}, True),
        ({"restart": "no"}, {"app": "service_started"}, True),
        ({"restart": "always"}, {}, False),
        ({"restart": "unless-stopped"}, {}, False),
        ({"ports": [tcp(80)]}, {}, False),
        (check("CMD", "true"), HEALTHY, False),
        (check("CMD", "true"), {}, True),
        ({"image": "postgres"}, {}, False),
        ({"image": "memcached"}, {}, False),
    ],
)
def test_a_service_may_end_with_0_unless_others_count_on_it(
    service: Model, awaited: dict[str, str], *, may_end: bool
) -> None:
    assert found(service, awaited=awaited).may_end is may_end


@pytest.mark.parametrize(
    ("hint", "service", "kind", "port", "says"),
    [
        ({"http": "/healthz"}, {"ports": [tcp(8000)]}, "http", 8000, "port 8000 gives an HTTP answer below 400"),
        ({"http": "/healthz"}, {"ports": [tcp(5432), tcp(8000)]}, "http", 8000, "port 8000"),
        ({"http": "/healthz"}, {"ports": [tcp(5432)]}, "http", 5432, "port 5432"),
        ({"http": "/healthz"}, {"expose": ["9000"]}, "http", 9000, "port 9000"),
        ({"http": "/"}, {}, "http", 80, "port 80"),
        ({"http": "9001/up?full=1"}, {"ports": [tcp(8000)]}, "http", 9001, "http: 9001/up?full=1"),
        ({"ws": "/ws"}, {"ports": [tcp(8000)]}, "websocket", 8000, "ws: /ws: port 8000 opens it"),
        ({"tcp": 5432}, check("CMD", "x"), "tcp", 5432, "tcp: 5432: port 5432 listens"),
        ({"tcp": "5432"}, {}, "tcp", 5432, "tcp: 5432"),
    ],
)  # fmt: skip
def test_a_hint_about_a_port_comes_before_everything_else(
    hint: object, service: Model, kind: str, port: int, says: str
) -> None:
    rule = found(service, APP_WITH_CHECK if kind == "tcp" else None, hint=Hint.parse(hint), awaited=COMPLETED)

    assert (rule.kind, rule.ports, rule.hinted, rule.may_end) == (kind, (Port(port),), True, False)
    assert says in rule.why


def test_a_hint_may_name_a_line_of_the_log() -> None:
    rule = found({"ports": [tcp(80)]}, hint=Hint.parse({"log": "ready to (serve|work)"}))

    assert (rule.kind, rule.pattern) == ("log", "ready to (serve|work)")
    assert rule.why == "the configuration says log: ready to (serve|work): a line of its log must match"


def test_a_hint_may_say_that_a_service_ends() -> None:
    rule = found({"ports": [tcp(80)], "restart": "always"}, hint=Hint.parse({"exit": 0}))

    assert (rule.kind, rule.may_end) == ("exit 0", True)
    assert "exit: 0" in rule.why


@pytest.mark.parametrize(
    "wrong",
    [
        None, "http", {}, {"http": "healthz"}, {"http": ""}, {"http": "/a b"}, {"http": "/", "tcp": 1}, {"tcp": 0},
        {"tcp": 65536}, {"tcp": "x"}, {"tcp": True}, {"log": "("}, {"log": ""}, {"exit": 1}, {"exit": False},
        {"sql": "select 1"}, {"ws": 5}, {"http": "123456/x"},
    ],
)  # fmt: skip
def test_a_wrong_hint_is_refused_with_all_forms(wrong: object) -> None:
    with pytest.raises(ValueError, match=r'^must be \{http = "/path"\}, .* or "running"'):
        Hint.parse(wrong)


def test_a_hint_of_a_kind_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'htp' is none of them; did you mean 'http'\? known: exit, "):
        Hint.parse({"htp": "/"})


def test_a_hint_may_say_that_running_is_enough() -> None:
    rule = found({"ports": [tcp(80)]}, APP_WITH_CHECK, hint=Hint.parse("running"))

    assert (rule.kind, rule.hinted, rule.may_end) == ("running", True, False)
    assert rule.why == "the configuration says running: it runs for 0.5 s"


def test_every_service_with_a_container_gets_a_rule() -> None:
    model = {
        "services": {
            "db": {"image": "postgres"},
            "off": {"scale": 0},
            "none": {"deploy": {"replicas": 0}},
            "cloud": {"provider": {"type": "x"}},
            "migrate": {},
            "web": {"depends_on": {"migrate": {"condition": "service_completed_successfully"}, "db": None}},
        }
    }

    rules = rules_for(model, {"db": POSTGRES}, {"web": Hint(kind="tcp", port=1)})

    assert {name: rule.kind for name, rule in rules.items()} == {"db": "command", "migrate": "exit 0", "web": "tcp"}
    assert conditions(model) == {
        "migrate": {"web": "service_completed_successfully"},
        "db": {"web": "service_started"},
    }


def test_a_project_without_services_has_no_rules() -> None:
    assert rules_for({}, {}) == {}


def test_an_image_may_say_nothing() -> None:
    assert ImageFacts.from_inspect({}) == ImageFacts.from_inspect({"Config": {}}) == ImageFacts()


def test_a_rule_as_data_shows_no_command() -> None:
    data = found(check("CMD", "login", "secret")).to_json()

    assert "words" not in data
    assert data["kind"] == "health check"


def test_a_sentence_shows_only_the_beginning_of_a_long_check() -> None:
    assert found(check("CMD-SHELL", "x" * 500)).why.endswith(f": {'x' * 80}…")


# the scripts run in any POSIX shell; here with clients of our own making


@pytest.fixture
def clients(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def put(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def asked(title: str, clients: Path, *, host: str = "", **environment: str) -> tuple[int, str]:
    """Run a product's script with only the clients that a test made, and the shell's usual tools."""
    script = next(product.script for product in PRODUCTS if product.title == title)
    done = subprocess.run(  # noqa: S603 - our own script
        ["/bin/sh", "-c", script, "ready", host, "1234"], capture_output=True, text=True, check=False,
        env={"PATH": f"{clients}:/usr/bin:/bin", **environment},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_postgres_is_asked_as_its_configured_user(clients: Path, tmp_path: Path) -> None:
    put(clients, "psql", 'echo "$PGPASSWORD" "$@"')
    (tmp_path / "secret").write_text("from file")

    _, plain = asked("PostgreSQL", clients, POSTGRES_USER="me", POSTGRES_PASSWORD="pw", POSTGRES_DB="shop", host="h")
    _, usual = asked("PostgreSQL", clients, POSTGRES_PASSWORD_FILE=str(tmp_path / "secret"), host="h")
    _, bitnami = asked("PostgreSQL", clients, POSTGRESQL_USERNAME="b", POSTGRESQL_DATABASE="d", host="h")

    assert plain == "pw -X -w -h h -p 1234 -U me -d shop -Atc select 1\n"
    assert usual == "from file -X -w -h h -p 1234 -U postgres -d postgres -Atc select 1\n"
    assert bitnami == " -X -w -h h -p 1234 -U b -d d -Atc select 1\n"


def test_without_a_host_the_containers_own_name_is_asked(clients: Path) -> None:
    put(clients, "psql", 'echo "$@"')
    put(clients, "hostname", "echo own-name")

    assert "-h own-name -p 1234" in asked("PostgreSQL", clients)[1]


@pytest.mark.parametrize("product", [product for product in PRODUCTS if product.script], ids=lambda one: one.title)
def test_an_image_without_the_client_is_known_by_127(product: Any) -> None:
    present = "psql mysqladmin mariadb-admin redis-cli valkey-cli keydb-cli mongosh mongo rabbitmq-diagnostics".split()
    script = f"command() {{ false; }}\n{product.script}"
    done = subprocess.run(["/bin/sh", "-c", script, "ready", "h", "1"], capture_output=True, text=True, check=False)  # noqa: S603 - our own script

    assert done.returncode == 127
    assert any(f"the image has no {name}" in done.stderr for name in present)


@pytest.mark.parametrize(
    ("answer", "code"),
    [("PONG", 0), ("NOAUTH Authentication required.", 0), ("LOADING Redis is loading", 1), ("Connection refused", 1)],
)
def test_redis_is_ready_when_it_answers_a_ping_or_asks_for_a_password(clients: Path, answer: str, code: int) -> None:
    put(clients, "redis-cli", f"echo {answer}")

    assert asked("Redis or Valkey", clients, host="127.0.0.1") == (code, f"{answer}\n")


def test_redis_gets_its_password_out_of_sight(clients: Path) -> None:
    put(clients, "redis-cli", 'echo "$REDISCLI_AUTH" "$@" PONG')

    assert asked("Redis or Valkey", clients, host="h", REDIS_PASSWORD="p w") == (0, "p w -h h -p 1234 ping PONG\n")


@pytest.mark.parametrize(
    ("title", "program", "words"),
    [
        ("MariaDB or MySQL", "mysqladmin", "-h h -P 1234 ping"),
        ("MariaDB or MySQL", "mariadb-admin", "--protocol=tcp -h h -P 1234 ping"),
        ("MongoDB", "mongosh", "--host h --port 1234 --eval"),
        ("RabbitMQ", "rabbitmq-diagnostics", "-q ping"),
    ],
)
def test_each_client_gets_host_and_port_and_its_exit_code_decides(
    clients: Path, title: str, program: str, words: str
) -> None:
    put(clients, program, 'echo "$@"; exit 5')

    code, text = asked(title, clients, host="h")

    assert code == 5
    assert words in text
