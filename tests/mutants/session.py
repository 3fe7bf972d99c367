"""
mutmut with one pytest session for all mutants: ``python -m tests.mutants.session run --max-children N``.

mutmut starts pytest for each mutant, and pytest reads and collects the same tests each time: a third of a second. Here
pytest collects once, and each mutant's tests run in a fork of that session. The test that noticed the last mutant runs
first, because it often notices the next one.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mutmut.__main__
import pytest
from _pytest.config import _prepareconfig
from mutmut.configuration import config as settings
from mutmut.runners.harness import ListAllTestsResult, PytestRunner
from mutmut.utils.file_utils import change_cwd
from mutmut.workers.isolation import ForkRunner, run_in_fork

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Collected(PytestRunner):
    """Runs tests that are collected already."""

    def __init__(self) -> None:
        super().__init__()
        words = ["--rootdir=.", "--tb=native", "-x", "-q", "--shuffle-seed=0"]
        words += [*settings().pytest_add_cli_args_test_selection, *self._pytest_add_cli_args]
        with change_cwd("mutants"):
            config = _prepareconfig(words)
            config._do_configure()  # pytest has no public way to keep a session open
            self._session = pytest.Session.from_config(config)
            config.hook.pytest_sessionstart(session=self._session)
            config.hook.pytest_collection(session=self._session)
        config.pluginmanager.register(self)
        self._items = {item.nodeid: item for item in self._session.items}
        self._noticed = Path("noticed").absolute()  # the tests that failed, in the order of the mutants
        self._noticed.touch()
        self._failure = Path("failure").absolute()  # of the last test that failed
        self._failure.touch()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep why a test failed; pytest calls this."""
        if report.failed:
            self._failure.write_text("\n".join([report.nodeid, *report.longreprtext.splitlines()[-4:], ""]))

    @property
    def failure(self) -> str:
        """Which test failed last, and why."""
        return self._failure.read_text()

    def list_all_tests(self) -> ListAllTestsResult:
        """Return the names of the collected tests."""
        return ListAllTestsResult(ids=set(self._items))

    def execute_pytest(self, params: list[str], plugins: Sequence[object] = (), **_: Any) -> int:
        """Run those of the collected tests that *params* name, or all, until one fails; return 1 then, else 0."""
        from tests.mutants.quick import is_guard  # pytest loads it as a plugin first

        named = [self._items[word] for word in params if word in self._items]  # the quickest first
        last = {name: number for number, name in enumerate(self._noticed.read_text().splitlines(), 1)}
        order = sorted(named, key=lambda item: (not is_guard(item), -last.get(item.nodeid, 0)))
        items = order or list(self._items.values())
        hooks = self._session.config.pluginmanager
        for plugin in plugins:
            hooks.register(plugin)
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._session.testsfailed:
                if reporter := hooks.getplugin("terminalreporter"):  # there is none in the fork of a mutant
                    reporter.summary_failures()
                with self._noticed.open("a") as file:
                    file.write(f"{item.nodeid}\n")
                return 1
        for plugin in plugins:
            hooks.unregister(plugin)
        return 0

    def run_forced_fail(self) -> int:
        """Run all tests, which fail."""
        return run_in_fork(self.run_tests, mutant_name=None, tests=[])

    def run_tests(self, *, mutant_name: str | None, tests: Iterable[str]) -> int:
        """Run *tests* in a fork, without a word and with temporary files of their own."""
        quiet = sys.stdout, sys.stderr  # mutmut's; pytest replaces them, and fails a test in which one is left open
        folder = tempfile.mkdtemp()
        os.environ["PYTEST_DEBUG_TEMPROOT"] = folder
        self._session.config.pluginmanager.unregister(name="terminalreporter")
        try:
            return super().run_tests(mutant_name=mutant_name, tests=tests)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            del quiet


class Forks(ForkRunner):
    """Tries each mutant in a fork."""

    def __init__(self, workers: int = 1) -> None:
        self._tests = Collected()
        super().__init__(max_workers=workers, test_runner=self._tests)

    def run_clean_tests(self, tests: Iterable[str]) -> int:
        """Try what is no mutant: every test must pass in a fork, in which nothing is changed."""
        del tests  # all of them; mutmut names none
        self.submit("no.mutant__mutmut_0", list(self._tests.list_all_tests().ids), 600, 600)
        if code := self.wait_for_result().exit_code:
            sys.stdout.write(f"\n{self._tests.failure}")
        return code


if __name__ == "__main__":
    vars(mutmut.__main__)["get_mutant_runner"] = Forks
    sys.exit(mutmut.__main__.cli())
