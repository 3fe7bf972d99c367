"""The fixtures of a project with environments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stackyard.pytest_plugin import in_one_line, scope_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackyard.stacks.databases import Database
    from stackyard.stacks.stack import Stack


@pytest.fixture
def clean_stack(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Give the fixture `stack`; its data is brought back to the state after the start when the test is over."""
    if scope_of(request.config) == "run" and hasattr(request.config, "workerinput"):
        pytest.fail(
            "stackyard: clean_stack deletes data that tests of other workers use; "
            "choose --stackyard-scope worker or test",
            pytrace=False,
        )
    yield stack
    with in_one_line():
        stack.reset()


@pytest.fixture
def database(stack: Stack) -> Iterator[Database]:
    """Give a database of this test's own with all tables and no rows; dropped after it."""
    with in_one_line(), stack.database() as made:
        yield made
