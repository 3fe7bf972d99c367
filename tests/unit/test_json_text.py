"""JSON that Python itself cannot read, or that is nested too deeply, counts as damaged wherever it comes from."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

import pytest
from fake_project import FakeDocker, spoken

import stackyard
from stackyard._util import json_text
from stackyard._util.json_text import DEEPEST, TooDeepError
from stackyard.bench.history import History
from stackyard.docker.client_settings import read_object
from stackyard.docker.compose import start_at_once
from stackyard.docker.fast_start import plugin, templates
from stackyard.docker.lease_book import open_book
from stackyard.errors import ConfigError, ImageError, StackyardError, UsageError
from stackyard.images import names, recipe_file, sources
from stackyard.leases.records import MODEL
from stackyard.probes.url_probes import WebSocketProbe
from stackyard.project import Project
from stackyard.project.model import read_model
from stackyard.running import shared
from stackyard.sites import site_list
from stackyard.sites.swarm import copies as swarm_copies
from stackyard.sites.swarm import leases as swarm_leases
from stackyard.stacks import builds
from stackyard.stacks.copies import lifecycle
from stackyard.stacks.data.records import NOTE, Note, _sum
from stackyard.stacks.readiness import waiting
from stackyard.stacks.reaper_files import Post
from stackyard.stacks.starts.request import CopyRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_engine import FakeEngine

    from stackyard.docker import Engine
    from stackyard.leases import Lease

SOURCE: Final = Path(stackyard.__file__).parent
DAMAGED: Final = {
    "brackets": "[" * 200_000 + "]" * 200_000,
    "objects": '{"a":' * 200_000 + "1" + "}" * 200_000,
    "levels": '{"version": ' + "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1) + "}",
    "digits": '{"version": ' + "9" * 10_000 + "}",
    "half": '{"version": ',
}
# what these read, they have written themselves in the same moment, or a program of theirs has
OWN: Final = {
    "_util/json_text.py", "bench/commands.py", "bench/leases.py", "bench/loads.py", "bench/port_pickers.py",
    "bench/projects.py", "bench/records.py", "checks/composition.py", "checks/dockerfiles.py", "cli/pipelines/jobs.py",
    "docker/client_settings.py", "docker/fast_start/translation.py", "project/project.py", "report/completion.py",
    "report/inputs.py", "running/keeper.py", "sites/swarm/translation.py",
}  # fmt: skip

damaged = pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)


@damaged
def test_what_python_cannot_read_is_one_kind_of_error(text: str) -> None:
    for given in (text, text.encode()):
        with pytest.raises(ValueError, match=r"^[^\n]{1,200}$"):
            json_text.read(given)


def test_what_is_nested_as_deeply_as_allowed_is_read() -> None:
    content: Any = 1
    for level in range(DEEPEST):
        content = [content] if level % 2 else {"a": content, "b": 0}

    assert json_text.read(json.dumps(content)) == content
    with pytest.raises(TooDeepError, match=r"^nested more than 100 levels deep$"):
        json_text.read(json.dumps([content]))


def test_json_from_outside_is_read_in_one_way() -> None:
    found = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "loads" and ast.unparse(node) == "json.loads"
    }

    assert found == OWN


@damaged
def test_a_damaged_note_counts_as_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "note.json"
    file.write_text(text)
    (tmp_path / "reaper.json").write_text(text)

    assert builds._known(file) == {}
    assert names._read(file) == {}
    assert sources._remembered(file, 0.0) is None
    assert plugin._noted(file).get("version") is None
    assert templates._load(file) == (False, None)
    assert read_object(file).get("Name") is None
    assert Post(tmp_path).read() is None


@damaged
def test_a_damaged_context_of_docker_is_left_out(tmp_path: Path, text: str) -> None:
    for name, content in (("good", '{"Name": "good"}'), ("bad", text)):
        (tmp_path / f"contexts/meta/{name}").mkdir(parents=True)
        (tmp_path / f"contexts/meta/{name}/meta.json").write_text(content)

    assert site_list.contexts({"DOCKER_CONFIG": str(tmp_path)}) == ["good"]


@damaged
def test_a_damaged_lease_of_a_swarm_is_empty(text: str) -> None:
    assert swarm_leases._data(text.encode()).get("ports") is None
    assert swarm_copies._read(text, dict[str, str]) is None


@damaged
def test_an_answer_of_a_websocket_that_cannot_be_read_is_a_wrong_one(text: str) -> None:
    probe = WebSocketProbe(service="web", url="ws://127.0.0.1:1/", message={"a": 1}, expected={"a": 1})

    assert not probe._fits(text)


@damaged
def test_a_damaged_line_of_the_history_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "history.jsonl").write_text(f"{text}\n")

    with pytest.raises(UsageError, match=r"^history\.jsonl: line 1 is no benchmark run \(.*\); remove it$"):
        History(file=tmp_path / "history.jsonl").runs()


@damaged
def test_a_damaged_list_of_images_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / recipe_file.FILE).parent.mkdir(parents=True)
    (tmp_path / recipe_file.FILE).write_text(text)

    with pytest.raises(ImageError, match=rf"^{recipe_file.FILE}: "):
        recipe_file.read(tmp_path)


@pytest.mark.parametrize("value", ["9" * 10_000, "2026-99-99"], ids=["digits", "date"])
def test_yaml_that_python_cannot_read_is_no_compose_file(tmp_path: Path, value: str) -> None:
    (tmp_path / "compose.yml").write_text(f"services: {{}}\nx-value: {value}\n")

    with pytest.raises(ConfigError, match=r"must be a Compose file"):
        start_at_once(tmp_path / "compose.yml", tmp_path)


def test_services_that_yaml_takes_for_numbers_start_at_once_too(tmp_path: Path) -> None:
    services = "{1: {depends_on: [db]}, web: {depends_on: [db]}, db: {}}"
    (tmp_path / "compose.yml").write_text(f"services: {services}\n")

    assert len(start_at_once(tmp_path / "compose.yml", tmp_path).read_text().splitlines()) == 3


def test_compose_files_that_are_nested_too_deeply_are_the_user_s_to_change() -> None:
    deep = json.dumps({"x-deep": json.loads("[" * DEEPEST + "]" * DEEPEST)})

    with pytest.raises(UsageError, match=r"^the Compose files are nested more than 100 levels deep$"):
        read_model(deep)


@damaged
def test_a_keeper_that_answers_nothing_that_can_be_read_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    said = iter([text.encode(), b""])

    class Line:
        def __enter__(self) -> Any:
            nothing = lambda _given: None  # noqa: E731
            return SimpleNamespace(connect=nothing, sendall=nothing, recv=lambda _size: next(said))

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr("stackyard.running.shared.socket.socket", lambda *_: Line())

    with pytest.raises(StackyardError, match="the process that keeps the stack of this run has ended"):
        shared.ask(tmp_path / "base", "stack")


@pytest.fixture
def begin(
    folder: Path, engine: Engine, fake_engine: FakeEngine, free_host: None, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], lifecycle.Copy]:
    """Return a function that starts the copy."""
    del free_host
    FakeDocker(fake_engine).install(monkeypatch)
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(folder.parent / "state"))

    async def ready(*_: Any, **__: Any) -> None: ...

    monkeypatch.setattr(waiting, "wait", ready)
    monkeypatch.setattr("stackyard.stacks.copies.lifecycle.spoken", spoken)
    book = open_book(None, engine)
    return lambda: lifecycle.start(Project.find(folder, environment={}), book, engine, CopyRequest(name="mine", ttl=60))


@pytest.mark.parametrize("text", [*DAMAGED.values(), "[]", "{}", '{"services": {}}'])
def test_a_copy_with_a_damaged_model_says_so_and_stays(
    begin: Callable[[], lifecycle.Copy], fake_engine: FakeEngine, text: str
) -> None:
    copy = begin()
    before = {*fake_engine.containers}
    (copy.lease.directory / MODEL).write_text(text)

    for use in (lambda: lifecycle.Copy(copy.lease, copy.book, copy.engine).addresses, begin):
        with pytest.raises(UsageError, match=r"model\.json cannot be read; end the copy .* and start it again$"):
            use()

    assert {*fake_engine.containers} == before
    assert [one.id for one in copy.book.leases()] == [copy.lease.id]


@damaged
def test_a_damaged_note_for_resets_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / NOTE).write_bytes(b"%s\n%s" % (_sum(text.encode()), text.encode()))
    lease = cast("Lease", SimpleNamespace(directory=tmp_path, title="mine", id="l1"))

    with pytest.raises(UsageError, match=rf"^copy mine: {tmp_path / NOTE} cannot be read"):
        Note.read(lease)
