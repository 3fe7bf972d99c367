"""Waiting for a place: a request asks again until it is answered, and keeps its place in the queue."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from stackyard.errors import PoolExhaustedError, StillStartingError
from stackyard.leases.grants import queue
from stackyard.leases.grants.host_ports import Ground
from stackyard.leases.records import Lease

if TYPE_CHECKING:
    from collections.abc import Callable

    from stackyard.leases.database.store import Store, Transaction
    from stackyard.leases.directory.draft import Draft
    from stackyard.leases.grants.requests import Request
    from stackyard.leases.records import Strangers

POLL: Final = 0.05  # seconds between two attempts of the first waiter; the others try less often
ROOMS: Final = 5  # places that one request may have made for it before it waits or fails
# seconds to wait until another process has started the stack of the same name; longer than any start
STARTING: Final = 120.0
FRESH: Final = 0.5  # seconds for which a waiter trusts what the engine said of ports and networks in use


class Waiting:
    """
    Asks for places in one lease book.

    Args:
        store: The book's file.
        steady: Seconds since the host was started.
        sleep: Waits that many seconds.
    """

    def __init__(self, store: Store, *, steady: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._store = store
        self._steady = steady
        self._sleep = sleep

    def attend(
        self,
        request: Request,
        draft: Draft,
        strangers: Callable[[], Strangers | None] | None,
        wait: float,
        make_room: Callable[[], bool] | None = None,
    ) -> Lease:
        """
        Ask until the request is answered or *wait* seconds have passed; then leave the queue.

        Args:
            request: What is asked.
            draft: The files of a new lease.
            strangers: Looks at the ports and networks an engine has that the kernel does not show; is called again
                while this waits, because a place becomes free when its stack has gone from the engine.
            wait: Seconds.
            make_room: As for `LeaseBook.acquire`.

        Raises:
            PoolExhaustedError: If no place or no memory was free at the end.
            BookError: If the book cannot be used.
        """
        end = self._steady() + wait
        patience = self._steady() + STARTING
        rooms = ROOMS if make_room else 0
        ticket: int | None = None
        looked = -math.inf
        seen: Strangers | None = None
        try:
            while True:
                if strangers and self._steady() >= looked + FRESH:
                    seen, looked = strangers(), self._steady()
                ticket, ahead, answer = self.ask(request, draft, seen, ticket, queued=bool(wait or rooms or ticket))
                if isinstance(answer, Lease):
                    return answer
                if isinstance(answer, StillStartingError):
                    end = max(end, patience)
                elif make_room and rooms:
                    rooms, looked = rooms - 1 if make_room() else 0, -math.inf
                    continue
                if self._steady() >= end:
                    raise answer
                self._sleep(min(POLL * (1 + ahead), 10 * POLL, max(end - self._steady(), 0.0)))
        finally:
            if ticket is not None:
                number = ticket
                self._store.run(lambda db: queue.leave(db, number))

    def ask(
        self, request: Request, draft: Draft, strangers: Strangers | None, ticket: int | None, *, queued: bool
    ) -> tuple[int | None, int, Lease | PoolExhaustedError]:
        """Ask once; return the ticket in the queue, how many are ahead, and the lease or why there is none."""
        ground = survey(strangers)

        def work(db: Transaction) -> tuple[int | None, int, Lease | PoolExhaustedError]:
            ahead = queue.ahead(db, request.wanted, ticket)
            try:
                return ticket, ahead, request.answer(db, draft, ground, db.moment.wall, ahead)
            except PoolExhaustedError as error:
                return queue.join(db, request.wanted, ticket) if queued else None, ahead, error

        return self._store.run(work)


def survey(strangers: Strangers | None) -> Ground:
    """Look at what is in use on this host, and at what *strangers* adds."""
    return Ground.survey(strangers.ports, strangers.subnets) if strangers else Ground.survey()
