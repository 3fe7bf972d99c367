"""From an environment to a ready stack: images, a lease, the start, and another place when a port was stolen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from stackyard._util.failpoints import reach
from stackyard.cleanup import removal
from stackyard.docker.compose import port_conflict, taken
from stackyard.docker.in_use import strangers
from stackyard.docker.ownership import Holdings
from stackyard.errors import CommandError, LeaseNotFoundError, RefusedError
from stackyard.leases.requests import PARALLEL_TTL
from stackyard.leases.warm import WarmStacks
from stackyard.settings import Settings
from stackyard.stacks.checkouts import holder, other_data
from stackyard.stacks.reaper_process import enabled, wake
from stackyard.stacks.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stackyard.docker import Engine
    from stackyard.errors import EngineError
    from stackyard.leases import Lease, LeaseBook
    from stackyard.leases.records import Fixed
    from stackyard.project.environments import Environment
    from stackyard.stacks.startup import Startup

# Probes from the host say when a stack is ready; the engine's own checks are for later. Each is an exec: in four
# containers every 250 ms they cost 0.3 s of CPU in the one second they would watch, and those of fifty stacks keep more
# than one processor busy when asked every 15 s, a third of one when asked every minute. The first comes when most runs
# are over: after 10 s, it takes from the next stacks the processors they start with.
UNHURRIED: Final = {
    "STACKYARD_HEALTH_START_PERIOD": "60s", "STACKYARD_HEALTH_START_INTERVAL": "50s",
    "STACKYARD_HEALTH_INTERVAL": "60s", "STACKYARD_HEALTH_RETRIES": "2",
}  # fmt: skip
MOVES: Final = 3  # how often a start whose port or subnet was stolen tries another place
KEPT_TTL: Final = 86400.0  # seconds until a stack kept for a look inside counts as abandoned


def prepare_images(environment: Environment, progress: Callable[[str], None]) -> dict[str, str]:
    """
    Build what is missing and return the variables a lease adds to its env file: images, and when health checks begin.

    Raises:
        ImageError: If an image could not be built.
        EngineError: If the engine does not answer.
    """
    from stackyard import images

    references = images.ensure(
        environment.flavour, source=Settings.load().image_source, progress=progress, root=environment.root
    )
    return UNHURRIED | {f"STACKYARD_IMAGE_{service.upper()}": reference for service, reference in references.items()}


def launch(  # noqa: PLR0913 - each is a choice of the command line
    environment: Environment,
    book: LeaseBook,
    engine: Engine,
    *,
    fixed: Fixed,
    progress: Callable[[str], None],
    ttl: float | None = None,
    parallel_id: str | None = None,
    keep: bool = False,
    wait: float | None = None,
    force: bool = False,
    deadline: float | None = None,
    variables: Mapping[str, str] | None = None,
) -> tuple[Stack, Startup]:
    """
    Lease a place for *environment* and start a stack in it, or take a warm one that equals it.

    Args:
        environment: What to start.
        book: Where the place is leased.
        engine: Where it starts.
        fixed: Whether the environment's fixed block is used: never, prefer (else the pool), or only. Of an environment
            that keeps its data a second checkout gets a place in the pool, as the first one has the fixed block.
        progress: Is given a line whenever the user should know something.
        ttl: Seconds the lease lives unless renewed, once the stack is ready; until then, and with None, it is this
            process's. An environment that keeps its data stays until somebody ends it, if this is None.
        parallel_id: The lease's name.
        keep: Leave a failed start standing; its lease then outlives this process for a day.
        wait: Seconds to queue for a place; None does not.
        force: Start it even if the host seems to have no memory for it.
        deadline: Seconds until the start has failed; None takes the environment's start-up budget.
        variables: For this stack alone, on top of what the environment and a lease set; no warm one has them.

    Raises:
        StackyardError: If anything on the way fails; unless *keep*, nothing made here is left. A stack that stood
            before, under a lease that was asked for again, stays.
    """
    engine.refuse_elsewhere()
    enabled()  # a wrong setting is reported before anything is leased
    keeps, other = environment.data == "volume", ""
    if keeps:
        ttl = math.inf if ttl is None else ttl
        fixed, other = _own_place(environment, book, engine, fixed, progress)
    outlives = not keeps and (ttl is not None or parallel_id is not None)
    request = _Request(
        environment=environment, book=book, engine=engine, fixed=fixed, progress=progress, ttl=ttl,
        parallel_id=parallel_id, wait=wait, force=force, outlives=outlives, own=variables or {},
    )  # fmt: skip
    taken = request.warm()
    stack = taken[0] if taken else request.place()
    if other:
        ports = f"{stack.lease.every_port[0]}-{stack.lease.every_port[-1]}"
        progress(f"the fixed ports of {environment.name} belong to {other}; this stack runs on ports {ports}")
    reach("lease")
    wake(book.settings)
    try:
        startup = taken[1] if taken else start_in_place(stack, keep=keep, progress=progress, deadline=deadline)
        if outlives and stack.lease.owner.kind == "process":
            stack.lease = book.renew(stack.lease.id, PARALLEL_TTL if ttl is None else ttl, detach=True)
    except LeaseNotFoundError:
        raise  # it is another command's to say what becomes of the stack
    except BaseException:
        if keep:
            book.renew(stack.lease.id, math.inf if keeps else KEPT_TTL, detach=True)
        elif not stack.stood_before:
            for item in stack.down().left:
                progress(f"left: {item}; its lease stays until it is gone")
        raise
    return stack, startup


def _own_place(
    environment: Environment, book: LeaseBook, engine: Engine, fixed: Fixed, progress: Callable[[str], None]
) -> tuple[Fixed, str]:
    """Return how this checkout's stack gets its place, and whose stack has the fixed block; say what other data is."""
    for line in other_data(environment, book, engine):
        progress(line)
    other = holder(environment, book, engine) if fixed != "never" else ""
    return "never" if other else fixed, other


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """What `launch` was asked for, as far as it decides which place the stack gets; `launch` explains the fields."""

    environment: Environment
    book: LeaseBook
    engine: Engine
    fixed: Fixed
    progress: Callable[[str], None]
    ttl: float | None
    parallel_id: str | None
    wait: float | None
    force: bool
    outlives: bool
    own: Mapping[str, str]

    def warm(self) -> tuple[Stack, Startup] | None:
        """Take a warm stack if one fits; its ports are in the pool, so it never replaces one on fixed ports."""
        if self.own or self.fixed == "only" or not WarmStacks(self.book).any():
            return None
        from stackyard.stacks import warm_stacks

        taken = warm_stacks.take(
            self.environment, self.book, self.engine, parallel_id=self.parallel_id, outlives=self.outlives,
            progress=self.progress,
        )  # fmt: skip
        if taken is not None:
            self.progress(f"took warm stack {taken[0].lease.id} in slot {taken[0].lease.slot} of the pool")
        return taken

    def place(self) -> Stack:
        """Lease a place for a stack, and remove what a killed start left under the same lease."""
        lease = self._lease()
        if self.fixed == "prefer" and lease.slot is not None:
            self.progress(
                f"the fixed ports of {self.environment.name} are taken; running in slot {lease.slot} of the pool"
            )
        if lease.owner.kind == "process" and lease.reused:
            removal.remove(self.engine, Holdings.of(self.book.host, lease), keep_volumes=lease.keeps_data)
        return Stack(self.environment, lease, self.book, self.engine)

    def _lease(self) -> Lease:
        """Lease a place; a warm stack of another kind gives up its own before this waits or fails."""
        room = partial(removal.make_room, self.book, self.engine, self.progress)
        return self.book.acquire(
            self.environment, parallel_id=self.parallel_id, ttl=self.ttl, fixed=self.fixed,
            variables={**prepare_images(self.environment, self.progress), **self.own},
            strangers=lambda: strangers(self.engine), wait=self.wait, force=self.force, attached=self.outlives,
            make_room=None if self.fixed == "only" else room,
        )  # fmt: skip


def start_in_place(
    stack: Stack, *, keep: bool, progress: Callable[[str], None], deadline: float | None, last: bool = False
) -> Startup:
    """
    Start *stack*; a port stolen since it was leased costs a move, not the run.

    Args:
        stack: Its lease is another one after a move.
        keep: Leave a failed start standing.
        progress: Is given a line for each move, and while it waits for its turn.
        deadline: Seconds until the start has failed; None takes the environment's start-up budget.
        last: Let every other start go first.

    Raises:
        StackyardError: As `Stack.up` and `LeaseBook.move` do.
    """
    for moves in range(MOVES):
        try:
            return stack.up(keep=keep, deadline=deadline, progress=progress, last=last)
        except (CommandError, RefusedError) as error:
            if not _can_move(stack.lease, error):
                raise
            what = taken(error)
        stack.lease = stack.book.move(stack.lease, strangers=strangers(stack.engine), scattered=moves > 0)
        progress(f"a leased {what} was taken meanwhile; moved to slot {stack.lease.slot} of the pool")
    return stack.up(keep=keep, deadline=deadline, progress=progress, last=last)


def _can_move(lease: Lease, error: EngineError) -> bool:
    """Tell whether another place would help; an environment that keeps its data has only one."""
    return port_conflict(error) and not lease.keeps_data
