"""The list of mutants that may survive: it excuses what it names and nothing else."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.mutants import survivors
from tests.mutants.__main__ import MODULES, ROOT, Verdict, lay_out, retry, settings
from tests.mutants.survivors import Change

if TYPE_CHECKING:
    from pathlib import Path

DIFF = """# stackyard.cleanup.removal.x_sweep__mutmut_1: survived
--- src/stackyard/cleanup/removal.py
+++ src/stackyard/cleanup/removal.py
@@ -1,3 +1,3 @@
 def sweep():
-    keep = a and not b
+    keep = a or not b
     return keep
"""
CHANGE = Change(function="stackyard.cleanup.removal.sweep", was="keep = a and not b", now="keep = a or not b")


def test_a_change_is_read_from_mutmuts_diff() -> None:
    assert Change.of("stackyard.cleanup.removal.x_sweep__mutmut_1", DIFF) == CHANGE
    stack = "stackyard.stacks.environments.stack"
    assert survivors.function_of(f"{stack}.xǁStackǁ_up__mutmut_12") == f"{stack}.Stack._up"


@pytest.mark.parametrize(
    ("function", "was", "now", "excused"),
    [
        (CHANGE.function, CHANGE.was, CHANGE.now, True),
        (CHANGE.function, CHANGE.was, None, True),
        (CHANGE.function, CHANGE.was, "keep = a", False),
        (CHANGE.function, "keep = a", None, False),
        ("stackyard.cleanup.removal.apply", CHANGE.was, CHANGE.now, False),
    ],
)
def test_only_a_listed_change_may_survive(function: str, was: str, now: str | None, excused: bool) -> None:
    entry = {"was": was, "reason": "why"} | ({"now": now} if now else {})

    assert survivors.reason(CHANGE, {function: [entry]}) == ("why" if excused else None)


@pytest.mark.parametrize(
    ("was", "now", "excused"),
    [
        ('db.execute("SELECT a FROM b")', 'db.execute("select a from b")', True),
        ('db.execute("SELECT a FROM b")', 'db.execute("SELECT c FROM b")', False),
        ("""db.execute("SELECT a WHERE b='x'")""", """db.execute("SELECT A WHERE B='x'")""", True),
        ("""db.execute("SELECT a WHERE b='x'")""", """db.execute("SELECT A WHERE B='X'")""", False),
        ('known = "stale"', 'known = "STALE"', False),
        ('read(encoding="ascii")', 'read(encoding="ASCII")', True),
        ('raw.decode("utf-8")', 'raw.decode("UTF-8")', True),
        ('read("x", encoding="ascii")', 'read("X", encoding="ascii")', False),
        ('read(encoding="ascii")', "read(encoding=None)", False),
    ],
)  # fmt: skip
def test_the_case_of_sql_and_of_an_encoding_changes_nothing(was: str, now: str, excused: bool) -> None:
    assert (survivors.reason(replace(CHANGE, was=was, now=now), {}) is not None) is excused


@pytest.mark.parametrize(
    ("counts", "unlisted", "passed"),
    [
        ({"killed": 9, "survived": 1}, False, True),
        ({"killed": 9, "survived": 1}, True, False),
        ({"killed": 8, "survived": 1}, False, False),
        ({"killed": 5, "timeout": 4, "no tests": 1}, False, True),
        ({"killed": 9, "not checked": 1}, False, False),
        ({}, False, False),
    ],
)
def test_a_module_passes_with_nine_of_ten_noticed_all_run_and_no_survivor_unlisted(
    counts: dict[str, int], unlisted: bool, passed: bool
) -> None:
    verdict = Verdict(module="cleanup", counts=Counter(counts), listed=[], unlisted=[CHANGE] if unlisted else [])

    assert verdict.passed is passed


def test_a_change_that_leaves_the_program_the_same_does_not_count() -> None:
    listed = [(CHANGE, survivors.SAME)] * 8
    verdict = Verdict(
        module="queue", counts=Counter(killed=9, survived=9), listed=[*listed, (CHANGE, "why")], unlisted=[]
    )

    assert (verdict.same, verdict.share, verdict.passed) == (8, 90.0, True)
    assert "8 are the same program, 1 survived with a reason, 0 without" in str(verdict)


def test_only_the_mutants_that_are_named_are_tried_again(tmp_path: Path) -> None:
    meta = tmp_path / "cleanup.py.meta"
    meta.write_text(json.dumps({"exit_code_by_key": {"a": 0, "b": 1, "c": 33, "d": None, "e": 0}, "other": 1}))
    retry(meta, ["a", "c"])

    codes = {"a": None, "b": 1, "c": None, "d": None, "e": 0}
    assert json.loads(meta.read_text()) == {"exit_code_by_key": codes, "other": 1}


def test_a_verdict_counts_as_long_as_its_function_stays_as_it_was() -> None:
    from mutmut.mutation.file_mutation import compute_function_hashes
    from tests.mutants.verdicts import mangled, outdated

    before = "class A:\n    def f(self):\n        return 1\n\ndef g():\n    return 2\n\ndef h():\n    return 3\n"
    after = "def new():\n    return 0\n\n" + before.replace("return 1", "return 9").partition("def h")[0]
    hashes = compute_function_hashes(before)

    assert outdated(hashes, f"# a remark\n{before}") == set()
    assert outdated(hashes, after) == {"xǁAǁf", "x_h"}
    assert [mangled(f"stackyard.a.{name}__mutmut_12") for name in ("xǁAǁf", "x_h")] == ["xǁAǁf", "x_h"]


def test_the_code_of_this_checkout_is_tried_wherever_earlier_verdicts_were_made(tmp_path: Path) -> None:
    (tmp_path / "src").symlink_to(tmp_path)
    for _ in range(2):
        lay_out("cleanup.plan", tmp_path)
        assert (tmp_path / "src").readlink() == ROOT / "src"
        assert (tmp_path / "tests").readlink() == ROOT / "tests"


@pytest.mark.parametrize("text", ["", '{"exit_code_by_key": {"a": 0'])
def test_verdicts_that_were_not_written_to_the_end_are_none(tmp_path: Path, text: str) -> None:
    source = tmp_path / "mutants" / "src" / "stackyard" / "cleanup" / "plan.py"
    source.parent.mkdir(parents=True)
    source.touch()
    meta = source.with_name("plan.py.meta")
    meta.write_text(text)

    lay_out("cleanup.plan", tmp_path)

    assert not meta.exists()
    assert not source.exists()


def test_every_listed_line_still_stands_in_its_module_with_a_reason() -> None:
    for function, entries in survivors.accepted().items():
        module = next(name for name in MODULES if function.startswith(f"stackyard.{name}."))
        text = (ROOT / "src" / "stackyard" / f"{module.replace('.', '/')}.py").read_text()
        lines = {line.strip() for line in text.splitlines()}
        assert [entry["was"] for entry in entries if entry["was"] not in lines] == []
        assert all(entry["reason"] for entry in entries)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_and_its_tests_are_there(module: str) -> None:
    assert (ROOT / "src" / "stackyard" / f"{module.replace('.', '/')}.py").exists()
    assert all((ROOT / "tests" / "unit" / name).exists() for name in MODULES[module])
    assert f'only_mutate = ["src/stackyard/{module.replace(".", "/")}.py"]' in settings(module)
