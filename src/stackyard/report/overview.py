"""What a reader wants to know first: start-up time against the alternatives, copies at once, and leftovers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stackyard._util.tables import format_count
from stackyard.report.wording import quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from stackyard.bench.records import Result
    from stackyard.report.inputs import Facts

OWN: Final = "stackyard"
# rows to be compared with, by suite: the first of each name that was measured
PEERS: Final = {
    "startup": {
        "docker compose": ("compose-100ms", "compose"),
        "testcontainers": ("testcontainers-compose", "testcontainers"),
    },
    "cleanup": {
        "docker compose": ("compose", "compose-100ms"),
        "testcontainers": ("testcontainers-compose", "testcontainers"),
    },
}
# suite and row: what its figure counts, the best first
MEMORY: Final = {
    ("footprint", "footprint"): "of the host, for one more stack",
    ("services", "stack-memory"): "all services together, when ready",
}
EVEN: Final = 1.05  # two times that differ by less are called the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One answer: a figure, what it answers, what to compare it with, and the part of the page that has all figures."""

    figure: str
    label: str
    note: str
    anchor: str
    good: bool = True


def tiles(facts: Facts) -> list[Tile]:
    """Return the answers that the newest runs give; those that were not measured are missing."""
    return [
        *_raced(facts, "startup", "until a stack is ready"), *_raced(facts, "cleanup", "until it is gone"),
        *_typed(facts), *_crowd(facts), *_left(facts), *_memory(facts),
    ]  # fmt: skip


def _raced(facts: Facts, suite: str, label: str) -> Iterator[Tile]:
    rows = {row.row: row for row in facts.results(suite)}
    peers = {
        name: next((rows[kind] for kind in kinds if kind in rows and rows[kind].median), None)
        for name, kinds in PEERS[suite].items()
    }
    yield from _beside(rows.get(OWN), peers, label, suite)


def _typed(facts: Facts) -> Iterator[Tile]:
    """Yield what a person waits for who types a command."""
    rows = {row.row: row for row in facts.results("commands")}
    own, peer = rows.get("env-up"), rows.get("compose-up")
    if own and peer and peer.median:
        yield from _beside(own, {peer.subject: peer}, f"{own.subject}, the whole command", "commands")


def _beside(own: Result | None, peers: Mapping[str, Result | None], label: str, anchor: str) -> Iterator[Tile]:
    if own is None or not own.median:
        return
    notes = [f"{compared(own.median, peer.median)} {name}" for name, peer in peers.items() if peer and peer.median]
    yield Tile(
        figure=quantity(own.median, own.unit), label=label, note=" and ".join(notes), anchor=anchor,
        good=not any("times as long" in note for note in notes),
    )  # fmt: skip


def compared(own: float, peer: float) -> str:
    """Say how much quicker or slower than a peer something is; the peer's name goes after it."""
    if peer / own >= EVEN:
        return f"{peer / own:.1f} times as fast as"
    return f"{own / peer:.1f} times as long as" if own / peer >= EVEN else "as fast as"


def _crowd(facts: Facts) -> Iterator[Tile]:
    rows = _largest(facts.results("parallel"))
    ready, failed = rows.get("wall-up"), rows.get("failed")
    if ready is None or ready.at is None:
        return
    bad = int(failed.median or 0) if failed else 0
    failures = format_count(bad, "stack") + " failed" if bad else "none failed"
    yield Tile(
        figure=f"{ready.at:g} at once", label=f"all ready after {quantity(ready.median, ready.unit)}", note=failures,
        anchor="parallel", good=not bad,
    )  # fmt: skip


def _largest(results: Iterable[Result]) -> dict[str, Result]:
    """Return the rows of the largest crowd by their names without its size."""
    sized = [row for row in results if row.at is not None]
    most = max((row.at or 0.0 for row in sized), default=0.0)
    return {row.row.rpartition("-")[0]: row for row in sized if row.at == most}


def _left(facts: Facts) -> Iterator[Tile]:
    found = next((row for row, _ in facts.requirements() if row.row == "left" and row.figure is not None), None)
    if found is None or found.figure is None:
        return
    count = int(found.figure)
    yield Tile(
        figure="nothing" if count == 0 else format_count(count, "thing"), label="left behind",
        note="containers, networks, volumes, ports, leases", anchor="requirements", good=count == 0,
    )  # fmt: skip


def _memory(facts: Facts) -> Iterator[Tile]:
    rows = {(row.suite, row.row): row for suite in ("footprint", "services") for row in facts.results(suite)}
    for key, note in MEMORY.items():
        row = rows.get(key)
        if row is not None and row.median is not None:
            yield Tile(figure=quantity(row.median, row.unit), label="memory of a stack", note=note, anchor=key[0])
            return
