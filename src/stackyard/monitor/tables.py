"""A snapshot for people: a table for each stack, as text or in colours, in 80 columns."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from stackyard._util.tables import NOTHING, format_bound, format_size, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Group
    from rich.table import Table

    from stackyard.monitor.records import Service, Snapshot

# each column's head, and the characters it has at least: so the tables of all stacks line up
COLUMNS: Final = {
    "service": 10, "state": 12, "CPU": 6, "memory": 15, "peak": 8, "pids": 6, "restarts": 8, "OOM": 3,
}  # fmt: skip
NUMBERS: Final = frozenset(list(COLUMNS)[2:])
NEAR_LIMIT: Final = 90.0  # percent of a limit, as in monitoring/alerts.yml


def stacks(snapshot: Snapshot) -> Iterator[tuple[str, list[Service]]]:
    """Yield each stack's title, `test: mine (81d614fa)`, and its services."""
    for (environment, lease), services in itertools.groupby(
        snapshot.services, lambda each: (each.environment, each.lease)
    ):
        found = list(services)
        name = found[0].name
        yield f"{environment}: {f'{name} ({lease})' if name else lease}", found


def row(each: Service) -> list[str]:
    """Return a service's cells, one for each of `COLUMNS`; a dash means an unknown figure."""
    if each.seen is None:
        return [each.service, "missing", *[NOTHING] * (len(COLUMNS) - 2)]
    state, usage = each.seen.state, each.seen.usage
    oom = usage.oom_kills if usage else int(state.oom_killed)
    uses = [NOTHING] * 4 if usage is None else [
        NOTHING if each.cpu_percent is None else f"{each.cpu_percent:.1f}%", _memory(usage.memory, usage.memory_limit),
        NOTHING if usage.memory_peak is None else format_size(usage.memory_peak),
        str(usage.pids) if usage.pids_limit is None else f"{usage.pids}/{usage.pids_limit}",
    ]  # fmt: skip
    return [each.service, _state(each), *uses, str(state.restarts), str(oom)]


def _state(each: Service) -> str:
    """Return what a reader wants to know first: the health while it runs and is checked, else the status."""
    if each.seen is None:
        return "missing"
    state = each.seen.state
    if state.ended:
        return f"{state.status} ({state.exit_code})"
    return state.health if state.status == "running" and state.health != "none" else state.status


def _memory(used: int, limit: int) -> str:
    return f"{format_size(used).removesuffix(' MiB')} of {format_bound(limit, 'bytes')}"


def text(snapshot: Snapshot) -> str:
    """Return a titled table for each stack."""
    sides = ["right" if name in NUMBERS else "left" for name in COLUMNS]
    parts = [f"{title}\n{table([*map(row, found)], [*COLUMNS], align=sides)}" for title, found in stacks(snapshot)]
    return "\n\n".join(parts)


def memory_percent(each: Service) -> float:
    """Return the share of its memory limit a service uses, in percent; 0 while it does not run."""
    usage = each.seen.usage if each.seen else None
    return 100 * usage.memory / usage.memory_limit if usage and usage.memory_limit else 0.0


def live(snapshot: Snapshot | None, note: str = "") -> Group:
    """
    Return the live view: red is down or unhealthy, yellow is near its memory limit or still starting.

    Before the first look there is no snapshot; *note* is a line below, such as why there is nothing new.
    """
    from rich.console import Group
    from rich.text import Text

    tables = [_coloured(title, found) for title, found in stacks(snapshot)] if snapshot else []
    return Group(*tables, *([Text(note)] if note else []))


def _coloured(title: str, services: list[Service]) -> Table:
    from rich.table import Table
    from rich.text import Text

    made = Table(title=Text(title, style="bold"), title_justify="left", box=None, padding=(0, 1, 0, 0))
    for name, width in COLUMNS.items():
        made.add_column(name, justify="right" if name in NUMBERS else "left", no_wrap=True, min_width=width)
    for each in services:
        made.add_row(*map(Text, row(each)), style=_style(each))
    return made


def _style(each: Service) -> str:
    if not each.up:
        return "red"
    starting = each.seen is not None and each.seen.state.health == "starting"
    return "yellow" if starting or memory_percent(each) >= NEAR_LIMIT else ""
