"""
The pytest plugin: fixtures that give tests a copy of the project's Compose stack. `pip install` makes them available.

`stack` is one stack for the run, for each worker of pytest-xdist or for each test, as `--stackyard-scope` says;
`stack_per_test` is always a test's own. `clean_stack` is `stack`, whose data is reset after the test. A project that
has environments gets `database`, too.
Nothing is imported, made or asked until a test uses a fixture, so projects without stacks pay nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
SCOPES: Final = ("run", "worker", "test")
ENVIRONMENTS: Final = "envs/docker_environments.yaml"
OURS: Final = "stackyard.pytest_plugin"
RUN: Final = "stackyard_run"  # what the main process tells each worker of pytest-xdist


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of these fixtures, and their twins in pytest's configuration."""
    group = parser.getgroup("stackyard", "stackyard: copies of the project's Compose stack")
    group.addoption(
        "--stackyard-scope", choices=SCOPES,
        help="how many stacks the fixture `stack` gives: one for the run, one for each worker of pytest-xdist, or one "
        "for each test (default: run; worker for an environment)",
    )  # fmt: skip
    group.addoption(
        "--stackyard-file", action="append", metavar="FILE",
        help="a Compose file, instead of those that Compose finds from pytest's root folder; can be repeated",
    )  # fmt: skip
    group.addoption(
        "--stackyard-profile", action="append", metavar="NAME", help="a Compose profile to enable; can be repeated"
    )
    group.addoption(
        "--stackyard-timeout", type=_time, metavar="TIME", help="time until a start has failed, such as 30s or 5m"
    )
    group.addoption(
        "--stackyard-wait", "--stack-wait", type=_time, metavar="TIME",
        help="time to queue when the host has no place for the stack, such as 60s or 5m",
    )  # fmt: skip
    group.addoption(
        "--stackyard-environment", "--stack-environment", type=_environment, metavar="NAME",
        help=f"environment of the stack, for a project with {ENVIRONMENTS} (default: test)",
    )  # fmt: skip
    group.addoption(
        "--stackyard-site", metavar="SITE",
        help="where copies run: local, context:NAME (the engine of a Docker context) or swarm (default: local)",
    )  # fmt: skip
    parser.addini("stackyard_scope", "as --stackyard-scope")
    parser.addini("stackyard_files", "as --stackyard-file; relative to the folder of this file", "paths")
    parser.addini("stackyard_profiles", "as --stackyard-profile", "args")
    parser.addini("stackyard_timeout", "as --stackyard-timeout")
    parser.addini("stackyard_site", "as --stackyard-site")


def pytest_configure(config: pytest.Config) -> None:
    """Check the configuration, and add the fixtures of a project with environments."""
    if (scope := config.getini("stackyard_scope")) and scope not in SCOPES:
        raise pytest.UsageError(f"stackyard_scope must be one of {', '.join(SCOPES)}, got {scope!r}")
    if timeout := config.getini("stackyard_timeout"):
        try:
            _time(timeout)
        except argparse.ArgumentTypeError as error:
            raise pytest.UsageError(f"stackyard_timeout: {error}") from None
    if site := config.getoption("--stackyard-site") or config.getini("stackyard_site"):
        _use(config, site)
    if has_environments(config):
        from stackyard.pytest_plugin import environments

        config.pluginmanager.register(environments, f"{OURS}.environments")


def _use(config: pytest.Config, text: str) -> None:
    """Let this session, and the processes that it starts, use a site's engine."""
    from stackyard.errors import StackyardError
    from stackyard.sites import Site

    undo = contextlib.ExitStack()
    try:
        site = Site.find(text)
    except StackyardError as error:
        raise pytest.UsageError(str(error)) from None
    undo.enter_context(site.used())
    config.add_cleanup(undo.close)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where the processes of this run meet."""
    from stackyard.pytest_plugin.main_process import MainProcess

    plugins = node.config.pluginmanager
    if not plugins.hasplugin(MainProcess.NAME):
        folder = Path(tempfile.gettempdir(), f"stackyard-run-{os.getpid()}-{secrets.token_hex(8)}")
        plugins.register(MainProcess({"folder": str(folder), "pid": os.getpid()}), MainProcess.NAME)
    node.workerinput[RUN] = plugins.getplugin(MainProcess.NAME).run


def has_environments(config: pytest.Config) -> bool:
    """Say whether the tests are of a project with environments, or name one."""
    if config.getoption("--stackyard-environment") or "STACKYARD_ROOT" in os.environ:
        return True
    here = config.rootpath
    if config.getoption("--stackyard-file") or not any((at / ENVIRONMENTS).exists() for at in (here, *here.parents)):
        return False
    from stackyard.project.environments.roots import has_environments as nearest

    return nearest(here)


def scope_of(config: pytest.Config) -> str:
    """Return whose the stack of `stack` is: run, worker or test."""
    chosen = config.getoption("--stackyard-scope") or config.getini("stackyard_scope")
    return cast("str", chosen) or ("worker" if has_environments(config) else "run")


def fixture_scope(fixture_name: str, config: pytest.Config) -> Any:
    """Return the scope of `stack` in pytest's words."""
    del fixture_name  # pytest gives it
    return "function" if scope_of(config) == "test" else "session"


@pytest.fixture(scope=fixture_scope)
def stack(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Give a ready copy of the project: `stack.url("web")`, `stack.port("web", 80)`; removed at its scope's end."""
    from stackyard.pytest_plugin.stacks import given

    shared = scope_of(request.config) == "run"
    resettable = any("clean_stack" in getattr(item, "fixturenames", ()) for item in request.session.items)
    with given(request.config, shared=shared, resettable=resettable) as made:
        yield made


@pytest.fixture
def stack_per_test(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Give a ready copy of the project that only this test uses; removed after it."""
    from stackyard.pytest_plugin.stacks import given

    with given(request.config, shared=False) as made:
        yield made


@pytest.fixture
def clean_stack(stack: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Give the fixture `stack`; its data is brought back to the state after the start when the test is over."""
    if scope_of(request.config) == "run" and hasattr(request.config, "workerinput"):
        pytest.fail(
            "stackyard: clean_stack deletes data that tests of other workers use; "
            "choose --stackyard-scope worker or test",
            pytrace=False,
        )
    if getattr(stack, "on_swarm", False):
        pytest.fail("stackyard: clean_stack: copies on a Swarm cannot be reset; use stack_per_test", pytrace=False)
    yield stack
    with in_one_line():
        stack.reset()


def _environment(name: str) -> str:
    from stackyard.project.environments import Environment

    return _as_argument(lambda: Environment.load(name).name)


def _time(text: str) -> float:
    from stackyard._util.durations import seconds

    return _as_argument(lambda: seconds("the value", text))


def _as_argument(read: Callable[[], T]) -> T:
    from stackyard.errors import StackyardError

    try:
        return read()
    except StackyardError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Fail a test with one line: the traceback through this package says nothing to the author of a test."""
    from stackyard.errors import StackyardError

    try:
        yield
    except StackyardError as error:
        # pytest.fail would leave the error as the context, and pytest prints that, too
        raise pytest.fail.Exception(f"stackyard: {error}", pytrace=False) from None
