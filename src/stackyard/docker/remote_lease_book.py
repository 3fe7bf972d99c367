"""
The lease book of an engine on another host, which several machines may use at the same time.

Each machine keeps a book of its own leases there, in a folder of its state directory. What the machines share is kept
on the engine (`remote_claims`): a lease is granted when its ports and subnets are claimed there. If another machine has
claimed one of them first, the lease gets another place.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from stackyard.docker import remote_claims
from stackyard.docker.in_use import Taken, strangers
from stackyard.errors import PoolExhaustedError, StackyardError
from stackyard.leases import Lease, LeaseBook
from stackyard.leases.grants.host_ports import Ground

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stackyard.docker import Engine
    from stackyard.leases import Strangers, Survivor
    from stackyard.settings import Settings

FOLDER: Final = "engines"  # in the state directory
UNTENDED: Final = 900.0  # seconds that the claims of a running process last after it was killed
BEAT: Final = 300.0  # seconds between two renewals by a running process
ROUNDS: Final = 100  # places of which another machine has taken each before this gives up


def settings_of(settings: Settings, engine: Engine) -> Settings:
    """Return the settings of the book of *engine*: a folder of its own, and no background process."""
    name = hashlib.sha256(engine.endpoint.url.encode()).hexdigest()[:12]
    own = settings.state_dir
    folder = own if (own.parent.name, own.name) == (FOLDER, name) else own / FOLDER / name
    return replace(settings, state_dir=folder, reaper="off")


class SharedBook(LeaseBook):
    """
    The leases of one user on an engine elsewhere.

    Args:
        settings: As `settings_of` returns them.
        survivors: As for `LeaseBook`.
        engine: The engine.
    """

    def __init__(self, settings: Settings, survivors: Callable[[], Iterable[Survivor]] | None, engine: Engine) -> None:
        super().__init__(settings, survivors)
        self._engine = engine
        self._beats: dict[str, threading.Event] = {}

    def acquire(self, environment: Any, **options: Any) -> Lease:
        """
        Grant a lease whose ports and subnets no other machine has; arguments and errors are those of `LeaseBook`.

        Raises:
            EngineError: If the engine does not answer; nothing is leased then.
        """
        for _ in range(ROUNDS):
            lease = super().acquire(environment, **{**options, "strangers": self._seen})
            if lease.reused and remote_claims.Ledger.read(self._engine).of(self.host, lease.id):
                return lease
            try:
                remote_claims.take(self._engine, self.host, lease, self._term(lease))
            except remote_claims.ClaimedError:
                super().release(lease)
                continue
            except BaseException:
                super().release(lease)
                raise
            if lease.owner.kind == "process":
                self._tend(lease)
            return lease
        raise PoolExhaustedError(
            f"other machines took {ROUNDS} places of {self._engine.endpoint.where} first; try again, or set "
            "STACKYARD_POOL to other ports on each machine"
        )

    def renew(self, identifier: str, ttl: float, *, detach: bool = False) -> Lease:
        """
        Let the lease and its claims end *ttl* seconds from now; arguments and errors are those of `LeaseBook`.

        Raises:
            EngineError: If the engine does not answer; the book has the new time then, its claims have the old one.
        """
        lease = super().renew(identifier, ttl, detach=detach)
        if detach:
            self._leave(lease.id)
        remote_claims.extend(self._engine, self.host, lease, ttl)
        return lease

    def release(self, lease: Lease | str) -> bool:
        """
        Give the claims back and end the lease.

        Raises:
            EngineError: If the engine does not answer; the lease is kept then.
        """
        identifier = self.find(lease).id if isinstance(lease, str) else lease.id
        self._leave(identifier)
        remote_claims.drop(self._engine, self.host, identifier)
        return super().release(lease)

    def _look(self, strangers: Strangers | None) -> Ground:
        return Ground.elsewhere(strangers.ports, strangers.subnets) if strangers else Ground.elsewhere()

    def _seen(self) -> Taken:
        ledger, found = remote_claims.Ledger.read(self._engine), strangers(self._engine)
        return replace(found, ports=found.ports | ledger.ports, subnets=(*found.subnets, *ledger.subnets))

    def _term(self, lease: Lease) -> float:
        if lease.owner.kind == "process":
            return UNTENDED
        return math.inf if lease.deadline is None else max(lease.deadline - self._clock(), 1.0)

    def _tend(self, lease: Lease) -> None:
        """Renew the claims of *lease* while this process runs."""
        over = self._beats[lease.id] = threading.Event()
        threading.Thread(target=self._beat, args=(lease, over), daemon=True).start()

    def _beat(self, lease: Lease, over: threading.Event) -> None:
        while not over.wait(BEAT):
            # an engine that is away now may answer before the claims end
            with contextlib.suppress(StackyardError), type(self._engine)(endpoint=self._engine.endpoint) as engine:
                remote_claims.extend(engine, self.host, lease, UNTENDED)

    def _leave(self, identifier: str) -> None:
        if over := self._beats.pop(identifier, None):
            over.set()
