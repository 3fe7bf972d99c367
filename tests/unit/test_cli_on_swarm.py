"""The commands of copies where the site is a Swarm: what they start, what they refuse, and what they print."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from invoke.exceptions import Exit
from test_swarm_leases import FakeSwarm, task

from stackyard.cleanup.outcome import Removal
from stackyard.cli import cleanup, copy_variables, on_swarm, options, reset
from stackyard.cli import copies as local
from stackyard.cli.json_output import CONSOLE, SHAPES
from stackyard.docker.swarm import Node
from stackyard.errors import LeftoversError, StackyardError
from stackyard.leases.owners import Owner
from stackyard.plan import Address
from stackyard.project import git_names
from stackyard.sites import Site
from stackyard.sites.swarm import copies, removal
from stackyard.sites.swarm.leases import LEASE_LABEL, Leases
from stackyard.stacks.starts.times import STANDING, Startup

if TYPE_CHECKING:
    from stackyard.docker.swarm import Task
    from stackyard.sites.swarm.leases import Lease


class Swarm:
    """Stands in for `copies.start`: a copy of one service, and what was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.removed = 0
        self.startup = Startup(seconds=2.5, by="swarm")
        self.lease = SimpleNamespace(
            id="l1", name="mine", title="mine (l1)", project="shop-0a1b2c", state="ready", owner=None,
            deadline=time.time() + 600, checkout="/shop",
        )  # fmt: skip
        self.failure: StackyardError | None = None

    def start(self, _project: object, _engine: object, **asked: Any) -> Any:
        self.asked.append(asked)
        web = Address(service="web", target=80, port=30001, protocol="tcp", scheme="http", host="10.0.0.1")
        return SimpleNamespace(
            lease=self.lease, startup=self.startup, addresses=[web], changes=["web runs twice"], down=self.down,
            grace={}, require_grace=lambda: None, swarm=SimpleNamespace(engine=None),
            port_variables=lambda found: {"WEB_PORT": str(found[0].port)},
        )  # fmt: skip

    def down(self) -> Removal:
        self.removed += 1
        if self.failure:
            raise self.failure
        return Removal()


@pytest.fixture
def swarm(monkeypatch: pytest.MonkeyPatch) -> Swarm:
    made = Swarm()
    monkeypatch.setattr(copies, "start", made.start)
    monkeypatch.setattr("stackyard.docker.Engine", contextlib.nullcontext)
    monkeypatch.setattr(options, "project", lambda *_: "shop")
    monkeypatch.setattr(Site, "find", lambda _text: SimpleNamespace(kind="swarm", use=lambda: None))
    monkeypatch.setattr("stackyard.cli.signals.orderly_end", contextlib.nullcontext)
    return made


def test_up_starts_a_copy_that_stays_and_says_where_it_answers(
    swarm: Swarm, capsys: pytest.CaptureFixture[str]
) -> None:
    local.up.body(None, name="mine", timeout="20", ttl="10m", queue_timeout="5", site="swarm")

    asked = swarm.asked[0]
    assert (asked["name"], asked["ttl"], asked["deadline"], asked["wait"]) == ("mine", 600.0, 20.0, 5.0)
    shown = capsys.readouterr()
    assert "http://10.0.0.1:30001" in shown.out
    assert "ready after 2.50 s; stays until" in shown.out
    assert shown.out.endswith("(10 min)\n'stackyard down --name mine --site swarm' removes it\n")
    assert shown.err == "note: web runs twice\n"


def test_a_quiet_start_prints_no_notes(swarm: Swarm, capsys: pytest.CaptureFixture[str]) -> None:
    local.up.body(None, name="mine", quiet=True, site="swarm")

    assert (len(swarm.asked), capsys.readouterr().err) == (1, "")


def test_a_copy_without_a_name_that_is_not_the_first_of_its_folder_is_a_warning(
    swarm: Swarm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = SimpleNamespace(checkout="/elsewhere")
    monkeypatch.setattr(git_names, "default_name", lambda _folder: None)
    monkeypatch.setattr(
        "stackyard.sites.swarm.leases.Leases",
        lambda _swarm: SimpleNamespace(leases=lambda: [swarm.lease, other, swarm.lease]),
    )

    local.up.body(None, site="swarm")

    assert "warning: this is copy 2 of this folder:" in capsys.readouterr().err


def test_up_tells_programs_the_same(swarm: Swarm, capsys: pytest.CaptureFixture[str]) -> None:
    swarm.startup = STANDING

    local.up.body(None, name="mine", site="swarm", json=True)

    told = json.loads(capsys.readouterr().out)
    assert (told["lease"], told["seconds"], told["by"]) == ("l1", 0.0, "none: it was running already")
    assert {*told} - {"state", "notes"} == {*CONSOLE["up"]["properties"]}
    assert {*told["ports"][0]} == {*CONSOLE["ports"]["properties"]["ports"]["items"]["properties"]}
    assert swarm.asked[0]["ttl"] == 3600.0


@pytest.mark.parametrize("code", [0, 3])
def test_run_removes_its_copy_and_ends_as_its_command_does(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    given: list[Any] = []

    def payload(*words: Any) -> int:
        given.append(words)
        return code

    monkeypatch.setattr(copy_variables, "run", payload)

    with pytest.raises(Exit) if code else contextlib.nullcontext():
        local.run.body(None, words=["pytest"], site="swarm")

    assert (given[0][0], given[0][1]["STACKYARD_LEASE"], swarm.removed) == (["pytest"], "l1", 1)
    assert (given[0][1]["WEB_PORT"], given[0][1]["COMPOSE_PROJECT_NAME"]) == ("30001", "l1")
    assert (swarm.asked[0]["name"], swarm.asked[0]["ttl"]) == (None, None)


@pytest.mark.parametrize(("code", "ends", "said"), [(0, 8, ""), (5, 5, "warning: web is left\n")])
def test_the_exit_code_of_a_command_counts_more_than_what_is_left_of_its_copy(
    swarm: Swarm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int, ends: int, said: str
) -> None:
    monkeypatch.setattr(copy_variables, "run", lambda *_: code)
    swarm.failure = LeftoversError("web is left")

    with pytest.raises(Exit) as caught:
        local.run.body(None, words=["pytest"], site="swarm")

    assert (caught.value.code, capsys.readouterr().err) == (ends, said)


def test_a_graceful_end_is_asked_for_at_the_start(swarm: Swarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_variables, "run", lambda *_: 0)

    local.run.body(None, words=["pytest"], graceful=True, site="swarm")
    local.up.body(None, name="mine", graceful=True, site="swarm")
    local.up.body(None, name="mine", site="swarm")

    assert [asked["graceful"] for asked in swarm.asked] == [True, True, False]


def test_run_leaves_a_copy_alone_that_stood_before(swarm: Swarm) -> None:
    swarm.startup = STANDING

    with pytest.raises(Exit, match=r"copy mine \(l1\) is up already"):
        local.run.body(None, words=["pytest"], name="mine", site="swarm")
    assert swarm.removed == 0


def test_what_a_swarm_does_not_have_is_refused_by_its_option(swarm: Swarm) -> None:
    with pytest.raises(Exit, match="--volumes: copies on a Swarm do not have this; leave it out"):
        cleanup.stale.body(None, volumes=True, site="swarm")
    for command, words in ((local.up, {"resettable": True}), (reset.reset, {})):
        with pytest.raises(
            Exit, match=r"a copy on a Swarm cannot be reset: .*; start another copy, or use a site with"
        ):
            command.body(None, site="swarm", **words)
    assert swarm.asked == []


@pytest.mark.usefixtures("swarm")
def test_a_clean_up_says_what_it_removed_as_on_one_engine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("stackyard.sites.swarm.removal.sweep", lambda _: ["mine"])
    monkeypatch.setattr(on_swarm, "_leases", lambda: contextlib.nullcontext((None, SimpleNamespace(swarm=None))))

    cleanup.stale.body(None, site="swarm")
    shown = capsys.readouterr().out
    cleanup.stale.body(None, site="swarm", json=True)
    told = json.loads(capsys.readouterr().out)

    assert shown.startswith("removed copy mine\n1 removed, 1 lease released in ")
    assert ({*told}, told["removed"]) == ({*SHAPES["cleanup.stale"]["anyOf"][0]["properties"]}, ["copy mine"])


@pytest.fixture
def book(swarm: Swarm, monkeypatch: pytest.MonkeyPatch) -> FakeSwarm:
    """A Swarm whose leases and containers are those of the test."""
    del swarm  # in place
    fake = FakeSwarm(members=[Node(id="n", name="n1", address="10.0.0.1", state="ready", availability="active")])
    found: Any = fake
    monkeypatch.setattr(on_swarm, "_leases", lambda: contextlib.nullcontext((found, Leases(found))))
    monkeypatch.setattr("stackyard.sites.swarm.copies.Swarm", lambda engine: engine)
    return fake


def test_a_clean_up_that_only_shows_removes_nothing(book: FakeSwarm, capsys: pytest.CaptureFixture[str]) -> None:
    made = Leases(cast("Any", book)).acquire("shop-0a1b2c", "mine", {})
    assert made
    Leases(cast("Any", book)).renew(made, -1)
    book.add("network", "half", {LEASE_LABEL: "shop-gone"})

    cleanup.stale.body(None, dry_run=True, site="swarm")
    shown = capsys.readouterr().out
    cleanup.stale.body(None, dry_run=True, site="swarm", json=True)
    rows = json.loads(capsys.readouterr().out)

    assert re.search(r"^mine \(shop-\w+\) +pid .* its lease has ended$", shown, re.MULTILINE)
    assert re.search(r"^shop-gone .* it has no lease$", shown, re.MULTILINE)
    assert [(row["lease"], {*row}) for row in rows] == [
        (name, {*SHAPES["cleanup.plan"]["items"]["properties"]}) for name in (made.id, "shop-gone")
    ]
    assert (len(book.items), book.removed) == (2, [])


SERVICES = {"web": {"containers": 2, "may_end": False, "checked": True}, "job": {"containers": 1, "may_end": True}}
WELL = [task("running"), task("running", slot=2), task("complete", service="job")]
ROW = {"health": "none", "exit_code": None, "restarts": 0, "node": "n1", "reason": ""}


def ready(book: FakeSwarm, tasks: list[Task]) -> Lease:
    leases = Leases(cast("Any", book))
    made = leases.acquire("shop-0a1b2c", "mine", {"folder": str(Path.cwd().resolve())})
    assert made
    book.running = tasks
    return leases.settle(made, 600, services=json.dumps(SERVICES))


@pytest.mark.parametrize("tasks", [WELL, [*WELL[:2], task("running", service="job")]])
def test_the_services_of_a_copy_that_is_well_are_listed_as_on_one_engine(
    book: FakeSwarm, capsys: pytest.CaptureFixture[str], tasks: list[Task]
) -> None:
    ready(book, tasks)

    local.ps.body(None, name="mine", site="swarm")
    shown = capsys.readouterr().out
    local.ps.body(None, name="mine", site="swarm", json=True)
    rows = json.loads(capsys.readouterr().out)["services"]

    assert re.findall(r"[\w]+(?: [a-z]+)?", shown.splitlines()[0]) == [
        "service", "status", "health", "exit code", "restarts", "node", "reason",
    ]  # fmt: skip
    here = CONSOLE["ps"]["anyOf"][1]["properties"]["services"]["items"]["properties"]
    assert {*rows[0]} == {*here, "node", "reason"}
    assert rows[1] == ROW | {"service": "web", "status": "running", "health": "healthy"}


@pytest.mark.parametrize(
    ("tasks", "row"),
    [
        (WELL[1:], {"service": "web", "status": "missing", "node": ""}),
        ([*WELL[:2]], {"service": "job", "status": "missing", "node": ""}),
        ([*WELL[1:], task("complete")], {"service": "web", "status": "complete", "exit_code": 0}),
        ([*WELL[1:], task("failed", exit_code=7, reason="why")],
         {"service": "web", "status": "failed", "exit_code": 7, "reason": "why"}),
        ([*WELL[1:], task("failed", reason="unhealthy container")],
         {"service": "web", "status": "failed", "health": "unhealthy", "reason": "unhealthy container"}),
        ([*WELL[1:], task("starting")], {"service": "web", "status": "starting", "health": "starting"}),
        ([*WELL[1:], task("failed"), task("starting")],
         {"service": "web", "status": "starting", "health": "starting", "restarts": 1}),
        ([*WELL[1:], task("running", node="left")],
         {"service": "web", "status": "lost", "node": "left", "reason": "its node has left the Swarm"}),
    ],
)  # fmt: skip
def test_a_copy_that_is_not_well_ends_with_exit_code_7_as_on_one_engine(
    book: FakeSwarm, capsys: pytest.CaptureFixture[str], tasks: list[Task], row: dict[str, Any]
) -> None:
    lease = ready(book, tasks)

    with pytest.raises(
        Exit, match=rf"^not every service of mine \({lease.id}\) is running and healthy; 'stackyard logs"
    ):
        local.ps.body(None, name="mine", site="swarm", json=True)
    with pytest.raises(Exit) as caught:
        local.ps.body(None, name=lease.id, site="swarm")

    assert caught.value.code == 7
    out = capsys.readouterr().out
    assert ROW | row in json.loads(out[: out.index("\n}\n") + 3])["services"]


def test_a_copy_that_only_starts_is_not_well(book: FakeSwarm) -> None:
    Leases(cast("Any", book)).acquire("shop-0a1b2c", "mine", {"folder": str(Path.cwd().resolve())})

    with pytest.raises(Exit) as caught:
        local.ps.body(None, name="mine", site="swarm")

    assert caught.value.code == 7


def test_a_name_means_a_copy_of_this_folder_and_an_id_any_copy_as_on_one_engine(
    book: FakeSwarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "compose.yaml").touch()
    monkeypatch.chdir(tmp_path)
    leases = Leases(cast("Any", book))
    made = leases.acquire("other-0a1b2c", "theirs", {"folder": "/srv/other"})
    assert made
    before = [*book.items]

    for words, says in (
        (
            {"name": "theirs"},
            rf"no copy of this folder's project has the name 'theirs'; give an id to use {made.id} of /srv",
        ),
        ({}, "no copy of this folder's project is up; 'stackyard up --site swarm' starts one"),
    ):
        with pytest.raises(Exit, match=says) as caught:
            local.down.body(None, site="swarm", **words)
        assert (caught.value.code, [*book.items]) == (5, before)
    local.down.body(None, all=True, site="swarm")
    assert [*book.items] == before
    capsys.readouterr()
    local.down.body(None, name=made.id, site="swarm")

    assert (book.items, capsys.readouterr().out[:21]) == ({}, f"theirs ({made.id[:13]}")


def test_one_copy_that_cannot_be_removed_does_not_keep_the_others_from_their_end(
    book: FakeSwarm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(removal, "REMOVAL_TIMEOUT_S", 0.1)
    leases = Leases(cast("Any", book))
    made = [leases.acquire("shop-0a1b2c", name, {"folder": str(Path.cwd().resolve())}) for name in ("a", "b", "c")]
    stuck = made[1]
    assert stuck
    monkeypatch.setattr(book, "tasks", lambda label: [task("running")] if label == stuck.label else [])

    with pytest.raises(Exit, match="copy b keeps its lease: container c left after") as caught:
        local.down.body(None, all=True, site="swarm", json=True)

    assert caught.value.code == 8
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["leases"]] == ["a", "c"]
    assert [lease.name for lease in leases.leases()] == ["b"]


@pytest.mark.parametrize(
    ("state", "boot", "says"),
    [("ready", "", "stays as long as pid "), ("ready", "another", "stays as long as its process on another host runs"),
     ("ending", "", "is being removed")],
)  # fmt: skip
def test_the_list_says_how_long_a_copy_stays(state: str, boot: str, says: str) -> None:
    owner = Owner.current()
    lease: Any = SimpleNamespace(state=state, owner=replace(owner, boot=boot or owner.boot), deadline=1.0)

    assert on_swarm._until(lease).startswith(says)


@pytest.mark.usefixtures("swarm")
def test_exec_without_a_command_is_refused_as_on_one_engine() -> None:
    with pytest.raises(Exit, match=r"which command\? write it after"):
        local.exec_.body(None, service="web", site="swarm")


def test_every_command_takes_there_only_what_it_takes_here() -> None:
    here = {**local.every_task(), "exec_": local.exec_, "stale": cleanup.stale}
    for name, known in on_swarm.KNOWN.items():
        assert known <= {*inspect.signature(here[name].body).parameters}, name
