"""The fixtures of a project with environments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stackyard.pytest_plugin import in_one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackyard.stacks.environments.databases import Database
    from stackyard.stacks.environments.stack import Stack


@pytest.fixture
def database(stack: Stack) -> Iterator[Database]:
    """Give a database of this test's own with all tables and no rows; dropped after it."""
    with in_one_line(), stack.database() as made:
        yield made
