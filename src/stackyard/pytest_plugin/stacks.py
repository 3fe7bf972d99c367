"""Which stack a test gets, and where it comes from; imported when the first test asks for one."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stackyard._util.durations import seconds
from stackyard.pytest_plugin import RUN, has_environments, in_one_line, sigterm
from stackyard.pytest_plugin.failed_starts import Failures
from stackyard.pytest_plugin.reports import Reports
from stackyard.running.shared import Run
from stackyard.running.stack_description import StackDescription

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest


@contextlib.contextmanager
def given(config: pytest.Config, *, shared: bool, files: Sequence[str] = (), resettable: bool = False) -> Iterator[Any]:
    """
    Give a ready stack to a `with` block.

    Args:
        config: Its options say which.
        shared: All processes of the run use it together; without it, it is removed after the block.
        files: Compose files, instead of those of the options.
        resettable: Whether the stack keeps the state of its data, to go back to it.
    """
    wanted, run = replace(_wanted(config, files), resettable=resettable), _run(config)
    reports = Reports.of(config)
    with sigterm.handled(), in_one_line(), reports.first_in_full(), contextlib.ExitStack() as block:
        if run is not None and shared:
            stack = block.enter_context(run.share(wanted))
            block.enter_context(reports.watching(stack, lambda: run.is_first_failure(wanted)))
        else:
            if run is not None:
                run.use()
            with Failures.of(config).counted(wanted):
                stack = block.enter_context(wanted.run(_tell))
            block.enter_context(reports.watching(stack))
        yield stack


def _wanted(config: pytest.Config, files: Sequence[str]) -> StackDescription:
    option, ini = config.getoption, config.getini
    timeout = ini("stackyard_timeout")
    here = config.invocation_params.dir
    named = [str(here / file) for file in option("--stackyard-file") or ()] or [*map(str, ini("stackyard_files"))]
    environment = (option("--stackyard-environment") or "test") if not files and has_environments(config) else ""
    return StackDescription(
        folder=str(config.rootpath),
        environment=environment,
        files=tuple(files or named),
        profiles=tuple(option("--stackyard-profile") or ini("stackyard_profiles")),
        timeout=option("--stackyard-timeout") or (seconds("stackyard_timeout", timeout) if timeout else None),
        wait=option("--stackyard-wait"),
    )


def _run(config: pytest.Config) -> Run | None:
    """Return the run that this process is a worker of; None if it runs all tests itself."""
    told = getattr(config, "workerinput", {}).get(RUN)
    return Run(**told) if told else None


def _tell(line: str) -> None:
    sys.stderr.write(f"stackyard: {line}\n")
