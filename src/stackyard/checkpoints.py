"""
Places where a run can be made to die at once, so that tests can prove that nothing is lost there.

A crash that is only hoped to happen at the right moment proves little. With `STACKYARD_CRASH_AT` set to a name below,
the process that reaches the place is killed by the kernel (SIGKILL): no handler, no `finally`, no flush. Unset, a place
costs one look into the environment.
"""

from __future__ import annotations

import os
import signal
from typing import Final, Literal

VARIABLE: Final = "STACKYARD_CRASH_AT"

# lease: granted, nothing stands. network: it stands, containers may. create: all stand, few run. start: all run,
# nothing answers yet. probe: the stack is ready. test: the payload is over. remove: the containers are off the network,
# all of it is going. release: nothing stands, the lease is still in the book. report: the lease is released, no report
# is written.
Checkpoint = Literal["lease", "network", "create", "start", "probe", "test", "remove", "release", "report"]


def reach(name: Checkpoint) -> None:
    """Die here if `STACKYARD_CRASH_AT` says so."""
    if os.environ.get(VARIABLE) == name:
        os.kill(os.getpid(), signal.SIGKILL)
