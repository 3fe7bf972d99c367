"""What the processes of one run remove at its end: a quick test for each guard in front of a loss."""

from __future__ import annotations

import contextlib
import importlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from stackyard import pytest_plugin
from stackyard.cleanup import removal
from stackyard.cleanup.outcome import Leftover, Removal
from stackyard.errors import EngineError, StackyardError
from stackyard.leases.owners import Owner
from stackyard.pytest_plugin import sigterm
from stackyard.pytest_plugin import stacks as fixture_stacks
from stackyard.pytest_plugin.main_process import MainProcess
from stackyard.running import keeper, shared, stack_description
from stackyard.running.shared import Run
from stackyard.running.stack_description import StackDescription
from stackyard.sites import Site

if TYPE_CHECKING:
    from collections.abc import Iterator

LEFT = Leftover(kind="container", name="c", lease="1", reason="busy")
OK, FAILED = pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    kind = str(getattr(request, "param", "local"))
    monkeypatch.setattr(Site, "find", lambda: SimpleNamespace(kind=kind))
    return kind


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> object:
    made = object()
    for place in ("stackyard.docker.Engine", "stackyard.running.stack_description.Engine"):
        monkeypatch.setattr(place, lambda: contextlib.nullcontext(made))
    monkeypatch.setattr("stackyard.docker.swarm.Swarm", lambda given: ("swarm", given))
    return made


@pytest.mark.parametrize("site", ["local", "context", "swarm"], indirect=True)
def test_a_keeper_removes_at_its_end_what_it_has_a_lease_of_and_nothing_else(
    site: str, engine: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, other = SimpleNamespace(owner=Owner.current()), SimpleNamespace(owner=Owner.detached())
    book = SimpleNamespace(leases=lambda: [other, own])
    remove, release = Mock(), Mock()
    monkeypatch.setattr("stackyard.docker.lease_book.open_book", lambda _settings, _engine: book)
    monkeypatch.setattr(removal, "remove_lease", remove)
    monkeypatch.setattr("stackyard.sites.swarm.removal.release_own", release)

    keeper._release()

    assert [given.args for given in remove.call_args_list] == [(book, engine, own)] * (site != "swarm")
    assert [given.args for given in release.call_args_list] == [(("swarm", engine),)] * (site == "swarm")


@pytest.mark.parametrize("site", ["local", "context", "swarm"], indirect=True)
def test_the_end_of_a_run_sweeps_its_own_site_and_takes_only_what_is_stale(
    site: str, engine: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = Mock(return_value=Removal(left=[LEFT])), Mock()
    monkeypatch.setattr(stack_description, "open_book", lambda _settings, _engine: "book")
    monkeypatch.setattr(removal, "sweep", here)
    monkeypatch.setattr("stackyard.sites.swarm.removal.sweep", there)

    left = stack_description.remove_stale_stacks()

    if site == "swarm":
        assert (left, here.call_count) == ([], 0)
        there.assert_called_once_with(("swarm", engine))
    else:
        assert (left, there.call_count) == ([str(LEFT)], 0)
        here.assert_called_once_with("book", engine)


def test_a_sweep_that_removes_everything_leaves_nothing(
    site: str, engine: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    del site, engine  # in place
    monkeypatch.setattr(stack_description, "open_book", lambda _settings, _engine: "book")
    monkeypatch.setattr(removal, "sweep", Mock(return_value=Removal()))

    assert stack_description.remove_stale_stacks() == []


def finish(main: MainProcess, before: pytest.ExitCode) -> pytest.ExitCode:
    """End a session of pytest that has ended with *before*; return what its end is then."""
    session: Any = SimpleNamespace(exitstatus=before)
    work = main._finish(session)
    next(work)
    with pytest.raises(StopIteration) as ended:
        work.send("outcome")
    assert ended.value.value == "outcome"
    return pytest.ExitCode(session.exitstatus)


@pytest.fixture
def main(tmp_path: Path) -> MainProcess:
    return MainProcess({"folder": str(tmp_path / "run"), "pid": 1})


def test_a_run_in_which_no_test_used_a_stack_removes_nothing(
    main: MainProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "end", lambda _run: pytest.fail("ended"))
    monkeypatch.setattr(stack_description, "remove_stale_stacks", lambda: pytest.fail("swept"))

    assert finish(main, OK) is OK


@pytest.mark.parametrize(
    ("ended", "swept", "before", "after"),
    [
        ([], [], OK, OK), (["a"], [], OK, FAILED), ([], ["b"], OK, FAILED), (["a"], ["b"], OK, FAILED),
        ([], EngineError("gone"), OK, FAILED), ([], [], pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERRUPTED),
        (["a"], [], pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERRUPTED),
    ],
)  # fmt: skip
def test_the_end_of_a_run_removes_its_stacks_and_says_and_counts_what_is_left(
    main: MainProcess,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    ended: list[str],
    swept: list[str] | EngineError,
    before: pytest.ExitCode,
    after: pytest.ExitCode,
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(Run, "end", lambda _run: list(ended))
    monkeypatch.setattr(stack_description, "remove_stale_stacks", Mock(side_effect=[swept]))
    lines = Mock()

    assert finish(main, before) is after

    main.pytest_terminal_summary(lines)
    said = [given.args[0] for given in lines.write_line.call_args_list]
    left = [*ended, *(["gone"] if isinstance(swept, EngineError) else swept)]
    assert said == [f"stackyard: {line}" for line in left]


@pytest.mark.parametrize(
    ("workers", "shared", "steps"),
    [
        (False, False, ["run"]), (False, True, ["run"]),
        (True, False, ["use", "run"]), (True, True, ["share"]),
    ],
)  # fmt: skip
def test_a_stack_is_shared_by_the_processes_of_a_run_only_if_it_has_several_and_is_asked_to(
    monkeypatch: pytest.MonkeyPatch, workers: bool, shared: bool, steps: list[str]
) -> None:
    did: list[str] = []

    def gives(step: str) -> Any:
        @contextlib.contextmanager
        def block(*_: object) -> Iterator[str]:
            did.append(step)
            yield step

        return block

    reports = SimpleNamespace(first_in_full=contextlib.nullcontext, watching=lambda *_: contextlib.nullcontext())
    run = SimpleNamespace(use=lambda: did.append("use"), share=gives("share")) if workers else None
    monkeypatch.setattr(fixture_stacks, "Reports", SimpleNamespace(of=lambda _config: reports))
    monkeypatch.setattr(fixture_stacks, "_run", lambda _config: run)
    monkeypatch.setattr(fixture_stacks, "_wanted", lambda _config, _files: StackDescription(folder="/"))
    monkeypatch.setattr(StackDescription, "run", gives("run"))

    monkeypatch.setattr(sigterm, "handled", gives("handle SIGTERM"))
    config: Any = SimpleNamespace(stash=pytest.Stash())
    with fixture_stacks.given(config, shared=shared) as stack:
        assert stack == steps[-1]
    assert did == ["handle SIGTERM", *steps]


@pytest.mark.parametrize(("scope", "shared"), [("run", True), ("worker", False), ("test", False)])
def test_only_the_stack_of_a_run_is_shared_and_never_one_for_a_single_test(
    monkeypatch: pytest.MonkeyPatch, scope: str, shared: bool
) -> None:
    given = Mock(side_effect=lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(fixture_stacks, "given", given)
    config: Any = SimpleNamespace(getoption=lambda _name: scope)
    request = SimpleNamespace(config=config, session=SimpleNamespace(items=[]))
    fixtures: Any = (pytest_plugin.stack, pytest_plugin.stack_per_test)

    for fixture in fixtures:
        list(fixture._get_wrapped_function()(request))

    assert [asked.kwargs["shared"] for asked in given.call_args_list] == [shared, False]
    assert pytest_plugin.fixture_scope("stack", config) == ("function" if scope == "test" else "session")


@pytest.mark.parametrize("worker", [True, False])
@pytest.mark.parametrize("scope", ["run", "worker", "test"])
@pytest.mark.parametrize("on_swarm", [True, False])
def test_data_is_reset_after_a_test_unless_other_workers_use_it_or_it_cannot_be(
    scope: str, worker: bool, on_swarm: bool
) -> None:
    config = SimpleNamespace(getoption=lambda _name: scope, **({"workerinput": {}} if worker else {}))
    stack = SimpleNamespace(on_swarm=on_swarm, reset=Mock())
    fixture: Any = pytest_plugin.clean_stack
    work = fixture._get_wrapped_function()(stack, SimpleNamespace(config=config))

    if (scope == "run" and worker) or on_swarm:
        with pytest.raises(pytest.fail.Exception, match="stackyard: clean_stack"):
            next(work)
        stack.reset.assert_not_called()
        return
    assert next(work) is stack
    stack.reset.assert_not_called()
    assert next(work, "over") == "over"
    stack.reset.assert_called_once_with()


@pytest.mark.parametrize("listens", [True, False])
def test_the_keeper_of_a_stack_is_started_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listens: bool) -> None:
    started = Mock()
    monkeypatch.setattr(Run, "_start", lambda _run, *given: started(*given))
    monkeypatch.setattr(shared, "_listens", lambda _base: listens)
    monkeypatch.setattr(shared, "ask", lambda _base, what: {"asked": what})
    wanted = StackDescription(folder="/")

    assert Run(folder=str(tmp_path), pid=1)._stack(tmp_path / "a", wanted) == {"asked": "stack"}
    assert [given.args for given in started.call_args_list] == [(tmp_path / "a", wanted)] * (not listens)

    monkeypatch.setattr(shared, "ask", lambda _base, _what: {"error": "it failed"})
    with pytest.raises(StackyardError, match="it failed"):
        Run(folder=str(tmp_path), pid=1)._stack(tmp_path / "a", wanted)


def test_a_keeper_that_is_gone_keeps_no_other_from_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.sock").touch()

    def ask(base: Path, what: str) -> dict[str, Any]:
        if base.name == "a":
            raise StackyardError("it has ended")
        return {"left": [f"{base.name} {what}"]} if base.name == "b" else {}

    monkeypatch.setattr(shared, "ask", ask)

    assert Run(folder=str(folder), pid=1).end() == ["b end"]
    assert not folder.exists()


def test_the_main_process_handles_sigterm_while_tests_run_and_ignores_it_while_it_removes(
    main: MainProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks: list[str] = []

    @contextlib.contextmanager
    def block(name: str) -> Iterator[None]:
        blocks.append(name)
        yield
        blocks.append(f"{name} no longer")

    monkeypatch.setattr(sigterm, "handled", lambda: block("handle"))
    monkeypatch.setattr(sigterm, "ignored", lambda: block("ignore"))
    session: Any = SimpleNamespace(exitstatus=OK)

    for work, name in ((main.pytest_runtestloop(), "handle"), (main.pytest_sessionfinish(session), "ignore")):
        next(work)
        assert blocks[-1] == name
        with pytest.raises(StopIteration):
            work.send("outcome")
        assert blocks[-1] == f"{name} no longer"


def test_all_workers_of_a_run_get_the_same_meeting_place() -> None:
    plugins = pytest.PytestPluginManager()
    nodes = [SimpleNamespace(config=SimpleNamespace(pluginmanager=plugins), workerinput={}) for _ in range(2)]

    for node in nodes:
        pytest_plugin.pytest_configure_node(node)

    first, second = (node.workerinput[pytest_plugin.RUN] for node in nodes)
    assert shared.FOLDER.fullmatch(Path(first["folder"]).name)
    assert first == second
    assert first["pid"] == os.getpid()


def test_a_start_first_removes_what_is_stale_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, told = Mock(return_value=Removal(left=[LEFT])), Mock()
    monkeypatch.setattr(removal, "sweep", sweep)
    monkeypatch.setattr("stackyard.running.open_book", lambda _settings, _engine: "book")
    monkeypatch.setattr("stackyard.running.lifecycle.start", lambda *given: given)
    monkeypatch.setattr("stackyard.running.Stack", lambda copy: copy)
    project: Any = "project"
    engine: Any = "engine"

    module: Any = importlib.import_module("stackyard.running")
    made = module._on_engine(project, engine, 5.0, None, resettable=True, tell=told)

    sweep.assert_called_once_with("book", "engine")
    told.assert_called_once_with(f"left by a run that was killed: {LEFT}")
    assert made[:3] == ("project", "book", "engine")
    assert (made[3].deadline, made[3].wait, made[3].resettable) == (5.0, None, True)
