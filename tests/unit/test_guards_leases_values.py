"""How the values of a lease are read and checked, each rule by itself: quick tests for guards in front of a loss."""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock, call

import pytest

from stackyard.errors import BookError, UsageError
from stackyard.leases import names, owners, port_format, records
from stackyard.leases.database import column_rules
from stackyard.leases.directory import files
from stackyard.leases.grants import messages
from stackyard.leases.owners import Owner
from stackyard.leases.records import Lease
from stackyard.leases.recovery.lost_leases import Survivor

OWNER = Owner(kind="process", boot="b0", pid=12, ticks=34, namespace=56)
PORTS = {"postgres": 11000, "redis": 11001, "backend": 11002, "auth": 11003}


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let processes be those of a made-up /proc."""
    monkeypatch.setattr(owners, "_PROC", tmp_path)
    monkeypatch.setattr(owners, "boot_id", lambda: "b0")
    monkeypatch.setattr(owners, "pid_namespace", lambda: 56)
    return tmp_path


def process(proc: Path, pid: int, *, state: str = "S", ticks: int = 34, command: bytes = b"", name: str = "x") -> None:
    (proc / str(pid)).mkdir()
    fields = [state, *(str(1000 + number) for number in range(18)), str(ticks), "7", "8"]
    (proc / str(pid) / "stat").write_bytes(f"{pid} ({name}) {' '.join(fields)}\n".encode("latin-1"))
    (proc / str(pid) / "cmdline").write_bytes(command)


@pytest.mark.parametrize(
    ("label", "owner"),
    [
        ("process:12:34:56:b0", OWNER), ("detached:b0", Owner(kind="detached", boot="b0")),
        ("detached:", None), ("detached:1:b0", None), ("detached", None), ("", None), ("other:12:34:56:b0", None),
        ("process:12:34:b0", None), ("process:12:34:56:78:b0", None), ("process:a:34:56:b0", None),
        ("process:12:-34:56:b0", None), ("process:12:34:\u0661:b0", None), ("process:::56:b0", None),
    ],
)  # fmt: skip
def test_an_owner_is_read_as_it_was_written_and_nothing_else_is_one(label: str, owner: Owner | None) -> None:
    assert Owner.parse(label) == owner
    assert owner is None or owner.label() == label


@pytest.mark.parametrize(
    ("change", "runs"),
    [({}, True), ({"boot": "b1"}, False), ({"namespace": 57}, False), ({"ticks": 35}, False), ({"pid": 13}, False)],
)
def test_only_the_process_with_pid_start_boot_and_namespace_of_the_owner_is_the_owner(
    proc: Path, change: dict[str, Any], runs: bool
) -> None:
    process(proc, 12, command=b"pytest\0tests\0")
    owner = replace(OWNER, **change)

    assert owner.runs() is runs
    assert owner.describe() == (f"pid {owner.pid} (pytest tests)" if runs else f"pid {owner.pid}, which has ended")


def test_an_owner_whose_start_is_unknown_does_not_run(proc: Path) -> None:
    process(proc, 12, ticks=0)
    process(proc, 13, ticks=1)

    assert not replace(OWNER, ticks=0).runs()
    assert replace(OWNER, ticks=1, pid=13).runs()
    assert Owner(kind="detached", boot="b0").describe() == "detached"


@pytest.mark.parametrize(
    ("change", "held", "runs", "alive"),
    [
        ({}, True, True, True), ({}, True, False, False), ({}, False, True, False), ({}, False, False, False),
        ({}, None, True, True), ({}, None, False, False),
        ({"namespace": 57}, True, False, True), ({"namespace": 57}, False, False, False),
        ({"namespace": 57}, None, False, False), ({"boot": "b1"}, True, True, False),
        ({"kind": "detached"}, None, False, True), ({"kind": "detached"}, False, False, True),
        ({"kind": "detached", "boot": "b1"}, True, True, False),
    ],
)  # fmt: skip
def test_an_owner_is_alive_while_its_lock_or_else_its_process_shows_it(
    proc: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], held: bool | None, runs: bool, alive: bool
) -> None:
    asked = Mock(return_value=held)
    monkeypatch.setattr(owners, "is_held", asked)
    if runs:
        process(proc, 12)

    assert replace(OWNER, **change).is_alive(proc / "lock") is alive
    assert asked.mock_calls in ([], [call(proc / "lock")])


def test_a_process_is_known_by_the_ticks_at_which_it_started(proc: Path) -> None:
    process(proc, 1, name="a) S (b \xff")
    process(proc, 2, state="Z")
    process(proc, 3, state="X")

    assert [owners.start_ticks(pid) for pid in (1, 2, 3, 4)] == [34, None, None, None]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"python\0-m\0pytest\0", "python -m pytest"), (b"", ""), (b"a\xff\0", "a\ufffd"),
        (b"x" * 80, "x" * 80), (b"x" * 81, "x" * 77 + "..."),
    ],
)  # fmt: skip
def test_a_command_line_is_one_short_line(proc: Path, raw: bytes, text: str) -> None:
    process(proc, 1, command=raw)

    assert owners.command_line(1) == text
    assert owners.command_line(2) == ""


@pytest.mark.parametrize(
    ("who", "short"),
    [
        ("detached", "detached"), ("pid 12, which has ended", "pid 12, which has ended"),
        ("pid 12 (/usr/bin/pytest -q tests/a)", "pid 12 pytest"),
        ("pid 12 (/usr/bin/python3.11 -m /x/tool --fast)", "pid 12 tool"),
        ("pid 12 (python3 -c import a/b)", "pid 12 python3"), ("pid 12 (bash)", "pid 12 bash"),
        ("pid 12 (node -x)", "pid 12 node"), ("pid 12 (a)\nb)", "pid 12 a)"), ("pid 12 ( )", "pid 12 unknown"),
        ("pid 12 (sh run -c)", "pid 12 run"), ("pid 12 (shX run)", "pid 12 shX"), ("by pid 12 (a)", "by pid 12 (a)"),
    ],
)  # fmt: skip
def test_an_owner_is_named_by_its_program(who: str, short: str) -> None:
    assert owners.short(who) == short


def test_a_lock_is_a_new_file_of_the_owner_each_time_and_is_held_until_it_is_dropped(tmp_path: Path) -> None:
    lock, moved = tmp_path / "lock", tmp_path / "moved"
    lock.write_text("old")
    old = os.open(lock, os.O_RDONLY)
    assert owners.is_held(lock) is False
    try:
        owners.hold(lock)
        assert lock.stat().st_ino != os.fstat(old).st_ino
    finally:
        os.close(old)
    assert (owners.is_held(lock), stat.S_IMODE(lock.stat().st_mode)) == (True, 0o600)
    assert not os.get_inheritable(owners._held[lock])

    lock.rename(moved)
    owners.moved(lock, moved)
    assert (owners.is_held(lock), owners.is_held(moved)) == (None, True)
    owners.drop(lock)
    assert owners.is_held(moved) is True
    owners.drop(moved)
    owners.drop(moved)
    assert owners.is_held(moved) is False


def test_holding_again_lets_the_first_lock_go(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    owners.hold(lock)
    lock.rename(tmp_path / "first")
    owners.hold(lock)

    assert (owners.is_held(tmp_path / "first"), owners.is_held(lock)) == (False, True)
    owners.drop(lock)


def test_a_lock_that_appears_in_between_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lock").touch()
    monkeypatch.setattr(Path, "unlink", lambda _self, *, missing_ok: missing_ok)

    with pytest.raises(FileExistsError):
        owners.hold(tmp_path / "lock")
    assert tmp_path / "lock" not in owners._held


def test_a_fork_lets_the_locks_of_its_parent_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    held = {tmp_path: handle}
    monkeypatch.setattr(owners, "_held", held)
    owners.Owner.current()
    owners._forget()

    assert (held, owners._process.cache_info().currsize) == ({}, 0)
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(handle)


def test_what_is_no_plain_file_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "target").touch()
    (tmp_path / "folder").mkdir()

    assert [owners.is_held(tmp_path / name) for name in ("link", "folder", "gone")] == [None] * 3
    with pytest.raises(OSError, match=r"is a folder where a lock file must be; move it away.*folder") as error:
        owners.hold(tmp_path / "folder")
    assert error.value.errno == errno.EISDIR


def words(**change: str) -> dict[str, str]:
    given = {
        "host": "h1", "owner": "detached:b0", "lease": "1f0c9b3e", "environment": "test", "subnet": "10.214.0.0/28",
        "ports": "postgres:11000,redis:11001,backend:11002,auth:11003,spare:11005-11007", "created": "1.5",
        "parallel_id": "mine", "memory_mb": "410", "checkout": "/shop",
        "exclusive": "host-network,address:10.0.0.9@lan",
    }  # fmt: skip
    return {key: value for key, value in (given | change).items() if value != "-"}


SURVIVOR = Survivor(
    id="1f0c9b3e", environment="test", project="stackyard-test-1f0c9b3e", subnet="10.214.0.0/28", ports=PORTS,
    spare=(11005, 11006, 11007), owner=Owner(kind="detached", boot="b0"), created=1.5, parallel_id="mine",
    memory_mb=410, checkout="/shop", exclusive=("host-network", "address:10.0.0.9@lan"),
)  # fmt: skip


def test_a_lost_lease_is_read_from_labels_and_from_variables() -> None:
    labels = {f"stackyard.{key}": value for key, value in words().items()}
    variables = {f"STACKYARD_{key.upper()}": value for key, value in words().items()}

    assert Survivor.from_labels(labels, host="h1") == SURVIVOR
    assert Survivor.from_variables(variables, host="h1") == SURVIVOR
    assert Survivor.from_labels(labels, host="h2") is None
    assert Survivor.from_variables(variables, host="h2") is None
    assert Survivor.from_labels({}, host="h1") is None
    assert Survivor.from_variables({}, host="h1") is None


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"created": "-"}, replace(SURVIVOR, created=0.0)), ({"created": "x"}, replace(SURVIVOR, created=0.0)),
        ({"parallel_id": "-"}, replace(SURVIVOR, parallel_id=None)),
        ({"parallel_id": "A B"}, replace(SURVIVOR, parallel_id=None)),
        ({"parallel_id": "-", "name": "old"}, replace(SURVIVOR, parallel_id="old")),
        ({"memory_mb": "-"}, replace(SURVIVOR, memory_mb=0)), ({"memory_mb": "-5"}, replace(SURVIVOR, memory_mb=0)),
        ({"subnet": "10.214.0.0/28,10.214.0.16/28"}, replace(SURVIVOR, subnet="10.214.0.0/28,10.214.0.16/28")),
        ({"subnet": "10.214.0.0/28,x"}, None), ({"exclusive": "-"}, replace(SURVIVOR, exclusive=())),
        ({"exclusive": "not a word,host-network"}, replace(SURVIVOR, exclusive=("host-network",))),
        ({"checkout": "-"}, replace(SURVIVOR, checkout="")),
        ({"owner": "-"}, None), ({"owner": "x"}, None), ({"ports": "-"}, None), ({"ports": "X:1"}, None),
        ({"ports": "db:11000,web_80_tcp:11001"}, None), ({"subnet": "-"}, None),
        ({"subnet": "10.214.0.1/28"}, None), ({"lease": "-"}, None), ({"lease": "../x"}, None),
        ({"environment": "-"}, None), ({"environment": "a/b"}, None),
    ],
)  # fmt: skip
def test_only_a_whole_description_is_a_lost_lease(change: dict[str, str], found: Survivor | None) -> None:
    assert Survivor.from_labels({f"stackyard.{key}": value for key, value in words(**change).items()}, host="h1") == (
        found
    )


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("postgres:1", ({"postgres": 1}, ())), ("postgres:65535,spare:7-9", ({"postgres": 65535}, (7, 8, 9))),
        ("my-shop:1,shop_db:2", ({"my-shop": 1, "shop_db": 2}, ())), ("web_80_tcp:1", ({"web_80_tcp": 1}, ())),
        ("redis:2,spare:5-5", ({"redis": 2}, (5,))),
        ("postgres:0", None), ("postgres:65536", None), ("postgres:x", None), ("postgres:\u0661", None),
        ("postgres:-1", None), ("", None), ("Other:1", None), ("spare:7", None), ("spare:7-8-9", None),
    ],
)  # fmt: skip
def test_ports_are_read_as_they_were_written(text: str, block: tuple[dict[str, int], tuple[int, ...]] | None) -> None:
    assert port_format.parse_ports(text) == block
    assert block is None or port_format.ports_text(*block) == text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A=1\nB_2='x y'\n", {"A": "1", "B_2": "x y"}), ("# B=2\n\nA=\n", {"A": ""}), ("A='\n", {"A": "'"}),
        ("A='x\n", {"A": "'x"}), ("A=x'\n", {"A": "x'"}), ("A=''\n", {"A": ""}), ("A=b=c\n", {"A": "b=c"}),
        ("A=xx\n", {"A": "xx"}), ("a=1\n", None), ("A\n", None), ("1A=1\n", None), ("A=\0\n", None), ("=1\n", None),
    ],
)  # fmt: skip
def test_an_env_file_is_read_as_it_was_written(text: str, found: dict[str, str] | None) -> None:
    if found is None:
        with pytest.raises(ValueError, match=r".*"):
            records.parse_env(text)
    else:
        assert records.parse_env(text) == found


@pytest.mark.parametrize(
    ("lease", "environment", "keeps", "project"),
    [
        ("1f0c9b3e", "test", False, "stackyard-test-1f0c9b3e"), ("dev-3fa92c", "dev", True, "stackyard-dev-3fa92c"),
        ("dev", "dev", True, "stackyard-dev"), ("1f0c9b3e", "1f0c9b3e", True, "stackyard-1f0c9b3e-1f0c9b3e"),
        ("1F0C9B3E", "test", True, "stackyard-1F0C9B3E"), ("1f0c9b3e0", "test", True, "stackyard-1f0c9b3e0"),
    ],
)  # fmt: skip
def test_a_lease_keeps_its_data_unless_its_id_is_random(
    lease: str, environment: str, keeps: bool, project: str
) -> None:
    assert records.keeps_data(lease, environment) is keeps
    assert records.project_name(environment, lease) == project


def test_a_stable_id_means_environment_book_and_checkout(tmp_path: Path) -> None:
    found = records.stable_id("dev", "h1", Path("/srv/a"))
    others = [
        records.stable_id("dev", "h2", Path("/srv/a")), records.stable_id("dev", "h1", Path("/srv/b")),
        records.stable_id("dew", "h1", Path("/srv/a")),
    ]  # fmt: skip
    (tmp_path / "link").symlink_to(tmp_path)

    assert found == "dev-e01710"
    assert len({found, *others}) == 4
    assert records.stable_id("dev", "h1", tmp_path / "link") == records.stable_id("dev", "h1", tmp_path)
    assert len(records.stable_id("e" * 40, "h1", Path("/srv/a"))) == 40


def lease_of(**change: Any) -> Lease:
    given: dict[str, Any] = {
        "id": "1f0c9b3e", "parallel_id": "mine", "environment": "test", "slot": 3,
        "ports": PORTS | {"websocket": 11004}, "spare": (11005, 11006), "subnet": "10.214.0.0/28",
        "project": "stackyard-test-1f0c9b3e", "owner": Owner(kind="detached", boot=owners.boot_id()), "created": 1.5,
        "deadline": 9.5, "removing": False, "memory_mb": 410, "directory": Path("/nowhere/1f0c9b3e"),
    }  # fmt: skip
    return Lease(**given | change)


def test_a_lease_is_shown_with_moments_bytes_and_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"STACKYARD_BACKEND_URL": "http://h:11002", "STACKYARD_WEBSOCKET_URL": "ws://h:11002/ws"}
    monkeypatch.setattr(Lease, "variables", lambda _self: {"COMPOSE_PROJECT_NAME": "p", **told})

    assert lease_of().to_json() == {
        "lease": "1f0c9b3e", "name": "mine", "environment": "test", "slot": 3, "ports": PORTS,
        "spare": [11004, 11005, 11006], "subnet": "10.214.0.0/28", "project": "stackyard-test-1f0c9b3e",
        "owner": f"detached:{owners.boot_id()}", "created": 1.5, "deadline": 9.5, "removing": False,
        "memory_bytes": 410_000_000, "env_file": "/nowhere/1f0c9b3e/env", "checkout": "",
    }  # fmt: skip


@pytest.mark.parametrize("exclusive", [(), ("host-network", "address:10.0.0.9@lan")])
def test_the_env_file_names_what_only_this_lease_may_use(exclusive: tuple[str, ...]) -> None:
    told = files.variables(lease_of(exclusive=exclusive), {}, "h1")

    assert told.get("STACKYARD_EXCLUSIVE", "") == ",".join(exclusive)
    assert ("STACKYARD_EXCLUSIVE" in told) is bool(exclusive)


DEAD = Owner(kind="process", boot="gone", pid=1, ticks=1, namespace=1)
EARLIER = Owner(kind="detached", boot="gone")


@pytest.mark.parametrize(
    ("change", "now", "stale"),
    [
        ({}, 9.4, False), ({}, 9.5, True), ({}, 9.6, True), ({"deadline": None}, 99.0, False),
        ({"owner": DEAD}, 1.0, True), ({"owner": DEAD, "deadline": None}, 1.0, True), ({"owner": EARLIER}, 1.0, True),
        ({"owner": EARLIER, "deadline": None}, 1.0, False),
        ({"owner": EARLIER, "id": "dev-3fa92c", "environment": "dev"}, 1.0, False),
        ({"owner": EARLIER, "id": "dev-3fa92c", "environment": "dev"}, 9.5, True),
        ({"owner": DEAD, "id": "dev-3fa92c", "environment": "dev"}, 1.0, True),
    ],
)  # fmt: skip
def test_a_lease_is_stale_from_its_deadline_on_or_when_its_owner_has_ended(
    change: dict[str, Any], now: float, stale: bool
) -> None:
    assert lease_of(**change).is_stale(now) is stale


SERVICES = ("postgres", "redis", "backend", "auth", "websocket")
FIRST = {"COMPOSE_PROJECT_NAME": "p"}


def test_only_a_service_of_the_environment_has_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    given = FIRST | {f"STACKYARD_{name.upper()}_URL": name for name in SERVICES}
    monkeypatch.setattr(Lease, "variables", lambda _self: {"STACKYARD_OTHER_URL": "of the caller"} | given)

    assert [lease_of().url(name) for name in SERVICES] == list(SERVICES)
    with pytest.raises(UsageError, match=r"no service 'other' in environment test; known: postgres, redis, backend, a"):
        lease_of().url("other")


def test_a_service_is_found_by_what_it_speaks_and_by_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = dict(zip(SERVICES, ("sql://h:1", "keys://h:2", "http://h:3", "http://h:4", "ws://h:3"), strict=True))
    given = FIRST | {f"STACKYARD_{name.upper()}_URL": url for name, url in urls.items()}
    monkeypatch.setattr(Lease, "variables", lambda _self: given)
    first, second, third, fourth, fifth = SERVICES
    ports = dict(zip(SERVICES, range(1, 6), strict=True))

    assert lease_of(ports=ports).servers() == {**{name: name for name in urls}, fifth: third}
    assert lease_of().speaking("http") == {third: "http://h:3", fourth: "http://h:4"}
    assert (lease_of().url_of("sql"), lease_of().url_of("keys")) == (urls[first], urls[second])
    with pytest.raises(UsageError, match=r"no service of stack .* speaks ftp"):
        lease_of().url_of("ftp")


def test_the_urls_of_a_stack_come_from_one_look_at_its_env_file(monkeypatch: pytest.MonkeyPatch) -> None:
    given = FIRST | {f"STACKYARD_{name.upper()}_URL": name for name in SERVICES}
    look = Mock(return_value=given)
    monkeypatch.setattr(Lease, "variables", look)

    assert lease_of().urls() == {name: name for name in SERVICES}
    look.assert_called_once_with()
    with pytest.raises(UsageError, match=r"is not of an environment, so it has no URLs of its services"):
        lease_of(ports={"web_80_tcp": 9500}).urls()


WHOLE = "COMPOSE_PROJECT_NAME=p\nSTACKYARD_LEASE=1f0c9b3e\nSTACKYARD_PORTS=a\nSTACKYARD_SUBNET=b\n" + "".join(
    f"STACKYARD_{name.upper()}_URL=u\n" for name in SERVICES
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "No such file or directory"), ("no line\n", "has a line that is not NAME=value"),
        (WHOLE.replace("STACKYARD_REDIS_URL=u\n", ""), "has no STACKYARD_REDIS_URL"),
        (WHOLE.replace("=b", "="), "has no STACKYARD_SUBNET"), ("A=1\n", "has no COMPOSE_PROJECT_NAME"),
        (WHOLE.replace("1f0c9b3e", "f" * 60), f"belongs to another lease, {'f' * 40!r}"),
    ],
)  # fmt: skip
def test_a_damaged_env_file_says_what_is_wrong_with_it(tmp_path: Path, text: str | None, why: str) -> None:
    lease = lease_of(directory=tmp_path)
    if text is not None:
        (tmp_path / "env").write_text(text)

    with pytest.raises(BookError, match=rf"{re.escape(str(lease.env_file))}.*\b{re.escape(why)}(?!f)"):
        lease.variables()
    (tmp_path / "env").write_text(WHOLE)
    assert lease.variables()["STACKYARD_AUTH_URL"] == "u"


def test_an_error_without_a_reason_of_its_own_is_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records.disk, "read", Mock(side_effect=OSError("odd")))  # type: ignore[attr-defined]
    with pytest.raises(BookError, match="odd"):
        lease_of().variables()


ROW = (
    "1f0c9b3e", "mine", "test", 3, "postgres:11000,redis:11001,backend:11002,auth:11003", "10.214.0.0/28",
    "stackyard-test-1f0c9b3e", "detached:b0", 1.5, 9.5, 0, 410,
)  # fmt: skip


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("id", ["a", "a" * 40]), ("parallel_id", [None, "a-b_c"]), ("slot", [None, 0, 65535]), ("removing", [0, 1]),
        ("subnet", ["10.0.0.0/8", "192.168.1.0/24", "172.16.0.0/12"]), ("created", [0, 0.0, 1e11]),
        ("deadline", [None, 0, 1e11]), ("memory_mb", [0, 10**9]),
        ("ports", ["postgres:1,redis:2,backend:3,auth:4,websocket:5,spare:6-9", ROW[4] + ",spare:11004-11009"]),
    ],
)  # fmt: skip
def test_the_book_may_hold_what_stackyard_writes(column: str, values: list[object]) -> None:
    place = list(column_rules.RULES["leases"]).index(column)
    for value in values:
        row = [*ROW[:place], value, *ROW[place + 1 :]]
        if column == "id":
            row[6] = records.project_name("test", str(value))
        assert column_rules.fault("leases", row) is None
        column_rules.check("leases", row)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("id", ["", "A", "../x", "a" * 41, None, 5, b"a", "-a"]), ("parallel_id", ["", "A", 5]),
        ("environment", [None, "", "a/b"]), ("slot", [-1, 65536, 1.0, True, "3"]),
        ("ports", ["", None, "Postgres:1", ROW[4] + ",spare:11003-11004", "postgres:1,redis:2,backend:3,auth:3",
                   ROW[4].replace(":11000", ":011000"), ROW[4] + ",spare:20000-29000", b"postgres:1"]),
        ("subnet", [None, "10.214.0.1/28", "10.214.0.0", "8.8.8.0/24", "0.0.0.0/7", "x", "010.0.0.0/8", 10]),
        ("project", ["", None, "x" * 101, "stackyard-test-ffffffff", "a\nb"]), ("owner", [None, "", "x", 5]),
        ("created", [None, -1, -0.1, 1e11 + 1, float("nan"), float("inf"), "1", True]),
        ("deadline", [-1, "1", float("inf"), 2e11]), ("removing", [2, -1, None, False]),
        ("memory_mb", [-1, 10**9 + 1, None]),
    ],
)  # fmt: skip
def test_the_book_may_hold_nothing_else(column: str, values: list[object]) -> None:
    place = list(column_rules.RULES["leases"]).index(column)
    for value in values:
        row = [*ROW[:place], value, *ROW[place + 1 :]]
        assert (column_rules.fault("leases", row) or "").startswith(
            f"{column} is {column_rules.shown(value)} and must be "
        )
        with pytest.raises(column_rules.BadRowError, match=rf"a row of leases: {column} is "):
            column_rules.check("leases", row)


@pytest.mark.parametrize(
    ("table", "good", "bad"),
    [
        ("clocks", [("a", 1.0, "b", -5.5), ("a", 1.0, "b", 1e11)],
         [("a", 1.0, "b", 5), ("a", 1.0, "b", -2e11), ("a", 1.0, "", 1.0), ("a", None, "b", 1.0), ("a", 1, "b", "1")]),
        ("slots", [("p", 1, None, 0), ("p" * 4096, 65535, 0, 1.5)],
         [("", 1, None, 0), ("p", 0, None, 0), ("p", 65536, 0, 0), ("p", 1, -1, 0), ("p", 1, 0, None),
          ("p" * 4097, 1, 0, 0), ("p", 1, (1 << 53) + 1, 0)]),
        ("pools", [("/a", "test", 1), ("/" + "a" * 4095, "test", 10**6)],
         [("a", "test", 1), ("/a", "test", 0), ("/a\0", "test", 1), ("/" + "a" * 4096, "t", 1), (5, "t", 1)]),
        ("claims", [("port", "1", "a"), ("parallel", "x" * 200, "a")],
         [("other", "1", "a"), ("port", "", "a"), ("port", "x" * 201, "a"), ("port", 1, "a")]),
        ("queue", [(0, "pool", "detached:b", 0)], [(-1, "pool", "detached:b", 0), (1, "", "detached:b", 0)]),
    ],
)  # fmt: skip
def test_every_table_has_rules(table: str, good: list[tuple[Any, ...]], bad: list[tuple[Any, ...]]) -> None:
    assert [column_rules.fault(table, row) for row in good] == [None] * len(good)
    assert [row for row in bad if column_rules.fault(table, row) is None] == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "'a'"), (b"a", "b'a'"), (5, "5"), ("\u00e4", "'\\xe4'"), ("x" * 58, repr("x" * 58)),
        ("x" * 59, f"'{'x' * 56}..."), ("x" * 200, f"'{'x' * 56}..."), (10**58, str(10**58)), (10**59, str(10**59)),
        (10**60, f"{str(10**60)[:57]}..."),
    ],
)  # fmt: skip
def test_a_wrong_value_is_shown_short_and_printable(value: object, text: str) -> None:
    assert column_rules.shown(value) == text


@pytest.mark.parametrize(
    ("rule", "words", "good", "bad"),
    [
        (lambda: column_rules._text(3), "1 to 3 printable characters", ["a", "abc"], ["", "abcd", "a\n", 5, None]),
        (lambda: column_rules._whole(2, 4), "a whole number from 2 to 4", [2, 4], [1, 5, 3.0, "3", None]),
        (lambda: column_rules._whole(0, 1), "a whole number from 0 to 1", [0, 1], [True, False]),
        (
            lambda: column_rules._none_or(column_rules._whole(2, 4)), "nothing, or a whole number from 2 to 4",
            [None, 3], [0, ""],
        ),
    ],
)  # fmt: skip
def test_a_rule_accepts_what_it_says(rule: Any, words: str, good: list[object], bad: list[object]) -> None:
    said, check = rule()

    assert (said, [check(value) for value in good], [check(value) for value in bad]) == (
        words, [True] * len(good), [False] * len(bad)
    )  # fmt: skip


def test_a_list_of_ports_or_subnets_has_a_greatest_length(monkeypatch: pytest.MonkeyPatch) -> None:
    ports, subnets = ROW[4] + ",spare:11004-11009", "10.0.0.0/28,10.0.0.16/28"
    for limit, allowed in ((len(ports), True), (len(ports) - 1, False)):
        monkeypatch.setattr(column_rules, "_LONGEST_LIST", limit)
        assert column_rules._is_block(ports) is allowed
    for limit, allowed in ((len(subnets), True), (len(subnets) - 1, False)):
        monkeypatch.setattr(column_rules, "_LONGEST_LIST", limit)
        assert column_rules._are_subnets(subnets) is allowed


def test_no_more_than_one_block_is_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    for largest, allowed in ((6, True), (5, False)):
        monkeypatch.setattr(column_rules, "LARGEST_BLOCK", largest)
        assert column_rules._is_block(ROW[4] + ",spare:11004-11009") is allowed
        assert column_rules._is_block("web_80_tcp:11000,spare:11001-11006") is allowed
    assert not column_rules._is_block("web_80_tcp:11000,postgres:11001")


def test_two_subnets_of_a_lease_differ() -> None:
    assert column_rules._are_subnets("10.0.0.0/28,10.0.0.16/28")
    assert not column_rules._are_subnets("10.0.0.0/28,10.0.0.0/28")
    assert not column_rules._are_subnets("10.0.0.0/28,")


def test_a_row_has_every_column_and_the_project_of_its_lease() -> None:
    with pytest.raises(ValueError, match="zip"):
        column_rules.fault("ended", (1,))
    row = [*ROW[:6], "x", *ROW[7:]]
    assert column_rules.fault("leases", row) == "project is 'x' and must be stackyard-test-1f0c9b3e"


def test_an_id_follows_its_rule_and_a_wrong_one_is_shown_short() -> None:
    assert [names.check_id("a name", text) for text in ("a", "0_-b", "x" * 40)] == ["a", "0_-b", "x" * 40]
    for wrong in ("", "-a", "A", "x" * 41, None, 5):
        with pytest.raises(UsageError, match=r"^a name must be 1 to 40 of a-z, 0-9"):
            names.check_id("a name", wrong)
    with pytest.raises(UsageError, match=r"got 'X{58}'$"):
        names.check_id("a name", "X" * 58)
    with pytest.raises(UsageError, match=r"got 'X{56}\.\.\.$"):
        names.check_id("a name", "X" * 59)
    with pytest.raises(UsageError, match=r"^wait must be"):
        names.check_seconds("wait", -1)
    assert names.check_seconds("wait", "1m30s") == 90.0


def test_a_made_up_name_is_one_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    every = {f"{first}-{second}" for first in names._FIRST for second in names._SECOND}
    assert names.made_up([]) in every
    free = iter([names._FIRST[0], names._SECOND[0], names._FIRST[1], names._SECOND[1]])
    monkeypatch.setattr("secrets.choice", lambda _words: next(free))
    assert names.made_up([f"{names._FIRST[0]}-{names._SECOND[0]}"]) == f"{names._FIRST[1]}-{names._SECOND[1]}"
    asked = Mock(side_effect=lambda given: given[0])
    monkeypatch.setattr("secrets.choice", asked)
    monkeypatch.setattr("secrets.token_hex", lambda size: "0" * 2 * size)
    assert names.made_up(every) == "lease-00000000"
    assert asked.call_count == 2 * names._TRIES


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("host-network", "can have the host's network, and others"),
        ("interface:eth0", "can have the host's interface eth0, and others"),
        ("address:10.0.0.9@lan", "can have the address 10.0.0.9@lan, and others"),
        ("address:fe80::1", "can have the address fe80::1, and others"),
    ],
)
def test_what_only_one_copy_can_have_is_said_in_words(what: str, said: str) -> None:
    assert f"only one copy at a time {said} wait for it" in messages.waited_for(what, 2)


@pytest.mark.parametrize(
    ("ports", "copy"),
    [({}, True), ({"web_80_tcp": 1}, True), ({"web": 1}, False), ({"web_80_tcp": 1, "web": 2}, False)],
)
def test_a_lease_is_a_copy_s_also_if_that_publishes_no_port(tmp_path: Path, ports: dict[str, int], copy: bool) -> None:
    lease = Lease(
        id="0badcafe", parallel_id=None, environment="shop", slot=1, ports=ports, subnet="10.0.0.0/28", project="p",
        owner=OWNER, created=0.0, deadline=None, directory=tmp_path,
    )  # fmt: skip

    assert lease.is_copy is copy


def test_a_lease_whose_env_file_is_damaged_is_of_no_checkout(tmp_path: Path) -> None:
    lease = Lease(
        id="0badcafe", parallel_id=None, environment="shop", slot=1, ports={}, subnet="10.0.0.0/28", project="p",
        owner=OWNER, created=0.0, deadline=None, directory=tmp_path,
    )  # fmt: skip
    lease.env_file.write_text("nonsense")

    assert lease.checkout == ""
