"""What keeps the lease of a copy on a Swarm for as long as its process runs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from stackyard.errors import EngineError, StackyardError
from stackyard.sites.swarm.leases import WITHOUT_OWNER

if TYPE_CHECKING:
    from stackyard.sites.swarm.leases import Lease, Leases


class Keeper:
    """Renews the lease of a process until it is stopped; a lease that ended for others is not renewed."""

    def __init__(self, leases: Leases, lease: Lease) -> None:
        self._leases, self._lease, self._stopped = leases, lease, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(WITHOUT_OWNER / 4):
            try:
                self._leases.renew(self._lease, WITHOUT_OWNER)
            except EngineError:
                continue  # the next try may reach the manager
            except StackyardError:
                return  # the lease is gone, or another's

    def stop(self) -> None:
        """Renew no longer."""
        self._stopped.set()
        self._thread.join()
