"""The data of the pages: the benchmark history, the last run of each environment, the last verify. It runs nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from stackyard._util.advice import Action, how
from stackyard.bench.history import FILE as HISTORY
from stackyard.bench.records import FORMER, Figure, Result, Run, Unit
from stackyard.bench.requirements import REQUIREMENTS
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERIFY: Final = "reports/verify.sarif"
# pytest's exit codes
PYTEST: Final = {
    1: "a test failed", 2: "the tests were interrupted", 3: "pytest itself failed", 4: "pytest refused its options",
    5: "no test was chosen",
}  # fmt: skip
LEVELS: Final = {"error": "errors", "warning": "warnings", "note": "infos"}  # SARIF's words and ours


class Measured(Struct, frozen=True, kw_only=True):
    """What a run's report says of one quantity; *value* and *budget* in *unit*."""

    what: str
    value: Figure | None
    unit: Unit
    budget: Figure | None = None
    verdict: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastRun:
    """
    An environment's last run of the platform's tests.

    Attributes:
        name: Its environment.
        slot: Its slot of the pool, as `slot 7`; empty where it ran on the environment's fixed ports.
        when: When the report was written, UTC.
        outcome: passed, failed, timed out or interrupted.
        reason: Why it did not pass; empty when it did, or when the reason is not known.
        seconds: Wall time.
        rows: What was measured: `what`, `value`, `unit`, `budget`, `verdict`.
        troubles: What was left behind or did not run well.
    """

    name: str
    slot: str
    when: datetime
    outcome: str
    reason: str
    seconds: float
    rows: tuple[dict[str, Any], ...]
    troubles: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """
    What the last verify found.

    Attributes:
        when: When it was written, UTC.
        checks: How many rules were there.
        found: How many findings of each severity that nothing waives.
        waived: How many findings are waived.
        findings: Check, severity and text of each finding that nothing waives.
    """

    when: datetime
    checks: int
    found: dict[str, int]
    waived: int
    findings: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """
    Everything that the pages show.

    Attributes:
        runs: Benchmark runs, oldest first.
        environments: The environments' last runs, by name.
        verified: The last verify; None when there was none.
        gaps: What is missing or could not be read, and what to do about it.
    """

    runs: tuple[Run, ...] = ()
    environments: tuple[LastRun, ...] = ()
    verified: Verified | None = None
    gaps: tuple[str, ...] = ()

    @property
    def suites(self) -> list[str]:
        """Every suite that was ever measured, in the order of the newest run that has it."""
        return list(dict.fromkeys(result.suite for run in reversed(self.runs) for result in run.results))

    def newest(self, suite: str) -> Run | None:
        """Return the newest run that has results of a suite."""
        return next((run for run in reversed(self.runs) if any(row.suite == suite for row in run.results)), None)

    def results(self, suite: str) -> list[Result]:
        """Return the newest results of a suite; empty when it was never measured."""
        run = self.newest(suite)
        return [result for result in run.results if result.suite == suite] if run else []

    def requirements(self) -> list[tuple[Result, Run | None]]:
        """Return every requirement with the newest figure that any run has of it, and that run; None without one."""
        strange = [row.row for run in self.runs for row in run.results if row.suite == "requirements"]
        return [self._requirement(row) for row in dict.fromkeys([*REQUIREMENTS, *strange])] if strange else []

    def _requirement(self, name: str) -> tuple[Result, Run | None]:
        found = [(row, run) for run in reversed(self.runs) if (row := run.find("requirements", name))]
        judged = next(((row, run) for row, run in found if row.verdict), None)
        if judged or found:
            return judged or found[0]
        known = REQUIREMENTS[name]
        row = Result(
            suite="requirements", row=name, subject="every stack", what=known.what, unit=known.unit, target=known.most,
            reason="not measured yet",
        )  # fmt: skip
        return row, None

    def waterfall(self) -> Run | None:
        """Return the newest run with the steps of a start."""
        return next((run for run in reversed(self.runs) if run.waterfall), None)


def gather(root: Path) -> Facts:
    """Read what there is below *root*; what cannot be read becomes a gap, not an error."""
    gaps: list[str] = []
    runs = tuple(_runs(root / HISTORY, gaps))
    environments = tuple(_environments(root / "reports", gaps))
    verified = _verified(root / VERIFY, gaps)
    return Facts(runs=runs, environments=environments, verified=verified, gaps=tuple(gaps))


def _runs(path: Path, gaps: list[str]) -> Iterator[Run]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    if not any(line.strip() for line in lines):
        gaps.append(f"{HISTORY} holds no benchmark; {how(Action.BENCH)}")
    for count, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield Run.read(line)
            except UsageError as error:
                gaps.append(f"{HISTORY}, line {count}, is left out: no benchmark run: {error}")


def _environments(folder: Path, gaps: list[str]) -> Iterator[LastRun]:
    found = False
    for path in sorted(folder.glob("*.json")):
        content = _load(path)
        if isinstance(content, dict) and {"environment", "outcome", "seconds", "rows"} <= content.keys():
            found = True
            try:
                yield _last_run(path, content)
            except (msgspec.ValidationError, ValueError, TypeError, KeyError) as error:
                gaps.append(f"reports/{path.name} is left out: {error}")
    if not found:
        gaps.append(f"no environment has a report yet; {how(Action.TEST)}")


def _last_run(path: Path, content: dict[str, Any]) -> LastRun:
    rows = tuple(map(_row, content["rows"]))
    name = str(content["environment"])
    _, _, slot = path.stem.removeprefix(name).partition("-slot")
    return LastRun(
        name=name, slot=f"slot {slot}" if slot else "", when=_written(path), outcome=str(content["outcome"]),
        reason=_reason(content), seconds=float(content["seconds"]), rows=rows,
        troubles=tuple(str(item) for key in ("leftovers", "degraded") for item in content.get(key) or ()),
    )  # fmt: skip


def _reason(content: dict[str, Any]) -> str:
    """Return why a run did not pass: in its own words, or else what pytest's exit code means."""
    if content["outcome"] == "passed":
        return ""
    return str(content.get("reason") or "") or PYTEST.get(content.get("exit_code", 0), "")


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of a run's report; an earlier version wrote MiB where this one writes bytes."""
    read = msgspec.convert(row, Measured)
    factor, unit = FORMER.get(read.unit, (1, read.unit))
    value, budget = (None if figure is None else figure * factor for figure in (read.value, read.budget))
    return msgspec.structs.asdict(read) | {"value": value, "unit": unit, "budget": budget}


def _verified(path: Path, gaps: list[str]) -> Verified | None:
    content = _load(path)
    if content is None:
        gaps.append(f"nothing was verified yet; {how(Action.VERIFY)}")
        return None
    try:
        return _read_sarif(path, content["runs"][0])
    except (ValueError, TypeError, KeyError, IndexError) as error:
        gaps.append(f"{VERIFY} is left out, it is no SARIF log: {error!r:.80}")
        return None


def _read_sarif(path: Path, run: dict[str, Any]) -> Verified:
    results = run["results"]
    standing = [row for row in results if not row.get("suppressions")]
    levels = [LEVELS[row["level"]] for row in standing]
    return Verified(
        when=_written(path), checks=len(run["tool"]["driver"]["rules"]), waived=len(results) - len(standing),
        found={level: levels.count(level) for level in LEVELS.values()},
        findings=tuple((str(row["ruleId"]), level.removesuffix("s"), str(row["message"]["text"]))
                       for row, level in zip(standing, levels, strict=True)),
    )  # fmt: skip


def _load(path: Path) -> Any:
    """Return a JSON file's content; None when it is not there or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, RecursionError):
        return None


def _written(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(microsecond=0)
