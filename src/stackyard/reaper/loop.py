"""
The reaper's loop: read the book, start what it needs, write the notice, sleep until something happens.

The reaper ends if there was no lease and no pool for a few seconds, if its state directory is gone, or if it cannot
read the book for long. If it has to end, it first removes its warm stacks.
"""

from __future__ import annotations

import logging
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from stackyard._util import process
from stackyard._util.clocks import steady_for
from stackyard.errors import BookError
from stackyard.leases import LeaseBook
from stackyard.leases.owners import Owner
from stackyard.leases.warm import Pool, WarmStacks
from stackyard.reaper.events import Watch
from stackyard.reaper.jobs import Reminding, Sweeping, Warming, excess
from stackyard.stacks.reaper_files import Notice, code

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stackyard.leases.warm import Inventory
    from stackyard.reaper.jobs import Child
    from stackyard.settings import Settings
    from stackyard.stacks.reaper_files import Post

log = logging.getLogger("stackyard")

LINGER: Final = 5.0  # seconds without a lease or a pool after which it ends
REFRESH: Final = 30.0  # seconds between two checks if nothing happens
STRANGE: Final = 4.0  # seconds between two checks of owners in other pid namespaces, which cannot be watched
FAREWELL: Final = 20.0  # seconds for the removal of the warm stacks at the end
FAILURES: Final = 5  # times in a row that the book cannot be read before the reaper gives up


class Reaper:
    """
    One reaper.

    Args:
        settings: Whose book.
        post: Held by this process.
        clock: Seconds since 1970.
        steady: Seconds since the host was started; the default is what `stackyard._util.clocks.steady_for` returns.
        start: Starts a command; the default is a process that ends with this one and writes to its log.
    """

    def __init__(
        self,
        settings: Settings,
        post: Post,
        *,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] | None = None,
        start: Callable[[Sequence[str]], Child] | None = None,
    ) -> None:
        self._steady = steady or steady_for(clock)
        self.book = LeaseBook(settings, clock=clock, steady=self._steady)
        self.stacks = WarmStacks(self.book, clock=clock)
        self.watch = Watch(settings.state_dir / "book.sqlite3")
        self._post = post
        self._clock = clock
        begin = start or partial(process.start, output=sys.stderr.fileno())
        self._sweeping, self._warming, self._reminding = Sweeping(begin), Warming(begin), Reminding()
        self._since = clock()
        self._busy = self._steady()
        self._told: Notice | None = None
        self._failures = 0

    def serve(self) -> None:
        """Work until there is nothing left to do, or until a signal says to end."""
        while not self.watch.ending and self._post.is_mine():
            pause = self._turn()
            if pause is None:
                return
            self.watch.wait(pause)
        if self.watch.ending and self._post.is_mine():
            self._say_farewell()

    def idle(self) -> bool:
        """Say whether the book has neither leases nor pools."""
        found = self.stacks.inventory()
        return not found.leases and not found.pools

    def _turn(self) -> float | None:
        """Read the book once and start what it needs; return the seconds to sleep, None to end."""
        try:
            found = self.stacks.inventory()
            pause = self._keep(found)
        except (BookError, OSError) as error:
            self._failures += 1
            log.warning("%s", error)
            return None if self._failures >= FAILURES else 2.0**self._failures
        self._failures = 0
        return pause

    def _keep(self, found: Inventory) -> float | None:
        now = self._steady()
        stale = [lease for lease in found.leases if self.book.is_stale(lease)]
        unwanted = excess(found.pools, found.warm)
        if unwanted:
            stale += self.stacks.retire(lambda warm: warm.lease.id in unwanted)
        self._sweeping.reap(found.leases, stale, now)
        self._sweeping.see(stale, now)
        self._reminding.see(found.leases, self._clock())
        self._warming.reap(now)
        pools = [pool for pool in found.pools if self._exists(pool)]
        self._warming.see(pools, [warm for warm in found.warm if warm.lease.id not in unwanted], now)
        self._tell(found)
        if found.leases or found.pools or self._sweeping.busy:
            self._busy = now
        if now - self._busy >= LINGER:
            return None
        return max(min(self._times(found, pools, now)) - now, 0.0)

    def _times(self, found: Inventory, pools: list[Pool], now: float) -> list[float]:
        """Return when to check again, on the boot-time clock, if nothing happens before."""
        watchable = {lease.owner for lease in found.leases if lease.owner.kind == "process"} - {Owner.current()}
        strange = self.watch.follow(watchable)
        ends = [lease.deadline - self._clock() for lease in found.leases if lease.deadline is not None]
        deadlines = [now + left for left in ends if left > 0]
        later = [due for due in (self._sweeping.due, self._warming.due(pools, now)) if due is not None and due > now]
        times = [*deadlines, *later, now + (STRANGE if strange else REFRESH)]
        return times if found.leases or found.pools else [*times, self._busy + LINGER]

    def _exists(self, pool: Pool) -> bool:
        """Say whether the project of *pool* is still there; if not, the pool ends."""
        if pool.root.is_dir():
            return True
        log.info("pool of %s ends: %s is gone", pool.environment, pool.root)
        self.stacks.want(Pool(root=pool.root, environment=pool.environment, size=0))
        return False

    def _tell(self, found: Inventory) -> None:
        notice = Notice(
            owner=Owner.current().label(), code=code(), since=self._since,
            watched=[lease.id for lease in found.leases if lease.owner != Owner.current()],
            warm=[warm.lease.id for warm in found.warm],
            pools=[{"root": str(x.root), "environment": x.environment, "size": x.size} for x in found.pools],
            trouble=self._warming.trouble,
        )  # fmt: skip
        if notice != self._told:
            self._post.tell(notice)
            self._told = notice

    def _say_farewell(self) -> None:
        """Remove the warm stacks, because no process keeps them any longer."""
        self._warming.stop()
        try:
            self.stacks.retire(lambda warm: warm.lease.owner == Owner.current())
            end = self._steady() + FAREWELL
            while self._steady() < end and self._still_removing():
                self.watch.wait(max(min(end - self._steady(), 1.0), 0.0))
        except (BookError, OSError) as error:
            log.warning("%s", error)

    def _still_removing(self) -> bool:
        """Start clean-ups; say whether a lease of this reaper is left, or a child process works."""
        now = self._steady()
        leases = self.stacks.inventory().leases
        stale = [lease for lease in leases if self.book.is_stale(lease)]
        self._warming.reap(now)
        self._sweeping.reap(leases, stale, now)
        self._sweeping.see(stale, now)
        own = any(lease.owner == Owner.current() for lease in leases)
        return own or self._sweeping.busy or self._warming.busy
