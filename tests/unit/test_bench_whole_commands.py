"""Suite commands: what is typed on each side, what counts, and what is left of it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from stackyard._util.process import Completed
from stackyard.bench import commands
from stackyard.bench.options import Plan
from stackyard.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MODEL = {"name": "shop", "services": {"web": {"image": "web", "profiles": ["test"]}}}


class Shell:
    """Stands in for `process.run`: notes each command and its folder; each takes the seconds that its word has."""

    def __init__(self) -> None:
        self.typed: list[str] = []
        self.where: list[Path] = []
        self.files: list[Any] = []
        self.told: list[Any] = []
        self.seconds = {"env.up": 1.0, "env.down": 0.5, "--wait": 2.0, "noxw": 6.0, "stackyard": 3.0}
        self.broken = ""
        self.interrupted = ""

    def __call__(self, argv: Sequence[str], *, deadline: float, **given: Any) -> Completed:
        del deadline
        line = " ".join(argv)
        if "config" in argv:
            return Completed(argv=tuple(argv), returncode=0, stdout=json.dumps(MODEL), stderr="", seconds=0.1)
        self.typed.append(line)
        self.where.append(given["cwd"])
        self.told.append(given.get("env"))
        file = given["cwd"] / "compose.yaml"
        self.files.append(json.loads(file.read_text()) if file.exists() else None)
        if self.broken and self.broken in line:
            raise CommandError(argv, 1, "no such\nimage")
        if self.interrupted and self.interrupted in line:
            raise KeyboardInterrupt
        took = next((seconds for word, seconds in self.seconds.items() if word in line), 0.25)
        return Completed(argv=tuple(argv), returncode=0, stdout="", stderr="", seconds=took)


class Place:
    """An arena whose stacks are leases alone."""

    def __init__(self, root: Path, environment: str = "test") -> None:
        self.environment = SimpleNamespace(name=environment, root=root, variables={"STACKYARD_HEALTH_INTERVAL": "5s"})
        self.left: list[Any] = []
        self.standing = 0

    @contextlib.contextmanager
    def open(self, _name: str, _say: Any) -> Iterator[Place]:
        yield self

    @contextlib.contextmanager
    def stack(self) -> Iterator[Any]:
        self.standing += 1
        try:
            yield SimpleNamespace(
                compose=SimpleNamespace(command=lambda *words: ["docker", "compose", *words]), labels=[],
                environment=self.environment, engine=SimpleNamespace(everything=lambda _labels: self.left),
                lease=SimpleNamespace(variables=lambda: {"STACKYARD_LEASE": "l1", "COMPOSE_PROJECT_NAME": "p"}),
            )  # fmt: skip
        finally:
            self.standing -= 1


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    made = Shell()
    monkeypatch.setattr("stackyard._util.process.run", made)
    return made


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path)
    monkeypatch.setattr(commands, "Arena", made)
    return made


def test_each_way_is_typed_as_its_user_types_it(shell: Shell, place: Place) -> None:
    commands.measure(Plan(rounds=1))

    typed = [line.split("/")[-1] for line in shell.typed[:9]]
    name = shell.typed[0].split("--name ")[1].split()[0]
    assert typed[0].endswith(f"-m invoke env.up --environment test --name {name} --ttl 10m")
    assert typed[1].endswith(f"-m invoke env.down --name {name}")
    assert " -m stackyard up --name bench-" in shell.typed[2]
    assert " -m stackyard down --name bench-" in shell.typed[3]
    assert shell.typed[4:6] == ["docker compose up --wait", "docker compose down --volumes"]
    assert shell.typed[6] == f"{place.environment.root}/noxw -s test -- -q -k {commands.TEST}"
    assert shell.typed[7] == "docker compose up --wait"
    assert shell.typed[8].endswith(f"-m pytest tests/platform -q -k {commands.TEST}")
    assert shell.typed[9] == "docker compose down --volumes"
    assert shell.told[8] == {"STACKYARD_LEASE": "l1"}


def test_a_copy_and_plain_compose_start_a_folder_with_the_same_file(shell: Shell, place: Place) -> None:
    commands.measure(Plan(rounds=1))

    in_folder = [line for line, file in zip(shell.typed, shell.files, strict=True) if file]
    assert len(in_folder) == 2 * 6
    assert all(file["services"] == {"web": {"image": "web"}} for file in shell.files if file)
    assert all("compose up" in line or "compose down" in line or "-m stackyard" in line for line in in_folder)
    assert not any(folder.exists() for folder in shell.where if folder != place.environment.root)
    assert place.standing == 0


def test_the_first_round_does_not_count_and_ratios_compare_neighbours(shell: Shell, place: Place) -> None:
    del place, shell  # in place
    found = commands.measure(Plan(rounds=2))

    rows = {result.row: result for result in found.results}
    assert {row: result.samples for row, result in rows.items() if row in {"env-up", "compose-up", "down"}} == {
        "env-up": (1.0, 1.0), "compose-up": (2.0, 2.0), "down": (3.0, 3.0)
    }  # fmt: skip
    assert (rows["ratio-env-up"].subject, rows["ratio-env-up"].what) == (
        "invoke env.up", "as a share of docker compose up --wait",
    )  # fmt: skip
    assert rows["ratio-env-up"].median == 0.5
    assert rows["ratio-down"].median == 12.0
    assert all(result.target is None for result in found.results)
    assert list(rows)[:8] == list(commands.ROWS)


def test_a_command_that_fails_is_counted_and_has_no_ratio(shell: Shell, place: Place) -> None:
    del place  # in place
    shell.broken = "env.up"

    rows = {result.row: result for result in commands.measure(Plan(rounds=2)).results}

    assert [(rows[row].n, rows[row].failed) for row in ("env-up", "env-down", "up")] == [(0, 2), (0, 2), (2, 0)]
    assert rows["env-up"].reason.endswith("failed with exit code 1: no such image")
    assert "ratio-env-up" not in rows
    assert shell.typed[1].split()[3] == "env.down"


def test_what_plain_compose_leaves_is_its_failure(shell: Shell, place: Place) -> None:
    del shell  # in place
    place.left = [SimpleNamespace(kind="volume", name="rows")]

    rows = {result.row: result for result in commands.measure(Plan(rounds=1)).results}

    assert (rows["compose-up"].failed, rows["by-hand"].failed, rows["env-up"].failed) == (1, 1, 0)


def test_an_interrupt_removes_what_was_started(shell: Shell, place: Place) -> None:
    shell.interrupted = "compose up"

    with pytest.raises(KeyboardInterrupt):
        commands.with_compose(place)  # type: ignore[arg-type]

    assert shell.typed == ["docker compose up --wait", "docker compose down --volumes"]
    assert place.standing == 0


def test_an_environment_without_a_session_of_its_own_has_no_row_for_it(
    tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "Arena", Place(tmp_path, "ci"))

    rows = {result.row for result in commands.measure(Plan(environment="ci", rounds=1)).results}

    assert rows & {"session", "by-hand"} == set()
    assert not any("noxw" in line for line in shell.typed)


def test_the_reports_of_the_last_run_stay_as_they_were(
    shell: Shell, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    (folder / "test.json").write_text("before")
    (folder / "alpine-test.json").write_text("other")

    def session(*given: Any, **options: Any) -> Completed:
        (folder / "test.json").write_text("after")
        (folder / "junit-test-slot3.xml").write_text("after")
        return shell(*given, **options)

    monkeypatch.setattr("stackyard._util.process.run", session)

    assert commands.with_session(place) == {"session": 6.0}  # type: ignore[arg-type]
    assert sorted(path.name for path in folder.iterdir()) == ["alpine-test.json", "test.json"]
    assert (folder / "test.json").read_text() == "before"


def test_the_test_that_both_sides_run_exists() -> None:
    folder = Path(__file__).parents[1] / "platform"

    assert sum(f"def {commands.TEST}(" in path.read_text() for path in folder.glob("test_*.py")) == 1


def test_every_ratio_is_of_two_rows_about_the_same() -> None:
    assert all(commands.ROWS[own][1] == commands.ROWS[other][1] for own, other in commands.PAIRS)
