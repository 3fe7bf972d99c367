"""Suite projects with a fake `docker` and a fake `stackyard`: what is timed, compared and printed."""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from stackyard._util.process import Completed
from stackyard.bench import copies_at_once, projects, suites
from stackyard.bench.options import Plan
from stackyard.errors import CommandError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

READY = [{"service": "db", "seconds": 2.0}, {"service": "web", "seconds": 3.5}]
STARTUP = {"by": "engine", "critical_path": ["db", "web"], "started": {"db": 0.5, "web": 2.1}, "ready": READY}


class Programs:
    """Stands in for `process.run`: notes each command, and takes as long as the test asks."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.seconds = {"stackyard up": 1.0, "stackyard down": 0.5, "compose up": 4.0, "compose down": 10.0}
        self.broken = ""
        self.left = ""

    def __call__(self, argv: Sequence[str], **_: Any) -> Completed:
        self.calls.append([*argv])
        own = "stackyard" in argv
        name = f"{'stackyard' if own else 'compose'} {'up' if 'up' in argv else 'down'}"
        if name == self.broken:
            raise CommandError(argv, 7, "not ready: web")
        out = json.dumps(STARTUP) if name == "stackyard up" else self.left if "ps" in argv else ""
        return Completed(argv=tuple(argv), returncode=0, stdout=out, stderr="", seconds=self.seconds[name])


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Programs:
    made = Programs()
    for name in projects.PROJECTS:
        folder = tmp_path / "tests" / "projects" / name
        folder.mkdir(parents=True)
        (folder / "compose.yaml").write_text("services: {web: {image: box}}\n")
    monkeypatch.setattr("stackyard._util.process.run", made)
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/bench.yaml").write_text("box: {environment: alpine-test, service: shop}\n")
    monkeypatch.setattr(projects, "project_root", lambda: tmp_path)
    monkeypatch.setattr(copies_at_once, "_busy", count(1.0).__next__)
    monkeypatch.setattr(
        "stackyard.stacks.environments.launch.prepare_images", lambda *_: {"STACKYARD_IMAGE_SHOP": "base"}
    )
    return made


def test_both_ways_are_timed_and_compared(programs: Programs) -> None:
    found = projects.measure(Plan(rounds=2))

    rows = {result.row: result for result in found.results}
    assert rows["five-services-up"].samples == (1.0, 1.0)
    assert rows["ratio-five-services-up"].median == 0.25
    assert (rows["ratio-five-services-up"].verdict, rows["ratio-five-services-down"].verdict) == ("PASS", "PASS")
    assert rows["ratio-slow-health-checks-down"].target == 0.6
    assert found.notes[0] == "five-services: by engine; db 2.0 s -> web 3.5 s; db held it up"
    assert len([call for call in programs.calls if "--wait" in call]) == 3 * len(projects.PROJECTS)


def test_one_of_ten_copies_at_once_is_held_beside_one_alone(programs: Programs) -> None:
    found = projects.measure(Plan(rounds=4))

    rows = {result.row: result for result in found.results}
    assert rows["replicas-many"].n == rows["replicas-cost"].n == 2
    assert (rows["replicas-cpu"].median, rows["replicas-many-cpu"].median) == (1.0, 0.1)
    assert (rows["replicas-cost"].median, rows["replicas-cost"].verdict) == (0.1, "PASS")
    started = [words for words in programs.calls if "up" in words and "--quiet" in words]
    assert len(started) == len({words[words.index("--name") + 1] for words in started}) == 2 * 11 * 4


def test_many_copies_that_fail_are_counted_and_removed(programs: Programs) -> None:
    programs.broken = "stackyard up"

    rows = {result.row: result for result in projects.measure(Plan(rounds=1)).results}

    assert (rows["replicas-many"].n, rows["replicas-many"].failed) == (0, 1)
    assert "replicas-cost" not in rows
    own = [words for words in programs.calls if "stackyard" in words]
    started, removed = (
        {words[words.index("--name") + 1] for words in own if command in words} for command in ("up", "down")
    )
    assert started == removed


def test_a_way_that_fails_is_counted_and_still_removed(programs: Programs) -> None:
    programs.broken = "compose up"

    found = projects.measure(Plan(rounds=1))

    rows = {result.row: result for result in found.results}
    assert (rows["five-services-compose-up"].n, rows["five-services-compose-up"].failed) == (0, 1)
    assert "not ready: web" in rows["five-services-compose-up"].reason
    assert "ratio-five-services-up" not in rows
    assert len([call for call in programs.calls if "--volumes" in call]) == 2 * len(projects.PROJECTS)


def test_a_start_without_success_says_so(programs: Programs) -> None:
    programs.broken = "stackyard up"

    assert projects.measure(Plan(rounds=1)).notes[0] == "five-services: no start succeeded"


def test_what_compose_leaves_is_no_good_sample(programs: Programs) -> None:
    programs.left = "abc\n"
    told: list[str] = []

    projects.measure(Plan(rounds=1, say=told.append))

    assert any("docker compose down left 1 containers" in line for line in told)


def test_the_projects_are_started_with_an_image_that_is_here(programs: Programs) -> None:
    del programs
    with projects._copied("five-services") as folder:
        assert (folder / "compose.yaml").read_text() == f"services: {{web: {{image: {projects.BOX}}}}}\n"

    assert suites.MODULES["projects"] == "projects"


def test_without_a_base_image_nothing_is_measured(
    programs: Programs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(projects, "project_root", lambda: tmp_path / "elsewhere")

    with pytest.raises(UsageError, match=r"envs/bench\.yaml names no box"):
        projects.measure(Plan(rounds=1))
    assert programs.calls == []
