"""Resetting copies with real PostgreSQL, Redis and a volume: a test's changes are gone, and what was there is back."""

from __future__ import annotations

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from tests.projects.expected import BARE
from tests.projects.postgres import database

from stackyard._util import process
from stackyard.errors import UsageError
from stackyard.project import Project
from stackyard.project.environments import Environment
from stackyard.running.stack import Stack
from stackyard.stacks.copies import lifecycle
from stackyard.stacks.environments.launch import prepare_images
from stackyard.stacks.starts.request import CopyRequest

if TYPE_CHECKING:
    from pathlib import Path

    from stackyard.docker import Engine
    from stackyard.leases import LeaseBook

# a superuser that owns two databases, and one that only owns its own, as the platform's; both images in one project
COMPOSE = """
services:
{database}
  small:
    image: {postgres}
    environment: {{POSTGRES_USER: app, POSTGRES_PASSWORD_FILE: /run/secrets/word}}
    secrets: [word]
    tmpfs: ["/var/lib/postgresql:uid=10001,gid=10001,mode=0700"]
  cache:
    image: {redis}
    entrypoint: [redis-server, --save, ""]
    healthcheck: {{disable: true}}
  files:
    image: box
    command: [sh, -c, "[ -e /rows/first ] || (cd /rows; echo first > first; chown 77:88 .; chmod 1777 .); exec httpd"]
    volumes: ["uploads:/rows"]
    ports: ["8000:80"]
  fill: {{image: box, command: [sh, -c, "echo filled > /rows/filled"], volumes: ["uploads:/rows"]}}
  web:
    image: box
    ports: ["8001:80"]
    depends_on: {{fill: {{condition: service_completed_successfully}}, db: {{condition: service_started}}}}
volumes: {{rows: {{}}, uploads: {{}}}}
secrets: {{word: {{file: ./word}}}}
"""
FILLED = """
services:
  cache:
    image: {redis}
    user: "0"
    entrypoint: [redis-server, --save, "", --protected-mode, "no", --dir, /data]
    healthcheck: {{disable: true}}
    volumes: ["keys:/data"]
    configs: [{{source: rules, target: /etc/rules.txt}}]
  fill:
    image: {redis}
    entrypoint: [redis-cli, -h, cache, set, first, "1"]
    healthcheck: {{disable: true}}
    depends_on: {{cache: {{condition: service_started}}}}
  side: {{image: box, network_mode: "service:cache", depends_on: [fill]}}
volumes: {{keys: {{}}}}
configs: {{rules: {{content: "be kind"}}}}
"""
ENTRY = "from stackyard.cli.entry import main; main()"


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    return prepare_images(Environment.load("alpine-test"), print)


@pytest.fixture
def shop(images: dict[str, str], box: str, tmp_path: Path) -> Project:
    folder = tmp_path / "shop"
    folder.mkdir()
    postgres, redis = images["STACKYARD_IMAGE_POSTGRES"], images["STACKYARD_IMAGE_REDIS"]
    text = COMPOSE.format(database=database(postgres, rights="SUPERUSER"), postgres=postgres, redis=redis)
    (folder / "compose.yaml").write_text(text.replace("image: box", f"image: {box}"))
    (folder / "stackyard.toml").write_text("reset = true\n")
    (folder / "word").write_text("secret")
    return Project.find(folder, environment=BARE)


def query(stack: Stack, service: str, sql: str, database: str = "app") -> str:
    script = f"PGPASSWORD=secret exec psql -h 127.0.0.1 -U app -d {database} -v ON_ERROR_STOP=1 -qAt"
    done = stack.exec(service, "sh", "-c", f'echo "{sql}" | ({script})')
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def spoil(stack: Stack) -> None:
    """Change everything that a test may change."""
    for service in ("db", "small"):
        query(stack, service, "create table mine (n int); drop table if exists users cascade; create database other")
    stack.exec("cache", "redis-cli", "set", "mine", "1")
    assert (
        stack.exec("files", "sh", "-c", "chmod 755 /rows && rm /rows/first && echo mine > /rows/mine").returncode == 0
    )


def is_spoilt(stack: Stack) -> dict[str, bool]:
    """Say of each service whether anything of a test is still there, or anything of the start is missing."""
    asked = "select to_regclass('mine') is null and to_regclass('users') is not null"
    asked += " and not exists (select from pg_database where datname = 'other')"
    found = {service: query(stack, service, asked) != "t" for service in ("db", "small")}
    found["cache"] = stack.exec("cache", "redis-cli", "dbsize").stdout.strip() != "0"
    listed = stack.exec("files", "sh", "-c", "cd /rows && cat * && ls | wc -l && stat -c %a:%u:%g .").stdout.split()
    return {**found, "files": listed != ["filled", "first", "2", "1777:77:88"]}


def clean() -> dict[str, bool]:
    return dict.fromkeys(("db", "small", "cache", "files"), False)


def test_a_reset_brings_every_store_back_and_leaves_the_copy_beside_it_alone(
    shop: Project, book: LeaseBook, engine: Engine
) -> None:
    one, other = (Stack(lifecycle.start(shop, book, engine)) for _ in range(2))
    assert is_spoilt(one) == clean()
    spoil(one)
    spoil(other)

    done = one.reset()

    assert {item.service: item.driver for item in done.services} == {
        "db": "postgresql", "small": "postgresql", "cache": "redis", "files": "volumes", "fill": "volumes",
        "web": "none",
    }  # fmt: skip
    assert is_spoilt(one) == clean()
    assert is_spoilt(other) == dict.fromkeys(clean(), True)
    assert {item.service: item.status for item in one.status()} == {
        "db": "running", "small": "running", "cache": "running", "files": "running", "fill": "created",
        "web": "running",
    }  # fmt: skip

    spoil(one)
    one.reset("cache")
    assert is_spoilt(one) == {**dict.fromkeys(clean(), True), "cache": False}
    one.reset("files", "db")
    assert is_spoilt(one) == {**clean(), "small": True}
    assert [item for stack in (one, other) for item in stack.down().left] == []
    assert not one.lease.directory.exists()


def test_sessions_and_settings_of_a_database_do_not_hinder_a_reset(
    shop: Project, book: LeaseBook, engine: Engine
) -> None:
    stack = Stack(lifecycle.start(shop, book, engine))
    query(stack, "db", "alter database app set search_path to nowhere", "postgres")
    query(stack, "small", "drop database app", "postgres")
    words = "PGPASSWORD=secret exec psql -h 127.0.0.1 -U app -d app -c 'select pg_sleep(60)'"

    with ThreadPoolExecutor() as threads:
        session = threads.submit(stack.exec, "db", "sh", "-c", words)
        while query(stack, "db", "select count(*) from pg_stat_activity where query like '%sleep(6' || '0)'") != "1":
            pass
        stack.reset("db", "small")

    assert "terminating connection" in session.result().stderr
    assert query(stack, "db", "show search_path") != "nowhere"
    assert is_spoilt(stack)["small"] is False


def test_a_test_s_own_database_is_as_after_the_start_and_goes_with_its_block(
    shop: Project, book: LeaseBook, engine: Engine
) -> None:
    stack = Stack(lifecycle.start(shop, book, engine))
    spoil(stack)

    with stack.database("db") as one, stack.database("db") as other:
        assert one.rpartition("/")[0] == other.rpartition("/")[0] == stack.url("db").rpartition("/")[0]
        name, beside = (url.rpartition("/")[2] for url in (one, other))
        query(stack, "db", "create table own (n int)", name)
        stack.reset("db")  # leaves them alone
        asked = "select to_regclass('users') is not null, to_regclass('mine') is null, to_regclass('own') is null"
        assert query(stack, "db", asked, name) == "t|t|f"
        assert query(stack, "db", asked, beside) == "t|t|t"

    left = query(stack, "db", "select count(*) from pg_database where datname like 'stackyard_test_%'")
    assert left == "0"
    with pytest.raises(UsageError, match="service 'files' cannot make databases; services of this copy that can: db"):
        stack.database("files").__enter__()


def test_a_cache_that_was_filled_comes_back_with_its_volume_and_what_lives_in_its_network(
    shop: Project, images: dict[str, str], box: str, book: LeaseBook, engine: Engine
) -> None:
    text = FILLED.format(redis=images["STACKYARD_IMAGE_REDIS"]).replace("image: box", f"image: {box}")
    (shop.folder / "compose.yaml").write_text(text)
    stack = Stack(lifecycle.start(Project.find(shop.folder, environment=BARE), book, engine))
    stack.exec("cache", "sh", "-c", "redis-cli flushall && redis-cli set mine 1")

    done = stack.reset()

    assert {one.service: one.driver for one in done.services} == {"cache": "volumes", "fill": "none", "side": "volumes"}
    assert stack.exec("cache", "redis-cli", "keys", "*").stdout.split() == ["first"]
    assert stack.exec("cache", "cat", "/etc/rules.txt").stdout.strip() == "be kind"
    assert stack.exec("side", "wget", "-qO-", "http://127.0.0.1/").stdout == "box"


def test_the_next_reset_fixes_what_a_killed_one_left(shop: Project, book: LeaseBook, engine: Engine) -> None:
    stack = Stack(lifecycle.start(shop, book, engine, CopyRequest(name="mine")))
    spoil(stack)
    words = [sys.executable, "-c", ENTRY, "reset", "--name", "mine"]
    mine = {**os.environ, "STACKYARD_STATE_DIR": str(book.settings.state_dir)}

    killed = process.run(words, env={**mine, "STACKYARD_CRASH_AT": "reset"}, deadline=280, cwd=shop.folder, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert "files" not in {item.service for item in stack.status()}

    fixed = process.run(words, env=mine, deadline=280, cwd=shop.folder)
    assert "mine" in fixed.stdout
    assert "is as after its start" in fixed.stdout
    assert is_spoilt(stack) == clean()


def test_a_copy_that_keeps_no_state_says_how_to_have_it_kept(shop: Project, book: LeaseBook, engine: Engine) -> None:
    (shop.folder / "stackyard.toml").unlink()
    plain = Project.find(shop.folder, environment=BARE)
    stack = Stack(lifecycle.start(plain, book, engine))

    with pytest.raises(Exception, match="keeps no state to go back to; write 'reset = true'"):
        stack.reset()

    assert [path.name for path in stack.lease.directory.glob("data*")] == []
    assert "stackyard_state" not in query(stack, "db", "select datname from pg_database")
