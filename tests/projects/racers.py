"""
Processes of one machine that ask for places on an engine, all at once: `python racers.py STATE COUNT`.

Each prints the lease that it got, and keeps it until it is killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import psutil

from stackyard.docker import Engine
from stackyard.docker.lease_book import open_book
from stackyard.errors import StackyardError
from stackyard.leases.needs import Needs
from stackyard.settings import Settings
from stackyard.stacks.copies.leased_project import CopiedProject

ORIGIN = CopiedProject(name="shop-123456", root=Path("/"))
NEEDS = Needs(ports=("web_80_tcp", "db_5432_tcp"))


def race(state: str) -> None:
    with Engine() as engine:
        book = open_book(Settings.load({**os.environ, "STACKYARD_STATE_DIR": state}), engine)
        try:
            lease = book.acquire(ORIGIN, needs=NEEDS)
        except StackyardError as error:
            os.write(1, f"{json.dumps({'error': str(error)})}\n".encode())
            return
        said = {
            "pid": os.getpid(), "id": lease.id, "project": lease.project, "ports": [*lease.ports.values()],
            "subnets": lease.subnets, "network": network(),
        }  # fmt: skip
        os.write(1, f"{json.dumps(said)}\n".encode())
        signal.pause()


def network() -> str:
    """Return the address of this machine's only card beside the loopback: it tells in which network it is."""
    (found,) = (cards[0].address for name, cards in psutil.net_if_addrs().items() if name != "lo")
    return found


if __name__ == "__main__":
    for _ in range(int(sys.argv[2])):
        if not os.fork():
            race(sys.argv[1])
            sys.exit()
    signal.pause()
