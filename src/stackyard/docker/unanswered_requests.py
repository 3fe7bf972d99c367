"""
Requests to make something that the engine has not answered.

The engine may carry out such a request long after its asker has gone, so an empty list does not prove that nothing of
ours will appear. What is unanswered is noted in the lease's directory. The lease then stays until each thing has
appeared and was removed, or until so much time has passed that no engine is still at it. An engine that was restarted
since has nothing more to carry out: what it lists is all there is.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from stackyard._util import files
from stackyard._util.clocks import boottime
from stackyard.docker.records import PROJECT_LABEL
from stackyard.errors import EngineError, UnansweredError
from stackyard.leases.owners import boot_id, start_ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from stackyard.docker import Engine
    from stackyard.docker.fast_start.records import ContainerPlan, NetworkPlan, VolumePlan
    from stackyard.leases import Lease

NOTE: Final = "unanswered"  # in the lease's directory
UNKNOWN: Final = "-"
MAKES: Final = {"create_container": "container", "create_network": "network", "create_volume": "volume"}
APPEARS_WITHIN_S: Final = 600.0  # seconds after which nothing appears any more
CREDENTIALS: Final = struct.Struct("3i")  # unix(7): process, user, group
CONNECT_TIMEOUT_S: Final = 1.0  # seconds to connect to a socket of this host
LATE: Final = 2.0  # seconds in which most of what another program asked for appears after its end
POLL: Final = 0.1  # seconds between two looks
_LOCK: Final = threading.Lock()  # the engine is asked from several threads


class Unanswered(NamedTuple):
    """
    One thing that may still appear.

    Attributes:
        kind: container, network or volume.
        name: Its name.
        since: Seconds of the boot-time clock when its request was given up.
        boot: The id of the boot that the seconds count from.
        engine: The engine's process, as `process` tells it.
    """

    kind: str
    name: str
    since: float
    boot: str
    engine: str


class Asking:
    """
    An engine that makes things for *lease*, and a note of what it has not answered.

    Args:
        engine: The engine.
        lease: Where the note is kept.
    """

    def __init__(self, engine: Engine, lease: Lease) -> None:
        self._engine = engine
        self._lease = lease
        self._process = process(engine)

    def __getattr__(self, name: str) -> Any:
        """Return a method of the engine; one that makes something notes it where there is no answer."""
        method, kind = getattr(self._engine, name), MAKES.get(name)
        return method if kind is None else functools.partial(self._ask, kind, method)

    def _ask(self, kind: str, make: Callable[[Any], Any], plan: ContainerPlan | NetworkPlan | VolumePlan) -> Any:
        try:
            return make(plan)
        except UnansweredError:
            note(self._lease, [(kind, plan.name)], engine=self._process)
            raise


def process(engine: Engine) -> str:
    """
    Return the number and the start of the process that listens at the engine's address: `2895:1234`.

    It is `-` where this host cannot tell: for an engine on another host, in another pid namespace, or behind a socket
    that systemd holds for it.
    """
    path = engine.endpoint.url.removeprefix("unix://")
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as line:
        line.settimeout(CONNECT_TIMEOUT_S)
        line.connect(path)
        number, _, _ = CREDENTIALS.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
        ticks = start_ticks(number) if number > 1 else None
        return f"{number}:{ticks}" if ticks else UNKNOWN
    return UNKNOWN


def note(lease: Lease, things: Collection[tuple[str, str]], *, engine: str) -> None:
    """
    Note what the engine was asked for and has not answered.

    Args:
        lease: Where it is noted.
        things: Kind and name of each.
        engine: The engine's process, as `process` tells it.
    """
    with _LOCK, contextlib.suppress(OSError):
        given_up = [Unanswered(kind, name, boottime(), boot_id(), engine) for kind, name in things]
        _write(lease, [*pending(lease), *given_up])


def await_late(
    lease: Lease,
    engine: Engine,
    things: Collection[tuple[str, str]],
    *,
    refused: int = 0,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """
    Wait a moment for what another program asked the engine for before it ended; what has not appeared then is noted.

    Args:
        lease: Where it is noted.
        engine: The engine.
        things: Kind and name of each.
        refused: How many of them the engine has refused; it is not known which.
        sleep: Waits between two looks.
    """
    if len(things) <= refused:
        return
    note(lease, things, engine=process(engine))  # first, because this process may be ended while it waits
    with contextlib.suppress(EngineError):
        for _ in range(round(LATE / POLL)):
            found = engine.everything([f"{PROJECT_LABEL}={lease.project}"])
            left = settle(lease, [f"{item.kind} {item.name}" for item in found])
            if sum((item.kind, item.name) in things for item in left) <= refused:
                settle(lease, [f"{kind} {name}" for kind, name in things])
                return
            sleep(POLL)


def pending(lease: Lease) -> list[Unanswered]:
    """Return what may still appear under *lease*; a note that cannot be read says nothing."""
    try:
        lines = files.read(lease.directory / NOTE).decode().splitlines()
        found = [
            Unanswered(kind, name, float(since), boot, engine)
            for kind, name, since, boot, engine in map(str.split, lines)
        ]
    except (OSError, ValueError):
        return []
    now, boot = boottime(), boot_id()
    return [item for item in found if item.boot == boot and 0 <= now - item.since < APPEARS_WITHIN_S]


def settle(lease: Lease, removed: Collection[str], *, engine: str = UNKNOWN) -> list[Unanswered]:
    """
    Take what has appeared and was removed off the note; return what may still appear.

    Args:
        lease: Whose note.
        removed: `kind name` of everything that was removed.
        engine: The engine's process, as `process` returned it before the engine listed what there was to remove.
    """
    with _LOCK:
        before = pending(lease)
        gone = [item for item in before if UNKNOWN not in {engine, item.engine} and item.engine != engine]
        left = [item for item in before if item not in gone and f"{item.kind} {item.name}" not in removed]
        if left != before:
            with contextlib.suppress(OSError):
                _write(lease, left)
    return left


def _write(lease: Lease, items: Collection[Unanswered]) -> None:
    # every digit of the time: a rounded one may lie ahead of the clock, and `pending` would not count it yet
    text = "".join(f"{item.kind} {item.name} {item.since!r} {item.boot} {item.engine}\n" for item in items)
    files.write(lease.directory / NOTE, text.encode())
