"""What commands remove, each rule by itself: a quick test for each guard in front of a loss."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from invoke.exceptions import Exit

from stackyard.cleanup import removal
from stackyard.cleanup.outcome import Leftover, Removal
from stackyard.cli import cleanup, copies, copy_variables, on_swarm, options, reset, site, up
from stackyard.errors import BookError, LeaseNotFoundError, LeftoversError, UsageError
from stackyard.images.unused import Clearance
from stackyard.project import git_names
from stackyard.sites import Site
from stackyard.stacks.copies.lifecycle import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator


class Copy:
    """Stands in for a copy: how long its start took, and how it was ended."""

    def __init__(self) -> None:
        self.seconds = 2.5
        self.lease = SimpleNamespace(title="mine (1)", id="1")
        self.down = Mock(return_value=Removal())
        self.looked_at = Mock()  # for services that have ended while a command ran


@pytest.fixture
def copy(monkeypatch: pytest.MonkeyPatch) -> Copy:
    made = Copy()

    @contextlib.contextmanager
    def started(*_: object, **__: object) -> Iterator[Copy]:
        yield made

    monkeypatch.setattr(copies, "_started", started)
    monkeypatch.setattr("stackyard.cli.copy_output.tell_of_lost", made.looked_at)
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

    copy.looked_at.assert_called_once_with(copy)
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
    remove = Mock(return_value=[Removal()])
    monkeypatch.setattr(copies, "opened_at", lambda _site: contextlib.nullcontext(("book", "engine")))
    monkeypatch.setattr(copies, "of_this_folder", lambda _book: [SimpleNamespace(title="here")])
    monkeypatch.setattr(copies, "chosen", lambda _book, name: SimpleNamespace(title=f"chosen {name}"))
    monkeypatch.setattr(copies, "copy_output", Mock())
    monkeypatch.setattr(removal, "remove_leases", remove)

    copies.down.body(None, graceful=graceful, **words)

    assert remove.call_args.args[:2] == ("book", "engine")
    assert [lease.title for lease in remove.call_args.args[2]] == taken
    assert remove.call_args.kwargs["graceful"] is graceful


@pytest.mark.usefixtures("copy")
def test_down_refuses_a_name_together_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "opened_at", lambda _site: pytest.fail("opened"))

    with pytest.raises(Exit, match="--all removes every copy"):
        copies.down.body(None, name="mine", all=True)


# on a Swarm


def leased(name: str, folder: Path) -> Any:
    title = f"{name} (id-of-{name})"
    return SimpleNamespace(
        name=name, parallel_id=name, id=f"id-of-{name}", title=title, checkout=str(folder), is_copy=True
    )  # fmt: skip


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The names of the copies that were removed; this folder has the copy `mine`, another one `theirs`."""
    names: list[str] = []

    def of(_engine: object, name: str) -> Any:
        lease = SimpleNamespace(
            name=name, id=name, title=name, project="", checkout="", state="ready", deadline=1.0
        )  # fmt: skip

        def down() -> Removal:
            names.append(name)
            return Removal()

        return SimpleNamespace(lease=lease, down=down, grace={})

    (tmp_path / "compose.yaml").touch()
    monkeypatch.chdir(tmp_path)
    leases = [leased("mine", tmp_path), leased("theirs", tmp_path / "other")]
    monkeypatch.setattr(
        on_swarm, "_leases", lambda: contextlib.nullcontext(("engine", SimpleNamespace(leases=lambda: leases)))
    )
    monkeypatch.setattr("stackyard.sites.swarm.copies.Copy", SimpleNamespace(of=of))
    return names


@pytest.mark.parametrize(
    ("words", "names"),
    [({}, ["mine"]), ({"all": True}, ["mine"]), ({"name": "mine"}, ["mine"]), ({"name": "id-of-theirs"}, ["theirs"])],
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


@pytest.mark.parametrize(
    ("names", "name", "error", "says"),
    [
        ((), "", LeaseNotFoundError, "no copy of this folder's project is up"),
        (("theirs", "mine"), "", UsageError, "this project has 2 copies; choose one with --name: theirs .*, mine"),
        (("mine",), "theirs", LeaseNotFoundError, "no copy has the name or id 'theirs'"),
    ],
)
def test_down_on_a_swarm_takes_no_copy_unless_it_is_clear_which(
    ended: list[str], monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], name: str, error: Any, says: str
) -> None:
    leases = [leased(one, Path.cwd()) for one in names]
    monkeypatch.setattr(git_names, "default_name", lambda _folder: None)
    monkeypatch.setattr(
        on_swarm, "_leases", lambda: contextlib.nullcontext(("engine", SimpleNamespace(leases=lambda: leases)))
    )

    with pytest.raises(error, match=says):
        on_swarm._down(name)

    assert ended == []


def test_down_on_a_swarm_takes_no_copy_of_another_folder_by_its_name(ended: list[str]) -> None:
    with pytest.raises(LeaseNotFoundError, match="no copy of this folder's project has the name 'theirs'; give an id"):
        on_swarm._down("theirs")

    assert ended == []


# the data of a copy


@pytest.mark.parametrize(
    ("words", "services", "deadline"),
    [
        ({}, (), DEADLINE), ({"service": ["db"]}, ("db",), DEADLINE),
        ({"service": ["db", "web"], "timeout": "7s"}, ("db", "web"), 7.0),
    ],
)  # fmt: skip
def test_reset_takes_the_services_that_are_named_of_the_copy_that_is_named_at_its_site(
    monkeypatch: pytest.MonkeyPatch, words: Any, services: tuple[str, ...], deadline: float
) -> None:
    reset_copy, made = Mock(), Mock()
    made.return_value = SimpleNamespace(lease=SimpleNamespace(title="mine (1)"), reset=reset_copy)
    reset_copy.return_value = SimpleNamespace(services=[], seconds=1.0, to_json=dict)
    monkeypatch.setattr(reset, "named", lambda _site: False)
    monkeypatch.setattr(reset, "opened_at", lambda site: contextlib.nullcontext((f"book of {site}", "engine")))
    monkeypatch.setattr(reset, "chosen", lambda book, name: f"{name} in {book}")
    monkeypatch.setattr(reset, "identified", lambda _lease: {})
    monkeypatch.setattr("stackyard.stacks.copies.lifecycle.Copy", made)

    reset.reset.body(None, name="mine", site="context:x", **words)

    made.assert_called_once_with("mine in book of context:x", "book of context:x", "engine")
    reset_copy.assert_called_once_with(*services, deadline=deadline)


# clean-ups


@pytest.fixture
def removed(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> dict[str, Mock]:
    """What each clean-up would remove."""
    del copy  # in place
    made = {name: Mock(return_value=Removal()) for name in ("sweep", "remove_all")}
    for name, remove in made.items():
        monkeypatch.setattr(removal, name, remove)
    made["images"] = Mock(return_value=Clearance(removed=(), left=(), freed=0))
    monkeypatch.setattr("stackyard.images.unused.remove", made["images"])
    monkeypatch.setattr("stackyard.stacks.unused_images.all_sizes", lambda *_: [])
    monkeypatch.setattr("stackyard.stacks.unused_images.guard", lambda *given: ("guard", *given))
    monkeypatch.setattr(cleanup, "opened_at", lambda site: contextlib.nullcontext((f"book of {site}", "engine")))
    monkeypatch.setattr(cleanup, "opened", lambda: contextlib.nullcontext(("book", "engine")))
    monkeypatch.setattr(cleanup, "_plan", Mock())
    monkeypatch.setattr(cleanup, "at", Mock())
    return made


@pytest.mark.parametrize("volumes", [True, False])
def test_a_clean_up_of_the_dead_takes_volumes_only_if_asked_to_and_at_its_own_site(
    removed: dict[str, Mock], volumes: bool
) -> None:
    cleanup.stale.body(None, volumes=volumes, site="context:x")

    removed["sweep"].assert_called_once_with("book", "engine", keep_volumes=not volumes)
    cleanup.at.assert_called_once_with("context:x")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("yes", "answer", "goes"), [(True, False, True), (False, True, True), (False, False, False), (True, True, True)]
)
@pytest.mark.parametrize("volumes", [True, False])
def test_everything_is_removed_only_after_a_yes(
    removed: dict[str, Mock], monkeypatch: pytest.MonkeyPatch, yes: bool, answer: bool, goes: bool, volumes: bool
) -> None:
    monkeypatch.setattr(cleanup, "confirmed", lambda _question: answer)

    with contextlib.nullcontext() if goes else pytest.raises(Exit, match="nothing removed"):
        cleanup.everything.body(None, yes=yes, volumes=volumes)

    assert [given.kwargs for given in removed["remove_all"].call_args_list] == [{"keep_volumes": not volumes}] * goes


@pytest.mark.parametrize(
    ("found", "yes", "answer", "goes"),
    [
        (["a"], True, False, True), (["a"], False, True, True), (["a"], False, False, False), ([], False, False, True),
        ([], True, False, True),
    ],
)  # fmt: skip
def test_images_are_removed_only_after_a_yes_unless_there_are_none(
    removed: dict[str, Mock],
    monkeypatch: pytest.MonkeyPatch,
    found: list[str],
    yes: bool,
    answer: bool,
    goes: bool,
) -> None:
    monkeypatch.setattr(cleanup, "confirmed", lambda _question: answer)
    monkeypatch.setattr(cleanup, "_surplus", lambda *_: found)

    with contextlib.nullcontext() if goes else pytest.raises(Exit, match="nothing removed"):
        cleanup.images.body(None, yes=yes, site="context:x")

    guard = ("guard", "book of context:x", "engine")
    assert [given.args for given in removed["images"].call_args_list] == [("engine", found, guard)] * goes


@pytest.mark.parametrize("command", [cleanup.stale, cleanup.everything, cleanup.images])
def test_a_dry_run_removes_nothing_even_with_yes(
    removed: dict[str, Mock], monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    monkeypatch.setattr(cleanup, "_surplus", lambda *_: [])

    command.body(None, dry_run=True, **({} if command is cleanup.stale else {"yes": True}))

    assert [name for name, remove in removed.items() if remove.called] == []


@pytest.mark.parametrize("environments", [True, False])
def test_images_of_the_platform_are_surplus_only_where_it_is_and_only_if_no_lease_names_them(
    monkeypatch: pytest.MonkeyPatch, environments: bool
) -> None:
    def surplus(name: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, size=1)

    def variables(**found: str) -> SimpleNamespace:
        return SimpleNamespace(variables=lambda: found)

    def damaged() -> dict[str, str]:
        raise BookError("damaged")

    leases = [variables(STACKYARD_IMAGE_REDIS="kept", OTHER="no image"), SimpleNamespace(variables=damaged)]
    book: Any = SimpleNamespace(leases=lambda: leases)
    find = Mock(return_value=[surplus("own")])
    monkeypatch.setattr("stackyard.docker.images.disk_use", lambda _engine: (0, ["rows"]))
    monkeypatch.setattr("stackyard.stacks.unused_images.find", lambda *_: [surplus("copy's")])
    monkeypatch.setattr("stackyard.images.unused.find", find)
    monkeypatch.setattr("stackyard.project.environments.roots.in_environments", lambda: environments)
    engine: Any = object()

    found = cleanup._surplus(book, engine)

    assert [item.name for item in found] == ["copy's", "own"][: 1 + environments]
    assert [given.kwargs for given in find.call_args_list] == [{"keep": {"kept"}}] * environments


@pytest.mark.parametrize("action", ["registry", "reaper"])
@pytest.mark.parametrize(("yes", "answer", "goes"), [(True, False, True), (False, True, True), (False, False, False)])
def test_what_runs_on_a_swarm_is_removed_only_after_a_yes(
    monkeypatch: pytest.MonkeyPatch, action: str, yes: bool, answer: bool, goes: bool
) -> None:
    asked = {"registry": Mock(return_value=[]), "reaper": Mock(return_value=[])}
    monkeypatch.setattr("stackyard.sites.swarm.registry.remove", asked["registry"])
    monkeypatch.setattr("stackyard.sites.swarm.reaper_service.remove", asked["reaper"])
    monkeypatch.setattr(site, "_swarm", lambda _what, where: contextlib.nullcontext(where))
    monkeypatch.setattr(site, "confirmed", lambda _question: answer)

    with contextlib.nullcontext() if goes else pytest.raises(Exit, match="nothing removed"):
        site.site.body(None, action=action, site="swarm", remove=True, yes=yes)

    assert {name: [given.args for given in remove.call_args_list] for name, remove in asked.items()} == {
        name: [("swarm",)] * (goes and name == action) for name in asked
    }


@pytest.mark.parametrize("volumes", [True, False])
@pytest.mark.parametrize(("command", "listed"), [("", "ab"), ("stale", "a"), ("all", "b")])
def test_a_plan_is_of_what_the_removal_would_take(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], volumes: bool, command: str, listed: str
) -> None:
    found = [
        SimpleNamespace(command=one, to_json=Mock(return_value=name)) for one, name in (("stale", "a"), ("all", "b"))
    ]
    made = Mock(return_value=found)
    book = SimpleNamespace(leases=list)
    monkeypatch.setattr("stackyard.cleanup.plan.plan", made)
    monkeypatch.setattr(cleanup, "opened", lambda: contextlib.nullcontext((book, "engine")))
    monkeypatch.setattr(cleanup, "_plan_table", lambda *_: "")

    cleanup._plan(volumes=volumes, as_json=True, command=command)

    made.assert_called_once_with(book, "engine", keep_volumes=not volumes)
    assert json.loads(capsys.readouterr().out) == [*listed]


def test_what_is_left_of_a_copy_fails_the_command(copy: Copy) -> None:
    left = Removal(left=[Leftover(kind="network", name="n", lease="1", reason="busy")])
    copy.down.return_value = left

    leases: Any = [SimpleNamespace(id="1"), SimpleNamespace(id="2")]

    with pytest.raises(LeftoversError, match=r"network n: busy; then 'stackyard down 2'"):
        copies._check(leases, [Removal(), left])
    with pytest.raises(Exit, match="network n") as failed:
        copies.run.body(None, words=["true"])
    assert failed.value.code == LeftoversError.exit_code


def test_a_command_asks_the_engine_of_its_site(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Mock()
    monkeypatch.setattr(Site, "find", Mock(return_value=found))

    assert site.at("context:x") is found
    assert [given[0] for given in found.method_calls] == ["require_engine", "use"]


@pytest.mark.parametrize(("kind", "used"), [("swarm", True), ("local", False), ("context", False)])
def test_a_swarm_s_commands_ask_its_manager(monkeypatch: pytest.MonkeyPatch, kind: str, used: bool) -> None:
    found = Mock(kind=kind)
    monkeypatch.setattr(Site, "find", Mock(return_value=found))

    assert on_swarm.named(kind) is used
    assert found.use.called is used


@pytest.mark.parametrize("words", [{"remove": True}, {"yes": True}, {"image": "own"}, {"port": "1"}, {"site": "swarm"}])
def test_what_is_for_a_registry_is_refused_without_one(words: Any) -> None:
    with pytest.raises(Exit, match="are for 'stackyard site registry' and 'reaper'"):
        site.site.body(None, **words)


# stacks of environments


@pytest.mark.parametrize(
    ("name", "words", "ttl", "fixed"),
    [
        ("dev", {}, math.inf, "only"), ("dev", {"ttl": "5m"}, 300.0, "only"),
        ("test", {}, 3600.0, "never"), ("test", {"ttl": "5m"}, 300.0, "never"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("keep", [True, False])
def test_a_stack_stays_an_hour_unless_it_keeps_its_data_or_its_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, name: str, words: Any, ttl: float, fixed: str, keep: bool
) -> None:
    launch = Mock(return_value=("stack", "startup"))
    monkeypatch.setattr("stackyard.stacks.environments.launch.launch", launch)
    monkeypatch.setattr(up, "opened", lambda: contextlib.nullcontext(("book", "engine")))
    monkeypatch.setattr(up, "_show", Mock())

    up.up.body(None, name, keep=keep, **words)

    asked = launch.call_args.args[3]
    assert (asked.ttl, asked.fixed, asked.keep) == (ttl, fixed, keep)


class Data:
    """What stands of an environment, and what is removed of its data."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.own, self.others, self.used, self.data, self.answer = False, False, False, "volume", False
        self.removed = Mock(return_value=Removal(removed=["volume data"]))
        monkeypatch.setattr(up, "opened", lambda: contextlib.nullcontext(("book", "engine")))
        monkeypatch.setattr(up, "in_use", lambda _book, _name: ["lease"] * self.used)
        monkeypatch.setattr(up, "confirmed", lambda _question: self.answer)
        monkeypatch.setattr(
            "stackyard.stacks.environments.checkouts.leases_of",
            lambda *_: ("own" if self.own else None, ["other"] * self.others),
        )  # fmt: skip
        monkeypatch.setattr("stackyard.project.environments.Environment.load", self._load)
        monkeypatch.setattr("stackyard.cleanup.removal.remove_data", self.removed)

    def _load(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, data=self.data)


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Data:
    return Data(monkeypatch)


@pytest.mark.parametrize(
    ("own", "others", "used"),
    [(True, False, True), (True, True, True), (True, True, False), (True, False, False), (False, False, True)],
)
def test_an_environment_with_a_stack_is_not_taken_for_its_data_alone(
    data: Data, own: bool, others: bool, used: bool
) -> None:
    data.own, data.others, data.used = own, others, used

    assert up._removed_data("dev", volumes=True, yes=True) is None
    data.removed.assert_not_called()


@pytest.mark.parametrize(("others", "used"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize(("yes", "answer", "goes"), [(True, False, True), (False, True, True), (False, False, False)])
def test_data_without_a_stack_goes_only_after_a_yes(
    data: Data, others: bool, used: bool, yes: bool, answer: bool, goes: bool
) -> None:
    data.others, data.used, data.answer = others, used, answer

    with contextlib.nullcontext() if goes else pytest.raises(Exit, match="deletes the data of dev"):
        assert up._removed_data("dev", volumes=True, yes=yes) is data.removed.return_value
    assert data.removed.call_count == goes


@pytest.mark.parametrize(("volumes", "kind"), [(False, "volume"), (False, "tmpfs"), (True, "tmpfs")])
def test_data_stays_unless_volumes_are_asked_for_and_the_environment_keeps_some(
    data: Data, volumes: bool, kind: str
) -> None:
    data.data = kind

    assert up._removed_data("dev", volumes=volumes, yes=True) == Removal()
    data.removed.assert_not_called()


@pytest.mark.parametrize("volumes", [True, False])
def test_down_takes_the_stack_that_is_named_though_an_environment_is_named_too(
    monkeypatch: pytest.MonkeyPatch, volumes: bool
) -> None:
    stack = SimpleNamespace(lease=SimpleNamespace(title="mine (1)", environment="dev"), keeps_data=True)
    stack.down = Mock(return_value=Removal())
    attach = Mock(return_value=contextlib.nullcontext(stack))
    monkeypatch.setattr(up, "attach", attach)
    monkeypatch.setattr(up, "_removed_data", lambda *_, **__: pytest.fail("data of an environment"))

    up.down.body(None, name="mine", environment="dev", volumes=volumes, yes=True)

    attach.assert_called_once_with("mine", environment="dev")
    stack.down.assert_called_once_with(volumes=volumes)
