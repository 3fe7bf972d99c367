"""A program whose input and output are one socket, such as an ssh that joins it to another machine."""

from __future__ import annotations

import logging
import shlex
import subprocess
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from stackyard._util.process import child_environment, with_parent_death_signal

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger("stackyard")


def start(argv: Sequence[str], *, line: int, errors: int) -> None:
    """
    Start one command whose input and output are one socket; it ends with the socket, or with this process.

    Args:
        argv: Program and arguments; never goes through a shell.
        line: File descriptor of the socket's other end.
        errors: File descriptor of its standard error.
    """
    log.debug("plug %s", shlex.join(argv))
    environment = child_environment()
    words, started = with_parent_death_signal(argv, environment), Future[None]()

    def start_and_wait() -> None:
        """
        Start the program and wait for its end, which leaves no zombie.

        The program gets its parent-death signal when the thread that started it ends, so this thread must wait.
        """
        try:
            child = subprocess.Popen(  # noqa: S603 - as in process
                words, env=environment, start_new_session=True, stdin=line, stdout=line, stderr=errors
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            started.set_exception(error)
            return
        started.set_result(None)
        child.wait()

    threading.Thread(target=start_and_wait, daemon=True).start()
    started.result()
