"""The stacks in test reports: their addresses as properties, the services' logs at the first failure."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import pytest

from stackyard.errors import StackyardError
from stackyard.pytest_plugin.docker import Services
from stackyard.running.stack import Stack
from stackyard.stacks import diagnostics

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

SECTION: Final = "stdout of the services of stack"
WATCHED: Final = pytest.StashKey["Reports"]()


class Reports:
    """A plugin of pytest, registered when the first stack of this process is asked for."""

    NAME: Final = "stackyard.pytest_plugin.reports"

    def __init__(self) -> None:
        self._firsts: dict[int, Callable[[], bool]] = {}
        self._evidence = ""

    @classmethod
    def of(cls, config: pytest.Config) -> Reports:
        """Return the one of this process."""
        if WATCHED not in config.stash:
            config.stash[WATCHED] = cls()
            config.pluginmanager.register(config.stash[WATCHED], cls.NAME)
        return config.stash[WATCHED]

    @contextlib.contextmanager
    def watching(self, stack: Any, first: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """
        Report about the tests that use *stack*, during a `with` block.

        Args:
            stack: The stack.
            first: Says whether no other process has reported a failure of a test that uses it.
        """
        self._firsts[id(stack)] = first
        try:
            yield
        finally:
            self._firsts.pop(id(stack), None)

    @contextlib.contextmanager
    def first_in_full(self) -> Iterator[None]:
        """
        Shorten an error of a `with` block to its first line; the next report of a failure has the rest.

        A stack that did not start fails each test that needs it, and the evidence of each service is long.

        Raises:
            StackyardError: The short one.
        """
        try:
            yield
        except StackyardError as error:
            reason, _, self._evidence = str(error).partition("\n")
            raise StackyardError(reason) from None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add what is known of the test's stacks to its report."""
        used = self._used(getattr(item, "funcargs", None) or {})
        if call.when == "call":
            item.user_properties += [entry for stack in used for entry in properties(stack)]
        report = yield
        if report.failed:
            if self._evidence:
                _add(item, call.when, report, "stdout of the start of the stack:", self._evidence)
                self._evidence = ""
            for stack in used:
                first = self._firsts[id(stack)]
                self._firsts[id(stack)] = lambda: False
                if _asked(first):
                    _add(item, call.when, report, f"{SECTION} {stack.lease.title}:", evidence(stack))
        return report

    def _used(self, funcargs: Mapping[str, Any]) -> list[Any]:
        """Return the stacks among the values of a test's fixtures, each once."""
        values = (value.stack if isinstance(value, Services) else value for value in funcargs.values())
        return [*{id(value): value for value in values if id(value) in self._firsts}.values()]


def _add(item: pytest.Item, when: str, report: pytest.TestReport, title: str, text: str) -> None:
    """Add a section to this report, and to that of the teardown, from which JUnit files take captured output."""
    item.add_report_section(when, title, text)
    report.sections.append((f"Captured {title} {when}", text))


def _asked(first: Callable[[], bool]) -> bool:
    try:
        return first()
    except StackyardError:
        return True


def properties(stack: Any) -> list[tuple[str, object]]:
    """Return the lease and the addresses of *stack* as properties of a test."""
    if isinstance(stack, Stack):
        found = [(f"{item.service} {item.target}/{item.protocol}", item.shown) for item in stack.addresses]
    else:
        found = [(service, f"127.0.0.1:{port}") for service, port in stack.lease.ports.items()]
    return [("stackyard lease", stack.lease.id), *((f"stackyard {name}", where) for name, where in found)]


def evidence(stack: Any) -> str:
    """Return each service's state and last log lines, without the secrets of the lease."""
    try:
        if isinstance(stack, Stack):
            found = stack.evidence()
        else:
            states = diagnostics.collect(stack.engine, stack.containers(), secrets=stack.lease.secrets())
            found = "\n".join(map(str, states))
    except StackyardError as error:
        return f"the services could not be asked: {error}"
    return found or "the stack has no containers"
