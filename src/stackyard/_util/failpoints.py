"""
Places where a test can kill a run, to prove that nothing is lost there.

A test cannot hit the right moment with a kill from outside. If `STACKYARD_CRASH_AT` holds a name below, the process
that reaches this place is killed by the kernel (SIGKILL): no handler, no `finally`, no flush. If it is unset, a place
costs one look-up in the environment.
"""

from __future__ import annotations

import os
import signal
from typing import Final, Literal

VARIABLE: Final = "STACKYARD_CRASH_AT"

# lease: granted, nothing else exists. network: it exists, containers may exist. create: all containers exist, few run.
# start: all run, none answers yet. probe: the stack is ready. test: the payload has ended. remove: the containers are
# off the network, the removal runs. release: everything is removed, the lease is still in the book. report: the lease
# is released, no report is written.
Checkpoint = Literal["lease", "network", "create", "start", "probe", "test", "remove", "release", "report"]
# its containers and volumes are removed, and not made again yet
OfReset = Literal["reset"]
# a copy's images are built, and it has no lease yet
OfBuild = Literal["build"]


def reach(name: Checkpoint | OfReset | OfBuild) -> None:
    """Die here if `STACKYARD_CRASH_AT` names this place."""
    if os.environ.get(VARIABLE) == name:
        os.kill(os.getpid(), signal.SIGKILL)
