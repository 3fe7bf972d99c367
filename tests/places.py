"""What stacks of a test process need: patience, and ports and subnets that no other worker of pytest-xdist has."""

from __future__ import annotations

import os
from typing import Final

# for an engine that does much else; tests of an engine that hangs say how long
PATIENT: Final = {"STACKYARD_ENGINE_TIMEOUT": "200s"}


def own(port: int, network: int) -> dict[str, str]:
    """
    Return the settings of this worker; nothing without pytest-xdist, where there is one book.

    Args:
        port: Where the first worker's 500 ports begin.
        network: Second number of the first worker's subnets.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if not worker:
        return {}
    number = int(worker.removeprefix("gw"))
    first = port + 500 * number
    return {"STACKYARD_POOL": f"{first}-{first + 499}", "STACKYARD_POOL_SUBNETS": f"10.{network + number}.0.0/17"}
