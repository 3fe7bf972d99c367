"""
Fixtures for suites of one's own: put ``pytest_plugins = ["stackyard.pytest_plugin"]`` into the root conftest.py.

A session, or each worker of pytest-xdist, gets one stack; a test asks for as much freshness as it needs.
"""

from __future__ import annotations

import argparse
import contextlib
from typing import TYPE_CHECKING

import pytest

from stackyard._util.durations import seconds
from stackyard.errors import StackyardError
from stackyard.project.environments import Environment
from stackyard.running import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackyard.stacks.databases import Database
    from stackyard.stacks.stack import Stack


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of these fixtures."""
    group = parser.getgroup("stackyard")
    group.addoption(
        "--stack-environment", type=_environment, metavar="NAME", help="environment of the stack (default: test)"
    )
    group.addoption(
        "--stack-wait", type=_wait, metavar="TIME",
        help="time to queue when the host has no place for the stack, such as 60s or 5m",
    )  # fmt: skip


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Give a ready stack of one's own for the whole session; removed after it."""
    option = request.config.getoption
    with _in_one_line(), running(option("--stack-environment") or "test", wait=option("--stack-wait")) as made:
        yield made


@pytest.fixture
def clean_stack(stack: Stack) -> Iterator[Stack]:
    """Give the session's stack; its data is brought back to the state after the start when the test is over."""
    yield stack
    with _in_one_line():
        stack.reset()


@pytest.fixture
def database(stack: Stack) -> Iterator[Database]:
    """Give a database of this test's own with all tables and no rows; dropped after it."""
    with _in_one_line(), stack.database() as made:
        yield made


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    # the traceback through this package says nothing to the author of a test
    try:
        yield
    except StackyardError as error:
        pytest.fail(f"stackyard: {error}", pytrace=False)


def _environment(name: str) -> str:
    with _as_argument():
        return Environment.load(name).name


def _wait(text: str) -> float:
    with _as_argument():
        return seconds("the value", text)


@contextlib.contextmanager
def _as_argument() -> Iterator[None]:
    try:
        yield
    except StackyardError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
