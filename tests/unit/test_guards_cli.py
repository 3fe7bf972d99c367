"""What the commands of copies remove, each rule by itself: a quick test for each guard in front of a loss."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from invoke.exceptions import Exit

from stackyard.cleanup import removal
from stackyard.cleanup.outcome import Removal
from stackyard.cli import copies, copy_variables, on_swarm, options
from stackyard.errors import LeaseNotFoundError, UsageError
from stackyard.sites import Site

if TYPE_CHECKING:
    from collections.abc import Iterator


class Copy:
    """Stands in for a copy: how long its start took, and how it was ended."""

    def __init__(self) -> None:
        self.seconds = 2.5
        self.lease = SimpleNamespace(title="mine (1)", id="1")
        self.down = Mock(return_value=Removal())


@pytest.fixture
def copy(monkeypatch: pytest.MonkeyPatch) -> Copy:
    made = Copy()

    @contextlib.contextmanager
    def started(*_: object, **__: object) -> Iterator[Copy]:
        yield made

    monkeypatch.setattr(copies, "_started", started)
    monkeypatch.setattr(copies, "_import_early", lambda: None)
    monkeypatch.setattr(copies, "_variables", lambda _copy: {})
    monkeypatch.setattr(copies, "at", lambda _site: None)
    monkeypatch.setattr(options, "project", lambda *_: "shop")
    monkeypatch.setattr(Site, "find", lambda _text: SimpleNamespace(kind="local", use=lambda: None))
    monkeypatch.setattr("stackyard.cli.signals.orderly_end", contextlib.nullcontext)
    monkeypatch.setattr(copy_variables, "run", Mock(return_value=0))
    return made


def test_run_leaves_a_copy_alone_that_was_up_before(copy: Copy) -> None:
    copy.seconds = 0.0

    with pytest.raises(Exit, match=r"^copy mine .1. is up already; run the command with another --name"):
        copies.run.body(None, words=["true"])

    copy.down.assert_not_called()


@pytest.mark.parametrize(("words", "graceful"), [({}, False), ({"graceful": True}, True)])
@pytest.mark.parametrize("code", [0, 7])
def test_run_ends_its_copy_as_it_was_asked_to_however_its_command_ended(
    copy: Copy, monkeypatch: pytest.MonkeyPatch, words: Any, graceful: bool, code: int
) -> None:
    monkeypatch.setattr(copy_variables, "run", Mock(return_value=code))

    with pytest.raises(Exit) if code else contextlib.nullcontext():
        copies.run.body(None, words=["true"], **words)

    copy.down.assert_called_once()
    assert copy.down.call_args.kwargs["graceful"] is graceful


def test_run_ends_its_copy_though_its_command_cannot_be_run(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_variables, "run", Mock(side_effect=UsageError("no such program")))

    with pytest.raises(Exit, match="no such program"):
        copies.run.body(None, words=["true"])

    copy.down.assert_called_once()


@pytest.mark.parametrize(
    ("words", "taken"),
    [({}, ["chosen "]), ({"name": "mine"}, ["chosen mine"]), ({"all": True}, ["here"])],
)  # fmt: skip
@pytest.mark.parametrize("graceful", [True, False])
@pytest.mark.usefixtures("copy")
def test_down_takes_the_copy_that_is_named_or_all_of_this_folder(
    monkeypatch: pytest.MonkeyPatch, words: Any, taken: list[str], graceful: bool
) -> None:
    remove = Mock(return_value=[])
    monkeypatch.setattr(copies, "opened_at", lambda _site: contextlib.nullcontext(("book", "engine")))
    monkeypatch.setattr(copies, "of_this_folder", lambda _book: ["here"])
    monkeypatch.setattr(copies, "chosen", lambda _book, name: f"chosen {name}")
    monkeypatch.setattr(copies, "_removed", Mock())
    monkeypatch.setattr(removal, "remove_leases", remove)

    copies.down.body(None, graceful=graceful, **words)

    assert remove.call_args.args == ("book", "engine", taken)
    assert remove.call_args.kwargs["graceful"] is graceful


@pytest.mark.usefixtures("copy")
def test_down_refuses_a_name_together_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "opened_at", lambda _site: pytest.fail("opened"))

    with pytest.raises(Exit, match="--all removes every copy"):
        copies.down.body(None, name="mine", all=True)


# on a Swarm


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the copies that were removed; this folder's project is `shop`."""
    names: list[str] = []

    def of(_engine: object, name: str) -> Any:
        lease = SimpleNamespace(name=name, id=name, project="", state="ready", deadline=1.0)

        def down() -> Removal:
            names.append(name)
            return Removal()

        return SimpleNamespace(lease=lease, down=down)

    leases = [SimpleNamespace(name=name, project=project) for name, project in (("mine", "shop"), ("theirs", "other"))]
    monkeypatch.setattr(on_swarm, "_leases", lambda: contextlib.nullcontext(("engine", leases)))
    monkeypatch.setattr(on_swarm, "_project", lambda: "shop")
    monkeypatch.setattr("stackyard.sites.swarm.copies.Copy", SimpleNamespace(of=of))
    return names


@pytest.mark.parametrize(
    ("words", "names"),
    [({}, ["mine"]), ({"all": True}, ["mine"]), ({"name": "mine"}, ["mine"]), ({"name": "theirs"}, ["theirs"])],
)
def test_down_on_a_swarm_takes_the_copy_that_is_named_or_those_of_this_folder(
    ended: list[str], words: Any, names: list[str]
) -> None:
    on_swarm._down(**words)

    assert ended == names


def test_down_on_a_swarm_refuses_a_name_together_with_all(ended: list[str]) -> None:
    with pytest.raises(UsageError, match="--all removes every copy"):
        on_swarm._down(name="mine", all=True)

    assert ended == []


@pytest.mark.parametrize(("project", "says"), [("none", "^0 copies"), ("both", "^2 copies .* name one: mine, theirs")])
def test_down_on_a_swarm_without_a_name_takes_the_only_copy(
    ended: list[str], monkeypatch: pytest.MonkeyPatch, project: str, says: str
) -> None:
    leases = [SimpleNamespace(name=name, project="both") for name in ("theirs", "mine")]
    monkeypatch.setattr(on_swarm, "_leases", lambda: contextlib.nullcontext(("engine", leases)))
    monkeypatch.setattr(on_swarm, "_project", lambda: project)

    with pytest.raises(LeaseNotFoundError, match=says):
        on_swarm._down()

    assert ended == []
