"""What a run took against its budget: one table for people, one JSON file for machines, written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """
    One measured value beside its budget.

    Attributes:
        what: What was measured.
        value: The figure; None when it could not be measured.
        unit: s or MiB.
        budget: What it may be at most; None where nothing is promised.
    """

    what: str
    value: float | None
    unit: str
    budget: float | None = None

    @property
    def verdict(self) -> str:
        """Return ok, OVER, or nothing where there is no budget or no figure."""
        if self.budget is None or self.value is None:
            return ""
        return "ok" if self.value <= self.budget else "OVER"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """
    One finished run.

    Attributes:
        environment: Its environment.
        lease: Its lease's id.
        project: Compose project name.
        outcome: passed, failed, timed out or interrupted.
        exit_code: Of the payload.
        seconds: Wall time of the whole run.
        notes: What the user should know, for example that the run moved to the pool.
        rows: The measured values.
        leftovers: What could not be removed; empty when nothing is left.
        degraded: Services that did not run, or not well, when the payload ended.
    """

    environment: str
    lease: str
    project: str
    outcome: str
    exit_code: int
    seconds: float
    notes: Sequence[str] = ()
    rows: Sequence[Row] = ()
    leftovers: Sequence[str] = ()
    degraded: Sequence[str] = ()

    def table(self) -> str:
        """Return the table a terminal shows."""
        body = [
            [row.what, _figure(row.value), row.unit, _figure(row.budget) if row.budget is not None else "", row.verdict]
            for row in self.rows
        ]
        return table(
            body, ["measured", "value", "unit", "budget", ""], align=("left", "right", "left", "right", "left")
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data, with a verdict on each row."""
        return asdict(self) | {"rows": [asdict(row) | {"verdict": row.verdict} for row in self.rows]}


def _figure(value: float | None) -> str:
    if value is None:
        return "unavailable"
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"  # noqa: PLR2004 - three digits say enough


def memory_rows(used: Mapping[str, int | None], budget_mb: int) -> list[Row]:
    """Return a row for each service's bytes and one for their sum against *budget_mb*."""
    rows = [
        Row(what=f"memory {service}", value=None if size is None else size / MEBIBYTE, unit="MiB")
        for service, size in used.items()
    ]
    known = [size for size in used.values() if size is not None]
    total = sum(known) / MEBIBYTE if len(known) == len(used) and known else None
    return [*rows, Row(what="memory of the stack", value=total, unit="MiB", budget=budget_mb)]


def table(rows: Sequence[Sequence[Any]], headers: Sequence[str], *, align: Sequence[str] | None = None) -> str:
    """Return *rows* as an aligned text table."""
    from tabulate import tabulate  # noqa: PLC0415 - 50 ms that --json does not need

    return tabulate(rows, headers=headers, tablefmt="simple", colalign=align if rows else None, disable_numparse=True)


def write_json(path: Path, content: Any) -> None:
    """
    Write *content* to *path* as JSON, as `write_text` does.

    Raises:
        OSError: If the folder cannot be written.
    """
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """
    Write *text* to *path* so that a reader finds the old file or the new one, never half of one.

    Raises:
        OSError: If the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - takes the plain name mkstemp gave
    except BaseException:
        os.unlink(temporary)  # noqa: PTH108 - as above
        raise
