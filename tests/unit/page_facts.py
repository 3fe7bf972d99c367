"""What the tests of the pages share: a small project with a history, and one with hostile names in every text."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from stackyard._util.files import write_json
from stackyard._util.tables import Row, RunReport
from stackyard.bench.records import Machine, Result, Run, Step

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

HOSTILE = (
    "<script>alert(1)</script> | `x` \"' \\ [a](b) &amp; \x1b[31m \ud800 \x00 ]]> --> {{ 7*7 }} "
    "<img src=x onerror=alert(2)>\n# heading"
)
SHARP = "<i>|&`\x00\ud800*"  # a unit, which may not be long
WRITTEN = 1_790_000_000  # seconds since 1970: when the files of a made project were written

MACHINE = Machine(
    cpus=2, cpu="Cpu 3000", memory_bytes=25_000_000_000, kernel="6.1.0", system="Debian 12", engine="26.1.5",
    compose="2.26.1", python="3.11.2", load=0.5,
)  # fmt: skip


def result(suite: str, row: str, *samples: float, **given: Any) -> Result:
    words: dict[str, Any] = {"subject": "stackyard", "what": row, "unit": "s", "command": f"./noxw -s bench -- {suite}"}
    return Result.of(samples, suite=suite, row=row, **(words | given))


def startup(own: float) -> list[Result]:
    return [
        result("startup", "stackyard", *[own] * 5, what="start-up", target=1.0),
        result("startup", "plain", *[5.0] * 5, what="start-up", subject="docker compose up --wait"),
    ]


def requirements() -> list[Result]:
    return [
        result("requirements", "start-up", 0.75, what="start-up of a stack", target=30.0),
        result("requirements", "ports", 3, what="no port conflict", unit="", target=0.0, reason="3 of 50"),
        Result(
            suite="requirements", row="hits", subject="stackyard", what="pool hits", unit="%", better="more",
            reason="the pool was off",
        ),
    ]  # fmt: skip


def everything() -> list[Result]:
    """One result of each kind that the page draws in its own way."""
    return [
        *startup(0.75), *requirements(),
        *(result("parallel", f"cost-{count}", took, what="cost of a stack", at=count, target=1.3)
          for count, took in ((1, 0.75), (10, 0.8), (50, 0.9))),
        *(result("parallel", f"pages-{count}", 4.0, what="pages", subject="kernel", unit="", at=count, better="more")
          for count in (1, 10)),
        result("parallel", "once", 1.0, what="listeners", unit="", at=50),
        result("parallel", "failures", 0, what="failed stacks", unit="", target=0.0),
        result("pool", "warm", *[0.04] * 120, what="hand-out", target=0.1),
        result("services", "memory-redis", 4 << 20, what="memory", subject="redis", unit="bytes", target=64 << 20),
        result("services", "memory-auth", 50 << 20, what="memory", subject="auth", unit="bytes", target=128 << 20),
        result("services", "peak-auth", 60 << 20, what="memory", subject="auth", unit="bytes"),
        result("leases", "alone", 0.002, what="acquire"),
        result("novel", "thing", 1.0),
    ]  # fmt: skip


def run(number: int = 0, results: Iterable[Result] = (), **given: Any) -> Run:
    words: dict[str, Any] = {
        "id": f"{number:012x}", "when": f"2026-11-{10 + number:02}T12:30:59+00:00", "commit": f"{number:x}" * 40,
        "changed": False, "release": "0.1.0", "seconds": 60.0, "machine": MACHINE, "suites": ("startup",),
        "depth": "full", "results": tuple(results),
    }  # fmt: skip
    return Run(**(words | given))


STEPS = (
    Step(name="render", begin=0.0, end=0.0125), Step(name="start postgres", begin=0.0125, end=0.5),
    Step(name="odd", begin=0.25, end=0.75),
)  # fmt: skip


def lay_out(root: Path, runs: Iterable[Run] = (), *, report: bool = True, sarif: bool = True) -> Path:
    """Make a project's reports below *root*."""
    folder = root / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.jsonl").write_text("".join(json.dumps(each.to_json()) + "\n" for each in runs))
    if report:
        write_json(folder / "test.json", run_report().to_json())
    if sarif:
        write_json(folder / "verify.sarif", sarif_log(finding("error", "x is open"), finding("note", "fine")))
    for path in folder.iterdir():
        os.utime(path, (WRITTEN, WRITTEN))
    return root


def run_report(**given: Any) -> RunReport:
    words: dict[str, Any] = {
        "environment": "test", "lease": "l", "project": "p", "outcome": "passed", "exit_code": 0, "seconds": 9.5,
        "rows": [
            Row(what="start-up", value=1.25, unit="s", budget=30), Row(what="clean-up", value=7, unit="s", budget=5),
        ],
    }  # fmt: skip
    return RunReport(**(words | given))


def finding(level: str, text: str, **given: Any) -> dict[str, Any]:
    return {"ruleId": "stack-x", "level": level, "message": {"text": text}, **given}


def sarif_log(*results: dict[str, Any]) -> dict[str, Any]:
    return {"runs": [{"tool": {"driver": {"rules": [{}, {}, {}]}}, "results": list(results)}]}


def hostile(root: Path) -> Path:
    """Make a project in which every text is hostile."""
    given = {"subject": HOSTILE, "what": HOSTILE, "unit": SHARP, "reason": HOSTILE, "command": HOSTILE}
    results = [
        result(suite, f"{HOSTILE}{number}", float(number), **given, target=1.0, at=at)
        for suite in ("startup", "requirements", "pool", "parallel", HOSTILE)
        for number, at in ((1, None), (2, None), (3, 1.0), (4, 2.0))
    ]
    results += [result("requirements", "none", **given), result("cleanup", "own", 1.0, unit=SHARP)]
    machine = replace(MACHINE, cpu=HOSTILE, system=HOSTILE, engine=None, kernel=HOSTILE)
    lay_out(root, [
        run(number, results, machine=machine, notes=(HOSTILE,), commit=HOSTILE, when=HOSTILE, id=HOSTILE,
            waterfall=(Step(name=HOSTILE, begin=0.0, end=1.0),))
        for number in range(2)
    ])  # fmt: skip
    told = run_report(outcome=HOSTILE, leftovers=[HOSTILE], rows=[Row(what="start-up", value=1.0, unit=SHARP)])
    write_json(root / "reports" / "<b>test|&.json", told.to_json())
    write_json(root / "reports/verify.sarif", sarif_log(finding("error", HOSTILE, ruleId=HOSTILE)))
    return root
