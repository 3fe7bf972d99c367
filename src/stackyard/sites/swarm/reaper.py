"""
``python -m stackyard.sites.swarm.reaper``: what the reaper's container runs on one of a Swarm's managers.

It removes copies whose lease has ended, as each command of a Swarm does before its own work. Two of them do no harm:
a lease is taken by the version that was read, so one that was renewed in the meantime stays.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stackyard.docker import Engine
from stackyard.docker.swarm import Swarm
from stackyard.errors import LeftoversError, StackyardError
from stackyard.sites.swarm.removal import sweep

if TYPE_CHECKING:
    from collections.abc import Iterator

EVERY: Final = 5.0  # seconds between two looks
DEADLINE: Final = 20.0  # seconds for one answer of the manager
BEAT: Final = Path("/tmp/beat")  # noqa: S108 - in the container's own memory
LONGEST: Final = 300.0  # seconds without a look after which the Swarm replaces the container
HEALTH: Final = f"import os, time; assert time.time() - os.stat({str(BEAT)!r}).st_mtime < {LONGEST:g}"


def looks(beat: Path = BEAT) -> Iterator[str]:
    """
    Give what there is to say, one line at a time, without end; between two looks an empty line.

    Args:
        beat: Changed after each look at which the manager answered.

    Raises:
        StackyardError: If the manager does not answer at the first look.
    """
    first, said = True, ""
    while True:
        try:
            with Engine(deadline=DEADLINE) as engine:
                yield from (f"removed {name}" for name in sweep(Swarm(engine)))
            beat.touch()
            first, said = False, ""
        except StackyardError as error:
            if isinstance(error, LeftoversError):  # the manager answers, and a node does not end a container
                beat.touch()
            elif first:
                raise
            first = False
            if str(error) != said:
                said = str(error)
                yield said
        yield ""


def main() -> int:
    """Look until a signal ends this; return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        for line in looks():
            if line:
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
            else:
                time.sleep(EVERY)
    except StackyardError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
