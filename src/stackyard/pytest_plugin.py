"""
Fixtures for suites of one's own: put ``pytest_plugins = ["stackyard.pytest_plugin"]`` into the root conftest.py.

A session, or each worker of pytest-xdist, gets one stack; a test asks for as much freshness as it needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stackyard.scopes import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackyard.databases import Database
    from stackyard.stacks import Stack


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of these fixtures."""
    group = parser.getgroup("stackyard")
    group.addoption("--stack-environment", default="test", help="environment of the stack (default: test)")
    group.addoption("--stack-wait", type=float, help="seconds to queue when the host has no place for the stack")


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Give a ready stack of one's own for the whole session; removed after it."""
    option = request.config.getoption
    with running(option("--stack-environment"), wait=option("--stack-wait")) as made:
        yield made


@pytest.fixture
def clean_stack(stack: Stack) -> Iterator[Stack]:
    """Give the session's stack; its data is brought back to the state after the start when the test is over."""
    yield stack
    stack.reset()


@pytest.fixture
def database(stack: Stack) -> Iterator[Database]:
    """Give a database of this test's own with all tables and no rows; dropped after it."""
    with stack.database() as made:
        yield made
