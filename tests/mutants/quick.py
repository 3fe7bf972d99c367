"""A pytest plugin for a mutation run: the tests of guards first, and none that tries many made-up examples."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

# Each guard in front of a loss has a test that takes a moment. Only those count here: a property test that meets the
# mistake after some hundred examples is too slow for each of thousands of mutants, and need not meet it.


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow = [item for item in items if hasattr(getattr(item, "obj", None), "hypothesis")]
    config.hook.pytest_deselected(items=slow)
    items[:] = sorted((item for item in items if item not in slow), key=lambda item: not is_guard(item))


def is_guard(item: pytest.Item) -> bool:
    """Say whether *item* is one of the tests of guards."""
    return "test_guards" in item.nodeid
