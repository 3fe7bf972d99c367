"""What `import stackyard` offers: the names, their types, and how little it costs. `nox -s types` checks the types."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, assert_type

import pytest

import stackyard
from stackyard import errors
from stackyard._util.process import run
from stackyard.errors import StackyardError

if TYPE_CHECKING:
    from stackyard.running import Stack
    from stackyard.stacks.environments.stack import Stack as PlatformStack

NAMES = """
BookError CommandError ConfigError EngineError ImageError Lease LeaseBook LeaseNotFoundError LeftoversError
NotReadyError PoolExhaustedError Project Stack StackyardError UsageError __version__ alease lease running
""".split()


def test_the_public_names_are_these() -> None:
    assert stackyard.__all__ == NAMES
    assert set(NAMES) <= set(dir(stackyard))
    assert [name for name in NAMES if not hasattr(stackyard, name)] == []


def test_a_star_import_brings_them_all() -> None:
    names: dict[str, object] = {}
    exec("from stackyard import *", names)  # noqa: S102 - a module may not do it inside a function

    assert names.keys() - {"__builtins__"} == set(NAMES)


def test_every_other_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'stackyard' has no attribute 'walking'"):
        getattr(stackyard, "walking")  # noqa: B009 - mypy would refuse it otherwise


def test_every_public_error_is_a_stackyard_error_with_an_exit_code() -> None:
    found = [getattr(stackyard, name) for name in NAMES if name.endswith("Error")]

    assert all(issubclass(each, StackyardError) and each.exit_code > 0 for each in found)
    kinds = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, StackyardError)]
    codes = {each.exit_code for each in kinds} - {errors.VerifyError.exit_code}  # of checks, which have no public name
    assert {each.exit_code for each in found} == codes


@pytest.mark.parametrize("first", ["stackyard.running", "stackyard"])
def test_running_can_be_called_whichever_module_was_imported_first(first: str) -> None:
    script = f"import {first}; from stackyard import running as one; import stackyard.running; assert callable(one)"
    script += "; from stackyard import running as two; assert callable(two); assert callable(two.running)"
    run([sys.executable, "-c", script], deadline=240)


def test_the_package_alone_imports_nothing_heavy() -> None:
    script = "import sys, stackyard; print(*sorted(m for m in sys.modules if m.startswith('stackyard')))"
    assert run([sys.executable, "-c", script], deadline=240).stdout.split() == ["stackyard", "stackyard.errors"]


def types() -> None:
    """Pin the types that a user's type checker sees; only mypy reads this."""
    assert_type(stackyard.running(), AbstractContextManager["Stack"])
    assert_type(stackyard.running(folder=Path(), profiles=["web"]), AbstractContextManager["Stack"])
    assert_type(stackyard.running("test"), AbstractContextManager["PlatformStack"])
    with stackyard.running() as stack:
        assert_type(stack, stackyard.Stack)
        assert_type(stack.url("web"), str)
        assert_type(stack.port("web", 80), int)
        assert_type(stack.lease, stackyard.Lease)
    with stackyard.lease("test") as held:
        assert_type(held, stackyard.Lease)
        assert_type(held.url("backend"), str)
    assert_type(stackyard.Project.find(Path()), stackyard.Project)
    assert_type(stackyard.StackyardError.exit_code, int)


async def asynchronous_types() -> None:
    """Pin those of asynchronous code."""
    async with stackyard.alease("test") as held:
        assert_type(held, stackyard.Lease)
