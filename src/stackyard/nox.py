"""For a project's own noxfile.py: ``with stackyard.nox.stack(session) as env: session.run("pytest")``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from stackyard._util import library_logs
from stackyard.errors import StackyardError
from stackyard.running import Stack, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    import nox

__all__ = ["stack"]


@contextlib.contextmanager
def stack(session: nox.Session, environment: str | None = None, **options: Any) -> Iterator[dict[str, str]]:
    """
    Run a stack while a block of a session runs; all that the session runs in the block gets its addresses as variables.

    Args:
        session: The session of nox.
        environment: An environment, for a project that has environments; None means the Compose project.
        options: As for `stackyard.running`: ``folder``, ``files``, ``profiles``, ``timeout``, ``site`` and so on.

    Yields:
        The variables, for programs that the session does not start.

    The session fails with one message if an option is wrong or the stack does not start.

    Raises:
        StackyardError: If the stack cannot be removed.
    """
    library_logs.quiet()
    wanted: Any = running  # which of its signatures is meant is the caller's choice
    with contextlib.ExitStack() as held:
        try:
            made = held.enter_context(wanted(environment, **{"progress": session.log, **options}))
        except StackyardError as error:
            session.error(str(error))  # nox prints it without a traceback
        variables = made.env if isinstance(made, Stack) else dict(made.lease.variables())
        before = dict(session.env)
        session.env.update(variables)
        try:
            yield variables
        finally:
            session.env.clear()
            session.env.update(before)
