"""
Which slot and subnet a new lease gets.

Free slots are tried in the order of their release, so that a port stays unused as long as possible. A slot whose ports
another program uses is skipped. A slot's subnet is the one with the slot's number; if a route or another network
overlaps it, the next free one.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, NamedTuple

from stackyard.errors import PoolExhaustedError, SubnetsExhaustedError
from stackyard.leases.database import column_rules
from stackyard.leases.grants.host_ports import span
from stackyard.settings import SUBNET_PREFIX

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence

    from stackyard.leases.database.store import Transaction
    from stackyard.leases.grants.host_ports import Ground, Span
    from stackyard.leases.needs import Needs
    from stackyard.settings import Settings


class Place(NamedTuple):
    """
    The place that a lease gets.

    Attributes:
        slot: Number of the slot in the pool; None on a fixed block.
        ports: Host port of each service.
        spare: The block's other ports.
        subnet: IPv4 network.
    """

    slot: int | None
    ports: Mapping[str, int]
    spare: tuple[int, ...]
    subnet: str


@dataclass(slots=True, kw_only=True)
class Search:
    """
    One search of the pool.

    Attributes:
        db: The open book.
        settings: Pools, block size and subnets.
        ground: What the host uses now.
        now: Seconds since 1970.
        busy: Slots skipped because another program or network uses them.
        resting: Slots skipped because they stay unused for a while.
    """

    db: Transaction
    settings: Settings
    ground: Ground
    now: float
    busy: int = 0
    resting: int = 0

    def place(self, needs: Needs, leave: int = 0, *, scattered: bool = False) -> Place:
        """
        Return the first free slot with free subnets, but leave the first *leave* free slots to others.

        Args:
            needs: What the stack needs; it gets as many slots in a row as hold its ports.
            leave: Free slots to skip.
            scattered: Take any of the others, because another book of this host takes the first one, too.

        Raises:
            PoolExhaustedError: If there is no free slot or no free subnet.
        """
        length, names = needs.blocks(self.settings.block), needs.ports
        if found := list(itertools.islice(self._free(length), leave, None if scattered else leave + 1)):
            number, block = random.choice(found)  # noqa: S311 - no secret
            return Place(
                slot=number, ports=dict(zip(names, block, strict=False)), spare=tuple(block[len(names) :]),
                subnet=self._subnets_of(number, needs.prefixes),
            )  # fmt: skip
        raise PoolExhaustedError(f"no free slot of {self.settings.block * length} ports in {self.settings.pool_text}")

    def _free(self, length: int) -> Iterator[tuple[int, range]]:
        """Return the slots whose ports nothing uses, and count the others."""
        for number, block in self._runs(length):
            if self._is_ours(block) and self.ground.is_free(block):
                yield number, block
            else:
                self.busy += 1

    def _runs(self, length: int) -> Iterator[tuple[int, range]]:
        """Return the slots that are not leased, each with the *length* - 1 that follow it as one block."""
        if length == 1:
            yield from self._slots()
            return
        found, size = dict(self._slots()), self.settings.block
        for number, block in found.items():
            last = found.get(number + length - 1)
            whole = range(block.start, block.start + length * size)
            if last is not None and last.stop == whole.stop and all(number + step in found for step in range(length)):
                yield number, whole

    def unclaimed(self) -> Iterator[range]:
        """Return the ports of each slot without a lease; other programs may use them."""
        return (block for _, block in self._slots() if self._is_ours(block))

    def networks(self, enough: int) -> int:
        """Return how many subnets are free, at most *enough*."""
        claimed = {value for (value,) in self.db.execute("SELECT value FROM claims WHERE kind='subnet'")}
        free = (text for text in self._subnets(0) if text not in claimed)
        return sum(1 for _ in itertools.islice(free, enough))

    def _is_ours(self, block: range) -> bool:
        return not self.ground.is_reserved(block) and not self._is_claimed(block)

    def _slots(self) -> Iterator[tuple[int, range]]:
        pool = pool_key(self.settings)
        enter_pool(self.db, self.settings)
        found = self.db.execute(
            "SELECT port, rests_until FROM slots WHERE pool=? AND idle IS NOT NULL ORDER BY idle, port", (pool,)
        )
        for port, rests_until in found:
            column_rules.check("slots", (pool, port, 0, rests_until))
            if not self.db.moment.is_past(rests_until):
                self.resting += 1
                continue
            number = slot_number(self.settings, port)
            if number is not None:
                yield number, range(port, port + self.settings.block)

    def _is_claimed(self, block: range) -> bool:
        """Say whether a fixed block, or a slot of another pool or block size, already has one of these ports."""
        marks = ",".join("?" * len(block))
        query = f"SELECT 1 FROM claims WHERE kind='port' AND value IN ({marks}) LIMIT 1"  # noqa: S608 - only "?" marks
        return self.db.execute(query, [str(port) for port in block]).fetchone() is not None

    def _subnets_of(self, slot: int, prefixes: Sequence[int]) -> str:
        return self._subnet(slot) if prefixes == (SUBNET_PREFIX,) else self._some_subnets(slot, prefixes)

    def _some_subnets(self, slot: int, prefixes: Sequence[int]) -> str:
        """Return a free subnet of each length, with commas; those of the usual size begin with the slot's own."""
        claimed = self._claimed_subnets("1")
        found: dict[int, str] = {}
        # the large ones first: a small one finds room in many places
        for index in sorted(range(len(prefixes)), key=lambda index: prefixes[index]):
            found[index] = self._sized_subnet(slot, prefixes[index], claimed)
            claimed.append(span(IPv4Network(found[index])))
        return ",".join(found[index] for index in range(len(prefixes)))

    def _sized_subnet(self, slot: int, prefix: int, claimed: Sequence[Span]) -> str:
        first, last = span(self.settings.subnets)
        size = 1 << (32 - prefix)
        count = (last - first + 1) // size
        for step in range(count):
            start = first + (slot + step) % count * size
            whole = (start, start + size - 1)
            if not _overlap(whole, claimed) and not self.ground.overlaps(whole):
                return str(IPv4Network((start, prefix)))
        raise SubnetsExhaustedError(
            f"no free /{prefix} in {self.settings.subnets}: each is leased, or overlaps a route, a name server or "
            "another Docker network"
        )

    def _claimed_subnets(self, which: str) -> list[Span]:
        rows = self.db.execute(f"SELECT value FROM claims WHERE kind='subnet' AND {which}")  # noqa: S608 - constants
        return [span(IPv4Network(text)) for (text,) in rows]

    def _subnet(self, slot: int) -> str:
        for text in self._subnets(slot):
            if self.db.execute("SELECT 1 FROM claims WHERE kind='subnet' AND value=?", (text,)).fetchone() is None:
                return text
        raise SubnetsExhaustedError(
            f"no free /{SUBNET_PREFIX} in {self.settings.subnets}: all {self._count()} are leased, or overlap a route, "
            "a name server or another Docker network"
        )

    def _count(self) -> int:
        return 1 << (SUBNET_PREFIX - self.settings.subnets.prefixlen)

    def _subnets(self, slot: int) -> Iterator[str]:
        """Return the subnets that only the book may use, beginning with the slot's own."""
        first, _ = span(self.settings.subnets)
        size, count = 1 << (32 - SUBNET_PREFIX), self._count()
        odd = self._claimed_subnets(f"value NOT LIKE '%/{SUBNET_PREFIX}'")  # the others have another text, or the same
        for step in range(count):
            start = first + (slot + step) % count * size
            whole = (start, start + size - 1)
            if not _overlap(whole, odd) and not self.ground.overlaps(whole):
                yield str(IPv4Network((start, SUBNET_PREFIX)))


def _overlap(whole: Span, others: Sequence[Span]) -> bool:
    return any(low <= whole[1] and whole[0] <= high for low, high in others)


def blocks(settings: Settings) -> Iterator[range]:
    """Return the ports of each slot, by slot number."""
    for pool in settings.pools:
        for start in range(pool.start, pool.stop - settings.block + 1, settings.block):
            yield range(start, start + settings.block)


def slot_number(settings: Settings, port: int) -> int | None:
    """Return the number of the slot whose first port is *port*; None if there is none."""
    before = 0
    for pool in settings.pools:
        number, rest = divmod(port - pool.start, settings.block)
        if not rest and 0 <= number < len(pool) // settings.block:
            return before + number
        before += len(pool) // settings.block
    return None


def pool_key(settings: Settings) -> str:
    """Return the name under which the book keeps this pool's slots."""
    return f"{settings.pool_text}/{settings.block}"


def enter_pool(db: sqlite3.Connection, settings: Settings) -> None:
    """Write the slots of a pool that is new to the book."""
    pool = pool_key(settings)
    if db.execute("SELECT 1 FROM slots WHERE pool=? LIMIT 1", (pool,)).fetchone() is None:
        rows = ((pool, block.start) for block in blocks(settings))
        db.executemany("INSERT INTO slots (pool, port, idle) VALUES (?, ?, 0)", rows)
