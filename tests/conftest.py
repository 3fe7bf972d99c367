"""Settings of all the tests."""

from __future__ import annotations

import os
import random
import signal
from itertools import groupby
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from pathlib import Path

# A build server may start us with SIGINT ignored, as a shell does with what it runs in the background; Python then
# installs no handler, and every child inherits it: nothing would ever see Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# how long an example takes, to run or to make, depends on what else the machine does
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

SHUFFLED = (
    "tests/unit/"  # a test that needs another one before it is wrong; the other suites share what is slow to make
)
SEED = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle-seed", type=int, help="repeat the order that this seed gave the unit tests; 0 keeps it")


def pytest_configure(config: pytest.Config) -> None:
    given = getattr(config, "workerinput", {}).get("shuffle_seed", config.getoption("--shuffle-seed"))
    config.stash[SEED] = int.from_bytes(os.urandom(3), "big") + 1 if given is None else given


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give each worker of pytest-xdist the same order."""
    node.workerinput["shuffle_seed"] = node.config.stash[SEED]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    if exitstatus:
        terminalreporter.write_line(f"to repeat the order of the unit tests: --shuffle-seed {config.stash[SEED]}")


@pytest.hookimpl(trylast=True)  # Hypothesis marks its tests first
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give tests of many made-up examples time, and count no coverage there: it doubles it; others run the lines."""
    for item in items:
        if item.get_closest_marker("hypothesis"):
            item.add_marker("no_cover")
            item.add_marker(pytest.mark.timeout(600))  # on a busy machine the slowest takes over two minutes
    _shuffle(config, items)


def _shuffle(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Shuffle the unit tests: the modules, then the tests inside each, so that a module's fixtures are made once."""
    seed = config.stash[SEED]
    root: Path = config.rootpath
    if not seed:
        return
    order = random.Random(seed)  # noqa: S311 - nothing secret
    unit = [item for item in items if item.path.relative_to(root).as_posix().startswith(SHUFFLED)]
    modules = [list(group) for _, group in groupby(unit, key=lambda item: item.path)]
    order.shuffle(modules)
    for module in modules:
        order.shuffle(module)
    shuffled = iter([item for module in modules for item in module])
    chosen = set(unit)
    items[:] = [next(shuffled) if item in chosen else item for item in items]
