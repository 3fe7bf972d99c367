from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import page_facts as made
import pytest

from stackyard._util import process
from stackyard._util.tables import format_bound, format_figure
from stackyard.bench.requirements import REQUIREMENTS
from stackyard.bench.suites import MODULES
from stackyard.errors import StackyardError
from stackyard.project.environments import project_root
from stackyard.report import completion, write
from stackyard.report.completion import Deliverables
from stackyard.report.inputs import Facts, gather

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from stackyard.bench.records import Run

FIGURE = re.compile(r"\d[\d.,]*(?<![.,])")
TREE = Deliverables(
    sessions=(("test", "Run it."),), tasks=(("env.up", "Start a stack."),), scripts=(("scripts/a.py", "Do a."),),
    modules=(("stackyard.a", "Be a."),), pages=(("docs/a.md", "About a"),),
)  # fmt: skip


def numbers(content: Any) -> Iterator[float]:
    if isinstance(content, dict | list | tuple):
        for item in content.values() if isinstance(content, dict) else content:
            yield from numbers(item)
    elif isinstance(content, int | float):
        yield content


def full(number: int = 0, **given: Any) -> Run:
    return made.run(number, made.everything(), suites=tuple(MODULES), **given)


def test_the_report_holds_no_figure_that_is_not_in_its_input() -> None:
    run = full(3, notes=("measured twice",))
    plain = run.to_json()
    given = set(FIGURE.findall(json.dumps(plain)))
    given |= {
        FIGURE.findall(shown(value, unit))[0]
        for value in numbers(plain) for unit in ("s", "bytes", "x", "") for shown in (format_figure, format_bound)
    }  # fmt: skip
    counted = {str(len(result["samples"])) for result in plain["results"]}
    shortened = {f"{run.machine.load:.2f}", (run.commit or "")[:10]}
    promised = {FIGURE.findall(format_bound(known.most, known.unit))[0] for known in REQUIREMENTS.values()}
    of_a_heading = {"95"}

    text = completion.markdown(Facts(runs=(run,)), TREE)

    assert set(FIGURE.findall(text)) <= given | counted | shortened | promised | of_a_heading
    assert "0.75 s" in text
    assert "3 of 50" in text


def test_every_figure_in_it_changes_with_its_input() -> None:
    def cells(own: float) -> list[str]:
        text = completion.markdown(Facts(runs=(made.run(0, made.startup(own)),)), TREE)
        return next(line for line in text.splitlines() if "start-up" in line).split("|")

    assert [cell.strip() for cell in cells(0.25)[1:6]] == ["PASS", "start-up", "0.25 s", "0.25 to 0.25 s", "5"]
    assert [cell.strip() for cell in cells(1.75)[1:6]] == ["FAIL", "start-up", "1.75 s", "1.75 to 1.75 s", "5"]


def test_the_same_input_gives_the_same_report() -> None:
    facts = Facts(runs=(full(),))

    assert completion.markdown(facts, TREE) == completion.markdown(facts, TREE)


def test_the_newest_run_of_everything_is_the_one_that_counts() -> None:
    runs = (full(1), full(2), made.run(3, made.startup(0.5)), full(4, depth="quick"))

    assert completion.full_run(Facts(runs=runs)) == runs[1]
    assert "| startup | run 000000000002 " in completion.markdown(Facts(runs=runs), TREE)


def test_without_a_run_of_everything_each_suites_newest_counts_and_that_is_said() -> None:
    runs = (made.run(1, made.everything()), made.run(2, made.startup(0.5)))
    text = completion.markdown(Facts(runs=runs), TREE)

    assert completion.full_run(Facts(runs=runs)) is None
    assert "No one run at full depth measured everything yet" in text
    assert "| startup | run 000000000002 " in text
    assert "| pool | run 000000000001 " in text


def test_without_a_benchmark_it_says_so_and_gives_no_figure() -> None:
    text = completion.markdown(Facts(), Deliverables())

    assert "No benchmark is in the history" in text
    assert FIGURE.findall(text) == []


def test_the_tree_is_read_from_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "nox": [{"session": "test", "description": "Run it."}, {"session": "bare", "description": None}],
        "invoke": {
            "tasks": [{"name": "doctor", "help": "Look."}],
            "collections": [{"name": "env", "tasks": [{"name": "exec_", "help": None}], "collections": []}],
        },
    }

    def answer(argv: Sequence[str], **_given: Any) -> process.Completed:
        text = json.dumps(said[argv[2]])
        return process.Completed(argv=tuple(argv), returncode=0, stdout=text, stderr="", seconds=0.0)

    monkeypatch.setattr(process, "run", answer)
    for name, text in {
        "scripts/a.py": '"""\nDo a,\nand b. Then\nrest.\n\nAnd more.\n"""', "scripts/b.py": "x = 1",
        "scripts/c.py": "(", "docs/a.md": "# About a\n\nIt is\na. And so on", "docs/b.md": "text",
        "docs/c.md": "# About c\n```\nx\n```", "docs/completion_report.md": "# Old",
        "src/stackyard/__init__.py": '"""All."""', "src/stackyard/b.py": '"""Be b."""',
        "src/stackyard/a/__init__.py": '"""Be a."""', "src/stackyard/a/inner.py": '"""Not listed."""',
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    assert Deliverables.of(tmp_path) == Deliverables(
        sessions=(("test", "Run it."), ("bare", "")),
        tasks=(("doctor", "Look."), ("env.exec", "")),
        scripts=(("scripts/a.py", "Do a, and b."), ("scripts/b.py", ""), ("scripts/c.py", "")),
        modules=(("stackyard.a", "Be a."), ("stackyard.b", "Be b.")),
        pages=(("docs/a.md", "About a: It is a."), ("docs/b.md", ""), ("docs/c.md", "About c")),
    )


def test_a_listing_that_cannot_be_read_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def babble(argv: Sequence[str], **_given: Any) -> process.Completed:
        return process.Completed(argv=tuple(argv), returncode=0, stdout="hello", stderr="", seconds=0.0)

    monkeypatch.setattr(process, "run", babble)

    with pytest.raises(StackyardError, match="nox lists nothing that can be read"):
        Deliverables.of(tmp_path)


def test_this_projects_own_deliverables_are_all_found() -> None:
    found = Deliverables.of(project_root())

    assert {"test", "alpine_test", "dev", "ci", "verify"} <= {name for name, _ in found.sessions}
    assert {"env.up", "ports.allocate", "doctor"} <= {name for name, _ in found.tasks}
    assert {"scripts/allocate_test_ports.py"} <= {name for name, _ in found.scripts}
    assert {"docs/architecture.md"} <= {name for name, _ in found.pages}
    assert [
        name for name, line in (*found.sessions, *found.tasks, *found.scripts, *found.modules, *found.pages) if not line
    ] == []


def test_it_is_written_into_the_docs_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Deliverables, "of", lambda _root: TREE)
    made.lay_out(tmp_path, [full()])

    path = write(tmp_path, completion=True)[-1]

    assert path == tmp_path / "docs/completion_report.md"
    assert path.read_text() == completion.markdown(gather(tmp_path), TREE)


def test_a_document_is_listed_with_its_first_sentence_without_the_targets_of_links(tmp_path: Path) -> None:
    page = tmp_path / "pytest.md"
    page.write_text("# From pytest\nIt is [installed](adopting.md#how), so pytest finds it. More.\n")

    assert completion.opening(page) == "From pytest: It is installed, so pytest finds it."
