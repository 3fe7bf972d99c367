"""What a run is measured on, and of which commit: figures mean nothing without it."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stackyard._util import process
from stackyard.bench.records import Machine
from stackyard.errors import CommandError, EngineError
from stackyard.host import iptables
from stackyard.host.machine import Machine as Host
from stackyard.project.environments import project_root

if TYPE_CHECKING:
    from collections.abc import Sequence

ASKING: Final = 10.0  # seconds any of these programs may take
OURS: Final = ("docs/completion_report.md",)  # tracked files that a measurement itself may write


def describe() -> Machine:
    """Return this machine and the versions of what runs on it."""
    import psutil

    return Machine(
        cpus=len(os.sched_getaffinity(0)), cpu=_cpu(), memory_bytes=psutil.virtual_memory().total,
        kernel=platform.release(), system=Host().distribution.title or None, engine=_engine(),
        compose=_said(["docker", "compose", "version", "--short"]), python=platform.python_version(),
        load=round(os.getloadavg()[0], 2), pressure=_pressure(), packet_filter=iptables.engines(Host()),
    )  # fmt: skip


def _cpu(info: Path = Path("/proc/cpuinfo")) -> str | None:
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else None


def _pressure(file: Path = Path("/proc/pressure/cpu")) -> float | None:
    try:
        found = re.search(r"^some .*avg60=([0-9.]+)", file.read_text(encoding="ascii"))
    except OSError:
        return None
    return float(found[1]) if found else None


def _engine() -> str | None:
    from stackyard.docker import Engine

    try:
        with Engine(deadline=ASKING) as engine:
            return engine.version()
    except EngineError:
        return None


def commit(name: str = "HEAD") -> str | None:
    """Return the full id of the project's commit *name*; None if git knows none."""
    return _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")


def changed() -> bool:
    """Tell whether the work tree differs from its commit, our own reports apart; unknown counts as changed."""
    return (
        _git("status", "--porcelain", "--untracked-files=no", "--", ":/", *(f":(top,exclude){it}" for it in OURS)) != ""
    )


def _git(*words: str) -> str | None:
    return _said(["git", "-C", str(project_root()), *words])


def _said(words: Sequence[str]) -> str | None:
    """Return what a program says; None if it is not there or fails."""
    try:
        return process.run(words, deadline=ASKING).stdout.strip()
    except CommandError:
        return None
