"""From an environment to a ready stack: images, a lease, the start, and other ports if a program took one."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from stackyard._util.failpoints import reach
from stackyard.cleanup import removal
from stackyard.docker.in_use import strangers
from stackyard.docker.ownership import Holdings
from stackyard.errors import LeaseNotFoundError, StackyardError
from stackyard.leases.grants.requests import PARALLEL_TTL
from stackyard.leases.warm import WarmStacks
from stackyard.settings import Settings
from stackyard.stacks.diagnostics import standing
from stackyard.stacks.environments.checkouts import holder, other_data
from stackyard.stacks.environments.stack import Stack
from stackyard.stacks.reaper_launch import wake
from stackyard.stacks.starts.request import EnvironmentRequest
from stackyard.stacks.starts.retries import placed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stackyard.docker import Engine
    from stackyard.leases import Lease, LeaseBook
    from stackyard.project.environments import Environment
    from stackyard.stacks.starts.times import Startup

# Probes from the host say when a stack is ready; the engine's own checks are for later. Each is an exec: in four
# containers every 250 ms they cost 0.3 s of CPU in the one second they would watch, and those of fifty stacks keep more
# than one processor busy when asked every 15 s, a third of one when asked every minute. The first comes when most runs
# are over: after 10 s, it takes from the next stacks the processors they start with.
UNHURRIED: Final = {
    "STACKYARD_HEALTH_START_PERIOD": "60s", "STACKYARD_HEALTH_START_INTERVAL": "50s",
    "STACKYARD_HEALTH_INTERVAL": "60s", "STACKYARD_HEALTH_RETRIES": "2",
}  # fmt: skip
KEPT_TTL: Final = 86400.0  # seconds until a stack kept for a look inside counts as abandoned


def prepare_images(
    environment: Environment,
    progress: Callable[[str], None],
    *,
    settings: Settings | None = None,
    engine: Engine | None = None,
) -> dict[str, str]:
    """
    Build what is missing and return the variables a lease adds to its env file: images, and when health checks begin.

    Args:
        environment: Whose images.
        progress: Gets one line for each image that is built.
        settings: Where the images come from; None loads them.
        engine: Where the images are; None connects to it for this call.

    Raises:
        ImageError: If an image could not be built.
        EngineError: If the engine does not answer.
    """
    from stackyard import images

    source = (settings or Settings.load()).image_source
    references = images.ensure(
        environment.flavour, source=source, progress=progress, root=environment.root, engine=engine
    )
    return UNHURRIED | {f"STACKYARD_IMAGE_{service.upper()}": reference for service, reference in references.items()}


def launch(
    environment: Environment, book: LeaseBook, engine: Engine, request: EnvironmentRequest | None = None
) -> tuple[Stack, Startup]:
    """
    Lease a place for *environment* and start a stack in it, or take a warm one that equals it.

    Args:
        environment: What to start.
        book: Where the place is leased.
        engine: Where it starts.
        request: What is asked of it; None asks for nothing in particular.

    Raises:
        StackyardError: If anything on the way fails; unless it is to be kept, nothing made here is left. A stack that
            stood before, under a lease that was asked for again, stays.
    """
    request = request or EnvironmentRequest()
    engine.refuse_elsewhere()
    work, other = _Launch(environment, book, engine, request).in_own_place()
    warm = work.warm()
    stack = warm[0] if warm else work.place()
    if other:
        ports = f"{stack.lease.every_port[0]}-{stack.lease.every_port[-1]}"
        request.progress(f"the fixed ports of {environment.name} belong to {other}; this stack runs on ports {ports}")
    reach("lease")
    wake(book.settings)
    with work.ending(stack):
        startup = warm[1] if warm else start_in_place(stack, work.request)
        if work.outlives_process and stack.lease.owner.kind == "process":
            stack.lease = book.renew(stack.lease.id, PARALLEL_TTL if request.ttl is None else request.ttl, detach=True)
    return stack, startup


@dataclass(frozen=True, slots=True)
class _Launch:
    """One call of `launch`."""

    environment: Environment
    book: LeaseBook
    engine: Engine
    request: EnvironmentRequest

    @property
    def keeps(self) -> bool:
        return self.environment.data == "volume"

    @property
    def outlives_process(self) -> bool:
        return not self.keeps and self.request.outlives_process

    def in_own_place(self) -> tuple[_Launch, str]:
        """Return what is asked where this checkout's data is kept, and whose stack has the fixed block."""
        if not self.keeps:
            return self, ""
        for line in other_data(self.environment, self.book, self.engine):
            self.request.progress(line)
        ttl, fixed = math.inf if self.request.ttl is None else self.request.ttl, self.request.fixed
        other = holder(self.environment, self.book, self.engine) if fixed != "never" else ""
        return replace(self, request=replace(self.request, ttl=ttl, fixed="never" if other else fixed)), other

    def warm(self) -> tuple[Stack, Startup] | None:
        """Take a warm stack if one fits; its ports are in the pool, so it never replaces one on fixed ports."""
        if self.request.variables or self.request.fixed == "only" or not WarmStacks(self.book).any():
            return None
        from stackyard.stacks.environments import warm_stacks

        taken = warm_stacks.take(
            self.environment, self.book, self.engine, parallel_id=self.request.name, outlives=self.outlives_process,
            progress=self.request.progress,
        )  # fmt: skip
        if taken is not None:
            lease = taken[0].lease
            self.request.progress(f"took warm stack {lease.id} in slot {lease.slot} of the pool")
        return taken

    def place(self) -> Stack:
        """Lease a place for a stack, and remove what a killed start left under the same lease."""
        lease, name = self._lease(), self.environment.name
        if self.request.fixed == "prefer" and lease.slot is not None:
            self.request.progress(f"the fixed ports of {name} are taken; running in slot {lease.slot} of the pool")
        if lease.owner.kind == "process" and lease.reused:
            removal.remove(self.engine, Holdings.of(self.book.host, lease), keep_volumes=lease.keeps_data)
        return Stack(self.environment, lease, self.book, self.engine)

    def _lease(self) -> Lease:
        """Lease a place; a warm stack of another kind gives up its own before this waits or fails."""
        asked, progress = self.request, self.request.progress
        images = prepare_images(self.environment, progress, settings=self.book.settings, engine=self.engine)
        return self.book.acquire(
            self.environment, parallel_id=asked.name, ttl=asked.ttl, fixed=asked.fixed,
            variables={**images, **asked.variables}, strangers=lambda: strangers(self.engine), wait=asked.wait,
            force=asked.force, attached=self.outlives_process,
            make_room=None if asked.fixed == "only" else partial(removal.make_room, self.book, self.engine, progress),
        )  # fmt: skip

    @contextlib.contextmanager
    def ending(self, stack: Stack) -> Iterator[None]:
        """End the lease if the `with` block fails, or let it outlive this process if the stack is to be kept."""
        try:
            yield
        except LeaseNotFoundError:
            raise  # it is another command's to say what becomes of the stack
        except BaseException as error:
            if self.request.keep:
                self.book.renew(stack.lease.id, math.inf if self.keeps else KEPT_TTL, detach=True)
                if not isinstance(error, StackyardError):  # whose text says so
                    self.request.progress(standing(stack.lease.id))
            elif not stack.stood_before:
                for item in stack.down().left:
                    self.request.progress(f"left: {item}; its lease stays until it is gone")
            raise


def start_in_place(stack: Stack, request: EnvironmentRequest, *, last: bool = False) -> Startup:
    """
    Start *stack*; a port stolen since it was leased costs a move, not the run. One that keeps its data has no other.

    Args:
        stack: Its lease is another one after a move.
        request: What is asked of it.
        last: Let every other start go first.

    Raises:
        StackyardError: As `Stack.up` and `LeaseBook.move` do.
    """

    def attempt(lost: Sequence[str]) -> Startup:
        if lost:
            stack.lease = stack.book.move(stack.lease, strangers=strangers(stack.engine), scattered=len(lost) > 1)
            request.progress(f"another program took a leased {lost[-1]}; moved to slot {stack.lease.slot} of the pool")
        return stack.up(keep=request.keep, deadline=request.deadline, progress=request.progress, last=last)

    return placed(attempt, title=stack.lease.environment, movable=not stack.lease.keeps_data)
