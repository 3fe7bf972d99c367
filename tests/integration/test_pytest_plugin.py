"""A test suite of another project, in its own process, with the public fixtures."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from fake_install import INI

from stackyard._util import process
from stackyard.project.environments import project_root

if TYPE_CHECKING:
    from pathlib import Path

    from stackyard.docker import Engine

SUITE = """
import asyncio, urllib.request
import asyncpg

async def ask(url, sql):
    link = await asyncpg.connect(url)
    try:
        return await link.fetchval(sql)
    finally:
        await link.close()

def count(url):
    return asyncio.run(ask(url, "SELECT count(*) FROM users"))

def test_a_database_of_its_own(database, stack):
    asyncio.run(ask(database.url, "INSERT INTO users (name, password_hash) VALUES ('somebody', 'x')"))
    assert (count(database.url), count(stack.lease.url("postgres"))) == (1, 0)

def test_a_stack_it_may_spoil(clean_stack):
    asyncio.run(ask(clean_stack.lease.url("postgres"), "INSERT INTO users (name, password_hash) VALUES ('me', 'x')"))

def test_the_next_one_finds_no_trace(stack):
    assert count(stack.lease.url("postgres")) == 0
    assert urllib.request.urlopen(stack.lease.url("backend") + "/readyz").status == 200
"""


def test_a_strangers_suite_gets_a_stack_and_leaves_nothing(tmp_path: Path, engine: Engine) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["stackyard.pytest_plugin"]\n')
    (tmp_path / "pytest.ini").write_text(INI)
    (tmp_path / "test_mine.py").write_text(SUITE.replace("'me'", "'myself'"))
    env = {
        "STACKYARD_ROOT": str(project_root()), "STACKYARD_STATE_DIR": str(tmp_path / "state"),
        "STACKYARD_POOL": "19100-19199", "STACKYARD_POOL_SUBNETS": "10.221.0.0/22", "STACKYARD_REAPER": "off",
    }  # fmt: skip

    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--stack-wait", "240"]
    done = process.run(words, deadline=280, env=env, cwd=tmp_path, check=False)

    assert "3 passed" in done.stdout, done.stdout
    assert [item for item in engine.containers(["stackyard.lease"]) if str(tmp_path) in str(item.labels)] == []
