"""
What a benchmark found, as records: a run on one machine holds results, each with its samples.

A figure that could not be had is None with a reason, never 0. `Run.to_json` is one line of ``reports/history.jsonl``;
docs/benchmarks.md lists the fields. Lines may come from another machine, so msgspec checks them against these records.
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import replace

from stackyard.bench.stats import interval, percentile
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION: Final = 2  # of the schema
READABLE: Final = (1, 2)  # version 1 had some sizes in MB or MiB and some times in ms
# unit of a version 1 result: its factor, the unit it is read as
FORMER: Final = {"MB": (1e6, "bytes"), "MiB": (2.0**20, "bytes"), "ms": (1e-3, "s")}
VALUES: Final = ("median", "low", "high", "p95", "p99", "target")  # fields of a result in its unit
COMMIT: Final = 10  # digits of a commit that are shown
DIGITS: Final = 6  # significant ones that are kept; no clock here is better

Better = Literal["less", "more"]
Judged = Literal["median", "worst"]
Verdict = Literal["PASS", "FAIL"]
Unit = Annotated[str, Meta(max_length=16)]  # the columns of figures are as wide as their units make them
Figure = int | Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]  # neither infinite nor NaN


class Result(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    One quantity of one subject.

    Attributes:
        suite: What measured it: one of the suites, such as startup or parallel.
        row: Its name within the suite, the same from run to run: what history is compared by.
        subject: Whose figure it is, in a reader's words: `stackyard`, `docker compose up --wait`, a service.
        what: The quantity, in a reader's words: `start-up`, `memory now`.
        unit: s, bytes, 1/s, x (a ratio), or nothing for a count.
        better: Whether less of it is better, or more.
        samples: Every good sample, in the order they were taken.
        failed: How often the attempt failed instead of giving a sample.
        median: Of the samples; None without any.
        low: Lower end of the median's 95 % bootstrap interval; None for fewer than five samples.
        p95: 95th percentile; None for fewer than 20 samples.
        p99: 99th percentile; None for fewer than 100 samples.
        at: Where on a curve it lies, such as the number of stacks at once; None off a curve.
        target: What it may be at most (or at least, where more is better); None where nothing is promised.
        judged: Whether the median or the worst sample is held against the target.
        verdict: PASS or FAIL against the target, any failed sample being a FAIL; None without a target or any attempt.
        reason: Why there is no figure, or what to know about it.
        command: What measures it again.
    """

    suite: str
    row: str
    subject: str
    what: str
    unit: Unit
    better: Better = "less"
    samples: tuple[Figure, ...] = ()
    failed: int = 0
    median: Figure | None = None
    low: Figure | None = None
    high: Figure | None = None
    p95: Figure | None = None
    p99: Figure | None = None
    at: Figure | None = None
    target: Figure | None = None
    judged: Judged = "median"
    verdict: Verdict | None = None
    reason: str = ""
    command: str = ""

    @classmethod
    def of(cls, samples: Sequence[float], **given: Any) -> Self:
        """Make a result of *samples* (the failed ones left out) and the given fields; the statistics are worked out."""
        keep = _whole if given.get("unit") == "bytes" else _kept
        taken = tuple(keep(sample) for sample in samples)
        if not taken:
            made = cls(**{"reason": "no sample was good", **given})
            return replace(made, verdict=made._judge())
        ordered = sorted(taken)
        low, high = map(keep, ends) if (ends := interval(taken)) else (None, None)
        made = cls(
            samples=taken, median=keep(statistics.median(ordered)), low=low, high=high,
            p95=percentile(ordered, 95), p99=percentile(ordered, 99), **given,
        )  # fmt: skip
        return replace(made, verdict=made._judge())

    @property
    def n(self) -> int:
        """How many good samples there are."""
        return len(self.samples)

    @property
    def who(self) -> str:
        """Whose figure it is, with its place on a curve: `docker compose`, `stackyard, 50 at once`."""
        if self.at is None:
            return self.subject
        if self.subject == "stacks at once":  # earlier runs, which had no other tool to compare with
            return f"{self.at:g} stack{'' if self.at == 1 else 's'} at once"
        return f"{self.subject}, {self.at:g} at once" if self.suite == "parallel" else f"{self.subject} at {self.at:g}"

    @property
    def figure(self) -> float | None:
        """The value that is held against the target: the median, or the worst sample; None without samples."""
        if not self.samples or self.judged == "median":
            return self.median
        return max(self.samples) if self.better == "less" else min(self.samples)

    def held_to(self, target: float, *, judged: Judged = "median") -> Self:
        """Return the same result with a target, and the verdict on it."""
        aimed = replace(self, target=target, judged=judged)
        return replace(aimed, verdict=aimed._judge())  # noqa: SLF001 - our own class

    def _judge(self) -> Verdict | None:
        figure = self.figure
        if self.target is None or (figure is None and not self.failed):
            return None
        if figure is None:
            return "FAIL"
        good = figure <= self.target if self.better == "less" else figure >= self.target
        return "PASS" if good and not self.failed else "FAIL"


class Step(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    One step of the start that the waterfall shows.

    Attributes:
        name: `network`, `create postgres`, `start postgres`, `ready postgres`.
        begin: When it began, in seconds since the start of the stack began.
    """

    name: str
    begin: Figure
    end: Figure


class Machine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Where a run was measured; what could not be found out is None.

    Attributes:
        cpus: Processors this process may use.
        cpu: Their name.
        system: Name of the distribution.
        engine: Version of the Docker Engine.
        load: Load average of the last minute before the run.
        pressure: Percent of the minute before the run in which something waited for a processor (the kernel's PSI).
        packet_filter: Which tables hold the engine's rules: `iptables-legacy` or `iptables-nft`.
    """

    cpus: int
    cpu: str | None
    memory_bytes: int
    kernel: str
    system: str | None
    engine: str | None
    compose: str | None
    python: str
    load: Figure
    pressure: Figure | None = None
    packet_filter: str | None = None


class Run(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    One run of one or more suites: a line of the history.

    Attributes:
        id: Its name, twelve hex digits.
        when: When it began, ISO 8601 in UTC.
        commit: The commit measured; None outside a repository.
        changed: True when the work tree differed from that commit.
        seconds: How long all of it took.
        depth: quick, default or full.
        options: Whatever else was asked for, such as environment and number of stacks.
        waterfall: The steps of one start, the one whose time was the median; empty where none was measured.
        notes: What a reader must know, such as a peer that was not there.
    """

    id: str
    when: str
    commit: str | None
    changed: bool
    release: str
    seconds: Figure
    machine: Machine
    suites: tuple[str, ...]
    depth: Literal["quick", "default", "full"]
    options: dict[str, str | Figure | bool | None] = field(default_factory=dict)
    results: tuple[Result, ...] = ()
    waterfall: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    version: int = VERSION

    @classmethod
    def read(cls, line: str) -> Self:
        """
        Read a line of the history, of this version of the schema or an earlier one.

        Raises:
            UsageError: If it is no run; the text says what is wrong, and where.
        """
        try:
            row = json.loads(line)
            if row.get("version") not in READABLE:
                raise UsageError(f"a benchmark run must be of schema version 1 or 2, got {row.get('version')!r}")
            return msgspec.convert(_renewed(row), cls)
        except (msgspec.ValidationError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise UsageError(str(error)) from None

    def to_json(self) -> dict[str, Any]:
        """Return the run as plain data."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    def find(self, suite: str, row: str) -> Result | None:
        """Return one result; None if this run did not measure it."""
        return next((result for result in self.results if (result.suite, result.row) == (suite, row)), None)

    @property
    def source(self) -> str:
        """The commit that was measured, shortened: `c0ffeec0ff`, `c0ffeec0ff with changes` or `unknown commit`."""
        return (self.commit[:COMMIT] if self.commit else "unknown commit") + (" with changes" if self.changed else "")

    @property
    def failures(self) -> list[Result]:
        """The results that missed their target."""
        return [result for result in self.results if result.verdict == "FAIL"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What one suite found; several add up."""

    results: tuple[Result, ...] = ()
    waterfall: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()

    def __add__(self, other: Findings) -> Findings:
        return Findings(
            results=self.results + other.results, waterfall=self.waterfall or other.waterfall,
            notes=(*self.notes, *(note for note in other.notes if note not in self.notes)),
        )  # fmt: skip

    def find(self, suite: str, row: str) -> Result | None:
        """Return one result; None if it was not measured."""
        return next((result for result in self.results if (result.suite, result.row) == (suite, row)), None)


def _kept(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _whole(value: float) -> int:
    return round(value)


def _renewed(row: dict[str, Any]) -> dict[str, Any]:
    """Return a run, of any version, in the units of this one."""
    machine = {**(row.get("machine") or {})}
    if "memory_mb" in machine:
        machine["memory_bytes"] = 1_000_000 * machine.pop("memory_mb")
    return {**row, "version": VERSION, "machine": machine, "results": [*map(_in_units, row.get("results", ()))]}


def _in_units(row: dict[str, Any]) -> dict[str, Any]:
    factor, name = FORMER.get(row["unit"], (None, ""))
    if factor is None:
        return row
    keep = _whole if name == "bytes" else _kept
    values = {key: keep(factor * row[key]) for key in VALUES if row.get(key) is not None}
    return {**row, **values, "unit": name, "samples": [keep(factor * sample) for sample in row["samples"]]}
