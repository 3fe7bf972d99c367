"""
One process of a comparison: takes ports in one of several ways, prints them, and holds them until its input ends.

Each process is a small program of its own that imports only what its way needs. stackyard is imported only where it
itself is the contender.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import socket
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_PORT = 9500
# a library: its module, and what gives a port
LIBRARIES = {
    "portpicker": ("portpicker", "pick_unused_port"), "port-for": ("port_for", "select_random"),
    "ephemeral-port-reserve": ("ephemeral_port_reserve", "reserve"),
}  # fmt: skip


def bind_zero(count: int, _folder: Path) -> list[int]:
    """Ask the kernel for free ports, and close them again for the services to come."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def json_file(count: int, folder: Path) -> list[int]:
    """Keep what is taken in a JSON file, as scripts do: read, choose, write, no lock."""
    file = folder / "ports.json"
    try:
        taken = set(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        taken = set()
    first = next(port for port in range(FIRST_PORT, 65536, count) if port not in taken)
    mine = list(range(first, first + count))
    file.write_text(json.dumps(sorted(taken | set(mine))), encoding="utf-8")
    return mine


def with_library(module: str, pick: str, count: int, _folder: Path) -> list[int]:
    """Ask a library for one port after another; of portpicker, without its port server."""
    library = importlib.import_module(module)
    return [int(getattr(library, pick)()) for _ in range(count)]


def with_stackyard(_count: int, _folder: Path) -> list[int]:
    """Lease a block of ten ports."""
    from stackyard.leases import LeaseBook
    from stackyard.project.environments import Environment
    from stackyard.settings import Settings

    lease = LeaseBook(Settings.load()).acquire(Environment.load("test"), force=True)
    return [*lease.ports.values(), *lease.spare]


CONTENDERS: dict[str, Callable[[int, Path], list[int]]] = {
    "stackyard": with_stackyard,
    "bind(0)": bind_zero,
    "JSON file": json_file,
    **{name: partial(with_library, *words) for name, words in LIBRARIES.items()},
}
MODULES = {name: module for name, (module, _) in LIBRARIES.items()} | {"stackyard": "stackyard.leases.book"}


def main(arguments: list[str]) -> None:
    """Take the ports when the gate opens: NAME GATE COUNT FOLDER."""
    name, gate, count, folder = arguments
    if name in MODULES:
        importlib.import_module(MODULES[name])
    print("ready", flush=True)  # noqa: T201 - for the process that compares
    with Path(gate).open(encoding="ascii") as opened:
        fcntl.flock(opened, fcntl.LOCK_SH)
    answer: Any = CONTENDERS[name](int(count), Path(folder))
    print(json.dumps(answer), flush=True)  # noqa: T201 - as above
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1:])
