"""What the main process of pytest-xdist does: it removes what the workers left, and the stacks that they shared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from stackyard.pytest_plugin import sigterm

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping


class MainProcess:
    """
    A plugin of pytest.

    Args:
        run: Where the processes of this run meet.
    """

    NAME: Final = "stackyard.pytest_plugin.main_process"

    def __init__(self, run: Mapping[str, Any]) -> None:
        self.run = dict(run)
        self._left: list[str] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, Any, Any]:
        """Handle SIGTERM while the workers run tests."""
        with sigterm.handled():
            return (yield)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """Remove the stacks once the workers have ended; a second SIGTERM breaks off neither."""
        with sigterm.ignored():
            return (yield from self._finish(session))

    def _finish(self, session: pytest.Session) -> Generator[None, Any, Any]:
        outcome = yield
        if Path(self.run["folder"]).exists():  # a test has used a stack
            self._remove()
        if self._left and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return outcome

    def _remove(self) -> None:
        from stackyard.errors import StackyardError
        from stackyard.running.shared import Run
        from stackyard.running.stack_description import remove_stale_stacks

        self._left = Run(**self.run).end()
        try:
            self._left += remove_stale_stacks()  # the stacks of workers that were killed
        except StackyardError as error:
            self._left.append(str(error))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what could not be removed."""
        for line in self._left:
            terminalreporter.write_line(f"stackyard: {line}", red=True)
