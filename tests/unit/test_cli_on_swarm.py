"""The commands of copies where the site is a Swarm: what they start, what they refuse, and what they print."""

from __future__ import annotations

import contextlib
import inspect
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
from invoke.exceptions import Exit

from stackyard.cli import cleanup, copy_variables, on_swarm, options, reset
from stackyard.cli import copies as local
from stackyard.cli.json_output import CONSOLE, SHAPES
from stackyard.plan import Address
from stackyard.sites import Site
from stackyard.sites.swarm import copies
from stackyard.stacks.starts.times import STANDING, Startup


class Swarm:
    """Stands in for `copies.start`: a copy of one service, and what was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.removed = 0
        self.startup = Startup(seconds=2.5, by="swarm")
        self.lease = SimpleNamespace(
            id="l1", name="mine", title="mine (l1)", project="shop-0a1b2c", folder="/shop", state="ready", owner=None,
            deadline=time.time() + 600,
        )  # fmt: skip

    def start(self, _project: object, _engine: object, **asked: Any) -> Any:
        self.asked.append(asked)
        web = Address(service="web", target=80, port=30001, protocol="tcp", scheme="http", host="10.0.0.1")
        return SimpleNamespace(
            lease=self.lease, startup=self.startup, addresses=[web], changes=["web runs twice"], down=self.down,
            grace={}, require_grace=lambda: None,
        )  # fmt: skip

    def down(self) -> None:
        self.removed += 1


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
    assert (swarm.asked[0]["name"], swarm.asked[0]["ttl"]) == (None, None)


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
    with pytest.raises(Exit, match="--dry-run: copies on a Swarm do not have this; leave it out"):
        cleanup.stale.body(None, dry_run=True, site="swarm")
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

    cleanup.stale.body(None, site="swarm")
    shown = capsys.readouterr().out
    cleanup.stale.body(None, site="swarm", json=True)
    told = json.loads(capsys.readouterr().out)

    assert shown.startswith("removed copy mine\n1 removed, 1 lease released in ")
    assert ({*told}, told["removed"]) == ({*SHAPES["cleanup.stale"]["anyOf"][0]["properties"]}, ["copy mine"])


@pytest.mark.usefixtures("swarm")
def test_exec_without_a_command_is_refused_as_on_one_engine() -> None:
    with pytest.raises(Exit, match=r"which command\? write it after"):
        local.exec_.body(None, service="web", site="swarm")


def test_every_command_takes_there_only_what_it_takes_here() -> None:
    here = {**local.every_task(), "exec_": local.exec_, "stale": cleanup.stale}
    for name, known in on_swarm.KNOWN.items():
        assert known <= {*inspect.signature(here[name].body).parameters}, name
