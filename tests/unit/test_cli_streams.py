from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import stream_cases
import tasks

from stackyard.docker import Engine
from stackyard.docker.lease_book import open_book
from stackyard.images.recipes import service_recipes
from stackyard.project.environments import Environment
from stackyard.settings import Settings

if TYPE_CHECKING:
    from fake_engine import FakeEngine

ROOT = Path(__file__).parents[2]
PYTHON = sys.executable
GUARDED = "from stackyard._util import streams; streams.guard(); import sys\n"


def ended(script: str, redirection: str, *, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a guarded script in a shell with *redirection*; return its exit code and what came out on either stream."""
    words = ["/bin/bash", "-c", f'"$0" -c "$1" {redirection}', PYTHON, GUARDED + script]
    done = subprocess.run(  # noqa: S603 - our own words
        words, capture_output=True, text=True, check=False, env=os.environ | (env or {}), timeout=240
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


TALK = "print('x' * 100_000); sys.exit(streams.settle(%d))"


@pytest.mark.parametrize("code", [0, 7])
def test_a_reader_that_has_gone_leaves_the_exit_code_of_the_work(code: int) -> None:
    assert ended(TALK % code, "| head -c 1; exit ${PIPESTATUS[0]}") == (code, "x")


@pytest.mark.parametrize(("code", "shown"), [(0, 1), (7, 7)])
def test_a_full_disk_is_one_line_and_a_failure(code: int, shown: int) -> None:
    assert ended(TALK % code, ">/dev/full") == (shown, "cannot write to stdout: No space left on device\n")


def test_what_is_written_outside_of_the_work_is_noticed_too() -> None:
    assert ended("print('help')", ">/dev/full") == (1, "cannot write to stdout: No space left on device\n")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_closed_stream_is_dev_null_and_its_number_is_never_a_files(number: int) -> None:
    script = "import os; f = open('/dev/zero'); print('out'); print('err', file=sys.stderr); sys.exit(f.fileno() < 3)"

    assert ended(script, f"{number}>&-")[0] == 0


def test_errors_do_not_go_to_standard_output_when_their_own_stream_is_closed() -> None:
    assert ended("print('oops', file=sys.stderr)", "2>&-") == (0, "")


def test_every_stream_may_be_closed_at_once() -> None:
    assert ended("print(sys.stdin.read()); print('oops', file=sys.stderr)", "<&- >&- 2>&-") == (0, "")


def test_work_without_an_end_of_its_own_ends_with_its_reader() -> None:
    script = "with streams.endless():\n  while True: print('x', flush=True)\nsys.exit(streams.settle())"

    assert ended(script, "| head -n 1; exit ${PIPESTATUS[0]}") == (0, "x\n")


def test_work_without_an_end_of_its_own_ends_with_its_disk() -> None:
    script = "with streams.endless():\n  while True: print('x', flush=True)\nsys.exit(streams.settle())"

    assert ended(script, ">/dev/full") == (1, "cannot write to stdout: No space left on device\n")


def test_a_stream_that_must_not_block_waits_for_its_reader() -> None:
    script = "import os; os.set_blocking(1, False); print('x' * 300_000)"

    assert ended(script, "| (sleep 0.3; wc -c); exit ${PIPESTATUS[0]}") == (0, "300001\n")


def test_letters_a_terminal_does_not_know_are_no_error() -> None:
    assert ended("print('✓')", "", env={"PYTHONIOENCODING": "ascii"}) == (0, "\\u2713\n")


@pytest.mark.parametrize("options", ["--help", "--setup-only --no-engine", "-s nosuch --no-engine", "--yes --sess"])
@pytest.mark.parametrize("redirection", ["{}>&-", "{}>/dev/full", "{}> >(true)"])
@pytest.mark.parametrize("number", [1, 2])
def test_noxw_itself_needs_no_stream(options: str, redirection: str, number: int) -> None:
    script = f'sleep 0.05; exec "$0" noxw {options} {redirection.format(number)}'
    done = subprocess.run(  # noqa: S603 - our own words
        ["/bin/bash", "-c", script, PYTHON], cwd=ROOT, capture_output=True, text=True, check=False, timeout=240
    )  # fmt: skip

    assert "Traceback" not in done.stdout + done.stderr
    assert "Exception" not in done.stdout + done.stderr
    if redirection.endswith("full") and number == 1 and options == "--help":
        assert done.returncode != 0


# what a task needs on its command line; any other is run as it is
WORDS = {
    "ports.allocate": ["other"],
    "ports.release": ["mine"],
    "ports.renew": ["mine"],
    "ports.watch": ["--interval", "0.01", "--json"],
    "env.logs": ["redis"],
    "env.restart": ["redis"],
    "env.exec": ["redis", "--", "true"],
    "env.down": ["mine"],
    "env.wait": ["--timeout", "0.2"],
    "env.up": ["--name", "mine", "--timeout", "0.2"],
    "cleanup.all": ["--yes"],
    "monitor.stats": ["--once"],
    "monitor.export": ["--once"],
    "bench.compare": ["one", "two"],
}
# minutes of work, or a file in this checkout; they share their way out with the others
LEFT_OUT = {"bench.run", "bench.report", "images.build"}
ENDLESS = "ports.watch"


@pytest.mark.timeout(1200)  # a hundred commands
def test_no_command_needs_a_stream(tmp_path: Path, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("STACKYARD_ENGINE_TIMEOUT", "5")
    monkeypatch.setenv("STACKYARD_IMAGE_SOURCE", "packages")
    for name, recipe in service_recipes(ROOT, "debian", "packages").items():  # a missing one would be built for real
        fake_engine.images.put(name, recipe.reference, labels=recipe.labels)
    with Engine() as engine:
        lease = open_book(None, engine).acquire(Environment.load("test"), ttl=600, parallel_id="mine")
    for service in ("redis", "auth"):
        labels = fake_engine.container(service, lease.id)["labels"]
        labels |= {"stackyard.host": Settings.load().host, "com.docker.compose.project": lease.project}
    names = sorted(name for name in tasks.ns.task_names if name not in LEFT_OUT and not name.startswith("verify."))
    commands = [[name, *WORDS.get(name, [])] for name in names]

    planned = [
        (words, case)
        for words, case in stream_cases.plan(commands)
        if words[0] != ENDLESS or case in {"stdout gone", "stdout full"}
    ]

    ends = stream_cases.run(planned, tmp_path / "state")

    assert {key: said for key, (_, said) in ends.items() if "Traceback" in said or "Exception ignored" in said} == {}
    assert [key for key, (code, _) in ends.items() if code == stream_cases.STUCK] == []
    for (name, case), (code, said) in ends.items():
        fine, shown = ends.get((name, "fine"), (0, ""))
        if case == "stderr full":
            assert code in {fine, 1}, (name, case, said)
        elif case == "stdout full":
            assert code or not (shown or fine), (name, case, said)
        else:
            assert code == fine, (name, case, said)
