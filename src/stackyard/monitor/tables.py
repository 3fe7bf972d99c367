"""A snapshot for people: rows of text, and the coloured table of the live view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from stackyard.monitor.records import Service, Snapshot

HEAD: Final = ("stack", "service", "status", "health", "CPU %", "MiB", "peak", "pids", "restarts", "OOM")
NUMBERS: Final = frozenset(HEAD[4:])
NEAR_LIMIT: Final = 90.0  # percent of a limit, as in monitoring/alerts.yml
MIB: Final = 2**20


def rows(snapshot: Snapshot) -> list[list[str]]:
    """Return a row of `HEAD`'s columns for each service, memory as used/limit; what cannot be told is a dash."""
    return [_row(each) for each in snapshot.services]


def _row(each: Service) -> list[str]:
    start = [each.name or each.lease, each.service]
    if each.seen is None:
        return [*start, "missing", *"-" * (len(HEAD) - 3)]
    state, usage = each.seen.state, each.seen.usage
    status = f"{state.status} ({state.exit_code})" if state.ended else state.status
    oom = usage.oom_kills if usage else int(state.oom_killed)
    if usage is None:
        return [*start, status, state.health, *"-" * 4, str(state.restarts), str(oom)]
    return [
        *start, status, state.health, _figure(each.cpu_percent),
        f"{usage.memory / MIB:.1f}/{usage.memory_limit / MIB:.0f}",
        _figure(None if usage.memory_peak is None else usage.memory_peak / MIB),
        str(usage.pids) if usage.pids_limit is None else f"{usage.pids}/{usage.pids_limit}",
        str(state.restarts), str(oom),
    ]  # fmt: skip


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def memory_percent(each: Service) -> float:
    """Return the share of its memory limit a service uses, in percent; 0 while it does not run."""
    usage = each.seen.usage if each.seen else None
    return 100 * usage.memory / usage.memory_limit if usage and usage.memory_limit else 0.0


def live(snapshot: Snapshot | None, note: str = "") -> Table:
    """
    Return the table of the live view: red is down or unhealthy, yellow near its memory limit or not yet well.

    Args:
        snapshot: What was seen last; None before the first look.
        note: A line below the table, such as why there is nothing new.
    """
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - only a live view needs it
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    # 80 columns hold it all
    table = Table(caption=Text(note) if note else None, caption_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.show_edge = False
    for name in HEAD:
        table.add_column(name, justify="right" if name in NUMBERS else "left", no_wrap=name != "stack")
    services: Sequence[Service] = snapshot.services if snapshot else ()
    for each in services:
        table.add_row(*map(Text, _row(each)), style=_style(each))
    return table


def _style(each: Service) -> str:
    if not each.up:
        return "red"
    starting = each.seen is not None and each.seen.state.health == "starting"
    return "yellow" if starting or memory_percent(each) >= NEAR_LIMIT else ""
