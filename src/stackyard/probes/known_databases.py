"""
Well-known databases and brokers: how to recognise one, its port, and the command of its own client that proves it.

Each script runs inside the container, so it reads the user and the password where the server does: from the container's
variables and secret files. They never pass through stackyard. A script gets the host to connect to (empty: the
container's own name) and the port. It ends with 127 if the image has no such client.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from stackyard.project.service_kinds import KEY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# what keeps a container alive for those who work in it: sleep, tail -f /dev/null, or a loop of a shell around them
_IDLE: Final = r"(?:exec )?(?:sleep (?:[0-9.]+[smhd]?|infinity|inf)|tail -[fF] /dev/null)"
_WAITS: Final = re.compile(
    rf"(?:(?:bash|sh|ash) -\w*c )?(?:{_IDLE}|while (?:true|:|{_IDLE}); ?do (?:{_IDLE}|:|true); ?done)"
)
# entrypoints that start nothing else: an init, and the script of the usual name, which only serves the image's command
PASSING: Final = frozenset({"tini", "dumb-init", "docker-init", "docker-entrypoint.sh"})
_SHELL: Final = re.compile(r"^\S*sh -\w*c ")
# programs where a command may stand
_STARTED: Final = re.compile(r"(?:^|[;&|(\n]|\s--\s)\s*(?:exec\s+|(?:gosu|su-exec)\s+\S+\s+)*([\w./-]+)")
# `value NAME` prints a variable's value, or the content of the file that NAME_FILE names, as images' entrypoints do
_START: Final = """
host=${1:-$(hostname 2>/dev/null || echo 127.0.0.1)} port=$2
value() {
  eval "file=\\${$1_FILE:-} text=\\${$1:-}"
  if [ -n "$file" ]; then cat "$file"; else printf %s "$text"; fi
}
first() {
  for program in "$@"; do command -v "$program" && return; done
  echo "the image has no $1" >&2; exit 127
}
"""
# each of these two finds the client and logs in; what it is asked follows
POSTGRES_LOGIN: Final = f"""{_START}
client=$(first psql) || exit
user=$(value POSTGRES_USER) user=${{user:-$(value POSTGRESQL_USERNAME)}} user=${{user:-postgres}}
password=$(value POSTGRES_PASSWORD) password=${{password:-$(value POSTGRESQL_PASSWORD)}}
database=$(value POSTGRES_DB) database=${{database:-$(value POSTGRESQL_DATABASE)}}
export PGPASSWORD="$password" PGCONNECT_TIMEOUT=3
"""
REDIS_LOGIN: Final = f"""{_START}
client=$(first redis-cli valkey-cli keydb-cli) || exit
password=$(value REDIS_PASSWORD) password=${{REDISCLI_AUTH:-${{password:-$(value VALKEY_PASSWORD)}}}}
[ -z "$password" ] || export REDISCLI_AUTH="$password"
"""
_POSTGRES: Final = """
exec "$client" -X -w -h "$host" -p "$port" -U "$user" -d "${database:-$user}" -Atc 'select 1'
"""
_MYSQL: Final = """
client=$(first mariadb-admin mysqladmin) || exit
exec "$client" --connect-timeout=3 --protocol=tcp -h "$host" -P "$port" ping
"""
_REDIS: Final = """
answer=$("$client" -h "$host" -p "$port" ping 2>&1)
echo "$answer"
case $answer in *PONG*|*NOAUTH*) exit 0;; esac
exit 1
"""
_MONGO: Final = """
client=$(first mongosh mongo) || exit
exec "$client" --quiet --host "$host" --port "$port" --eval 'quit(db.adminCommand({ping: 1}).ok ? 0 : 1)'
"""
_RABBIT: Final = """
client=$(first rabbitmq-diagnostics) || exit
exec "$client" -q ping
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """
    Who may log in to a server, by the variables that tell its image; of several names the first that is set counts.

    Attributes:
        user: Variables that name the user.
        password: Variables that hold the password.
        usual: The user if no variable names one; empty if there is none then.
    """

    user: tuple[str, ...] = ()
    password: tuple[str, ...] = ()
    usual: str = ""

    def login(self, variables: Mapping[str, str]) -> str:
        """Return user and password as a URL has them; empty if no variable tells them."""
        user = _first(self.user, variables) or (
            "" if any(f"{name}_FILE" in variables for name in self.user) else self.usual
        )
        password = _first(self.password, variables)
        quoted = f"{quote(user, safe='')}:{quote(password, safe='')}" if password else quote(user, safe="")
        return quoted if user or (password and not self.user) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """
    One database or broker.

    Attributes:
        title: Its name, for a person.
        images: What the last part of an image's name looks like.
        variables: Variables that only an image of it sets.
        servers: Programs that are the server, or start it.
        usual_port: Where it listens by default.
        port_variables: Variables that tell it otherwise.
        port_options: Options of the server that do.
        proof: What the client asks, for a person.
        script: Shell script that asks; empty if a listener is proof enough.
        sets_itself_up: Whether a new database is first filled by a private server that must not count.
        scheme: What a URL of it begins with; empty if clients take no URL.
        accounts: Who may log in; the first that is known counts.
        databases: Variables that name the database.
    """

    title: str
    images: re.Pattern[str]
    variables: frozenset[str]
    servers: frozenset[str]
    usual_port: int
    port_variables: tuple[str, ...] = ()
    port_options: tuple[str, ...] = ("--port",)
    proof: str = ""
    script: str = ""
    sets_itself_up: bool = False
    scheme: str = ""
    accounts: tuple[Account, ...] = ()
    databases: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """What a configuration calls it."""
        return self.scheme or self.title

    def port(self, words: Sequence[str], variables: Mapping[str, str]) -> int:
        """Return the port that it listens on, given what it is started with."""
        flat = " ".join(words).split()
        for option in self.port_options:
            for word, following in itertools.pairwise([*flat, ""]):
                text = following if word == option else word.removeprefix(f"{option}=")
                if text != word and text.isdecimal() and int(text):
                    return int(text)
        named = (variables.get(name, "") for name in self.port_variables)
        return next((int(text) for text in named if text.isdecimal()), self.usual_port)

    def login(self, variables: Mapping[str, str]) -> str:
        """Return user and password as a URL of the server has them, as its container's variables say; may be empty."""
        return next((login for account in self.accounts if (login := account.login(variables))), "")

    def path(self, variables: Mapping[str, str]) -> str:
        """Return the path of a URL of the server: its database; may be empty."""
        name = _first(self.databases, variables)
        return f"/{quote(name, safe='')}" if name else ""

    def runs(self, service: Mapping[str, Any], words: Sequence[str]) -> bool:
        """Say whether the service runs the server, not a client or something else of the same image."""
        if not service.get("entrypoint") and not service.get("command"):
            return True
        if not service.get("entrypoint") and words[0].startswith("-"):
            return True
        return bool(started(" ".join(words)) & self.servers) or words[0].endswith(".conf")


def started(text: str) -> set[str]:
    """Return the names of the programs that a command line starts."""
    return {found.rpartition("/")[2] for found in _STARTED.findall(_SHELL.sub("", text))}


def _first(names: Sequence[str], variables: Mapping[str, str]) -> str:
    return next((variables[name] for name in names if variables.get(name)), "")


PRODUCTS: Final = (
    Product(
        title="PostgreSQL", usual_port=5432, sets_itself_up=True,
        images=re.compile(r"postgres(ql)?|postgis|pgvector|timescaledb(-ha)?|citus|.*-postgres(ql)?|pgrouting"),
        variables=frozenset({"PGDATA", "PG_MAJOR", "POSTGRES_VERSION"}),
        servers=frozenset({"postgres", "docker-entrypoint.sh", "postmaster", "pg_ctl", "run.sh"}),
        port_variables=("PGPORT", "POSTGRESQL_PORT_NUMBER"), port_options=("-p", "--port", "port"),
        proof="the query `select 1` as its configured user, over TCP", script=POSTGRES_LOGIN + _POSTGRES,
        scheme="postgresql", databases=("POSTGRES_DB", "POSTGRESQL_DATABASE", "POSTGRES_USER", "POSTGRESQL_USERNAME"),
        accounts=(Account(
            user=("POSTGRES_USER", "POSTGRESQL_USERNAME"), password=("POSTGRES_PASSWORD", "POSTGRESQL_PASSWORD"),
            usual="postgres",
        ),),
    ),
    Product(
        title="MariaDB or MySQL", usual_port=3306, sets_itself_up=True,
        images=re.compile(r"mysql(-server)?|mariadb(-galera)?|percona(-server)?|.*-(mysql|mariadb)"),
        variables=frozenset({"MYSQL_MAJOR", "MYSQL_VERSION", "MARIADB_VERSION", "MARIADB_MAJOR"}),
        servers=frozenset({"mysqld", "mariadbd", "mysqld_safe", "docker-entrypoint.sh", "run.sh"}),
        port_variables=("MYSQL_TCP_PORT",), port_options=("--port", "-P"),
        proof="`mysqladmin ping` over TCP", script=_START + _MYSQL,
        scheme="mysql", databases=("MYSQL_DATABASE", "MARIADB_DATABASE"),
        accounts=(
            Account(user=("MYSQL_USER", "MARIADB_USER"), password=("MYSQL_PASSWORD", "MARIADB_PASSWORD")),
            Account(password=("MYSQL_ROOT_PASSWORD", "MARIADB_ROOT_PASSWORD"), usual="root"),
        ),
    ),
    Product(
        title="Redis or Valkey", usual_port=6379,
        images=re.compile(r"redis(-stack(-server)?)?|valkey(-bundle)?|keydb|.*-(redis|valkey)"),
        variables=frozenset({"REDIS_VERSION", "VALKEY_VERSION"}),
        servers=frozenset({"redis-server", "valkey-server", "keydb-server", "docker-entrypoint.sh", "run.sh"}),
        port_variables=("REDIS_PORT_NUMBER", "VALKEY_PORT_NUMBER"),
        proof="PING", script=REDIS_LOGIN + _REDIS,
        scheme="redis", accounts=(Account(password=("REDIS_PASSWORD", "VALKEY_PASSWORD")),),
    ),
    Product(
        title="MongoDB", usual_port=27017, sets_itself_up=True,
        images=re.compile(r"mongo(db)?(-community-server|-enterprise-server)?|.*-mongo(db)?"),
        variables=frozenset({"MONGO_VERSION", "MONGO_MAJOR"}),
        servers=frozenset({"mongod", "mongos", "docker-entrypoint.sh", "run.sh"}),
        port_variables=("MONGODB_PORT_NUMBER",), proof="the command `ping`", script=_START + _MONGO,
        scheme="mongodb",
        accounts=(Account(user=("MONGO_INITDB_ROOT_USERNAME",), password=("MONGO_INITDB_ROOT_PASSWORD",)),),
    ),
    Product(
        title="RabbitMQ", usual_port=5672, images=re.compile(r"rabbitmq|.*-rabbitmq"),
        variables=frozenset({"RABBITMQ_VERSION"}), servers=frozenset({"rabbitmq-server", "docker-entrypoint.sh"}),
        port_variables=("RABBITMQ_NODE_PORT",), port_options=(),
        proof="`rabbitmq-diagnostics ping`", script=_START + _RABBIT,
        scheme="amqp", databases=("RABBITMQ_DEFAULT_VHOST",),
        accounts=(Account(user=("RABBITMQ_DEFAULT_USER",), password=("RABBITMQ_DEFAULT_PASS",)),),
    ),
    # it answers as soon as it listens, and its images have no client
    Product(
        title="memcached", usual_port=11211, images=re.compile(r"memcached|.*-memcached"),
        variables=frozenset({"MEMCACHED_VERSION"}), servers=frozenset({"memcached", "docker-entrypoint.sh"}),
        port_options=("-p", "--port"),
    ),
)  # fmt: skip

_NAME: Final = re.compile(
    r"(?:.*[-_])?(?:migrat(?:e|or|ions?)|seed(?:er|s)?|init|setup|create[-_]?buckets?|fixtures)"
    r"|(?:init|setup|create|migrate|seed)[-_](?!node).+"
)
_COMMAND: Final = re.compile(
    r"\b(?:alembic (?:-\S+ \S+ )*upgrade|manage\.py (?:migrate|loaddata|collectstatic|createsuperuser)"
    r"|prisma (?:migrate deploy|db push|db seed)|db:(?:migrate|seed|setup|prepare|create)|artisan migrate"
    r"|knex\S* (?:migrate|seed)|sequelize(?:-cli)? db|typeorm migration:run|flyway migrate|liquibase .*update"
    r"|mc (?:mb|alias set|config host)|rs\.initiate|kafka-topics(?:\.sh)? .*--create|pg_restore|psql .*-f"
    r"|(?:npm|yarn|pnpm)(?: run)? (?:db:)?(?:migrate|seed))\b"
)
_LASTING: Final = re.compile(r"\b(?:sleep infinity|tail -[fF]|while true|while :|--watch|wait)\b")


def product_of(service: Mapping[str, Any], words: Sequence[str], variables: Mapping[str, str]) -> Product | None:
    """
    Return the product that a service runs, by the configuration, its image's name, or what the image's variables say.

    Args:
        service: Its part of the model.
        words: What its container runs.
        variables: The image's variables.
    """
    if KEY in service:
        return next((product for product in PRODUCTS if product.kind == service[KEY]), None)
    return next((product for product in candidates(service, variables) if product.runs(service, words)), None)


def candidates(service: Mapping[str, Any], variables: Mapping[str, str]) -> list[Product]:
    """Return the products that a service's image may be of, by its name, or else by its *variables*."""
    name = str(service.get("image") or "").partition("@")[0].rpartition("/")[2].partition(":")[0].lower()
    named = [product for product in PRODUCTS if product.images.fullmatch(name)]
    return named or [product for product in PRODUCTS if product.variables & variables.keys()]


def ends_by_itself(name: str, words: Sequence[str]) -> str:
    """
    Return why a service looks like one that does its work and ends; empty if it does not.

    Args:
        name: The service's name.
        words: The command and entrypoint that the file gives it; without any, only the name counts.
    """
    text = " ".join(words)
    if _LASTING.search(text):
        return ""
    last = re.split(r"&&|\|\||;|\n", text.strip().rstrip("; \n"))[-1]
    if _COMMAND.search(last):
        return "its command says that it ends"
    return "its name says that it ends" if _NAME.fullmatch(name.lower()) else ""


def only_waits(words: Sequence[str]) -> str:
    """
    Return why a command does nothing but wait, as in containers that people work in; empty if it does something.

    Args:
        words: All that the container runs.
    """
    programs = [word.rpartition("/")[2] for word in words[:1]]
    text = " ".join([*programs, *words[1:]])
    return f"its command only waits ({text})" if _WAITS.fullmatch(text) else ""


def passes_on(entrypoint: Sequence[str]) -> bool:
    """Say whether an image's entrypoint only runs the command that it is given; so does an image without one."""
    names = {word.rpartition("/")[2] for word in entrypoint if not word.startswith("-")}
    return names <= PASSING
