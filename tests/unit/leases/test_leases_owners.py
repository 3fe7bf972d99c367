"""Who is alive: pids that come back, boots that change, locks that outlive their meaning."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stackyard.leases import Owner, owners

if TYPE_CHECKING:
    from lease_records import MakeBook, Surroundings

    from stackyard.leases import LeaseBook

HOLDER = """
import sys
from pathlib import Path
from stackyard.leases import owners
owners.hold(Path(sys.argv[1]))
print(owners.Owner.current().label(), flush=True)
sys.stdin.read()
"""


def start_holder(lock: Path) -> tuple[subprocess.Popen[str], Owner]:
    child = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    owner = Owner.parse(child.stdout.readline().strip())
    assert owner is not None
    return child, owner


def end(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.communicate()


def test_an_owner_lives_exactly_as_long_as_its_process(tmp_path: Path) -> None:
    child, owner = start_holder(tmp_path / "lock")
    try:
        assert owner.is_alive(tmp_path / "lock")
        assert f"pid {child.pid} (" in owner.describe()
    finally:
        end(child)

    assert not owner.is_alive(tmp_path / "lock")
    assert owner.describe() == f"pid {child.pid}, which has ended"


def test_a_killed_process_no_one_waited_for_is_dead(tmp_path: Path) -> None:
    child, owner = start_holder(tmp_path / "lock")
    try:
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

        assert not owner.is_alive(tmp_path / "lock")
        assert not owner.runs()
    finally:
        child.communicate()


def test_a_reused_pid_does_not_inherit_a_lease(tmp_path: Path) -> None:
    now = Owner.current()
    earlier = replace(now, ticks=now.ticks - 1)

    assert not earlier.is_alive(tmp_path / "lock")
    assert not earlier.runs()
    assert now.is_alive(tmp_path / "lock")


def test_a_reused_pid_does_not_inherit_even_a_lock_that_is_held(tmp_path: Path) -> None:
    now = Owner.current()
    owners.hold(tmp_path / "lock")
    try:
        assert now.is_alive(tmp_path / "lock")
        assert not replace(now, ticks=now.ticks - 1).is_alive(tmp_path / "lock")
    finally:
        owners.drop(tmp_path / "lock")


def test_a_long_lived_process_that_let_go_of_its_lease_does_not_own_it(tmp_path: Path) -> None:
    owners.hold(tmp_path / "lock")
    owners.drop(tmp_path / "lock")

    assert not Owner.current().is_alive(tmp_path / "lock")


def test_a_holder_in_another_pid_namespace_is_known_by_its_lock(tmp_path: Path) -> None:
    child, owner = start_holder(tmp_path / "lock")
    elsewhere = replace(owner, namespace=1, pid=1, ticks=1)
    try:
        assert elsewhere.is_alive(tmp_path / "lock")
    finally:
        end(child)
    assert not elsewhere.is_alive(tmp_path / "lock")


def test_another_boot_ends_every_owner(tmp_path: Path) -> None:
    for owner in (Owner.current(), Owner.detached()):
        assert owner.is_alive(tmp_path / "lock")
        assert not replace(owner, boot="another").is_alive(tmp_path / "lock")


def test_another_boot_makes_leases_stale_but_not_those_with_a_volume(
    make_book: MakeBook, environment: Surroundings, dev: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = make_book()
    mine, named = book.acquire(environment), book.acquire(environment, parallel_id="job-1")
    book.acquire(dev, ttl=60)
    monkeypatch.setattr(owners, "boot_id", lambda: "another")

    assert {lease.id for lease in book.stale()} == {mine.id, named.id}


def test_an_open_and_closed_lock_file_does_not_drop_the_lock(tmp_path: Path) -> None:
    owners.hold(tmp_path / "lock")
    (tmp_path / "lock").read_bytes()

    assert owners.is_held(tmp_path / "lock") is True
    owners.drop(tmp_path / "lock")
    assert owners.is_held(tmp_path / "lock") is False
    assert owners.is_held(tmp_path / "gone") is None


def test_two_who_look_at_once_do_not_take_each_other_for_the_owner(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("")
    with (tmp_path / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)

        assert owners.is_held(tmp_path / "lock") is False


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_keeps_nothing_of_its_parents_lease(tmp_path: Path) -> None:
    owners.hold(tmp_path / "lock")
    read, write = os.pipe()
    stop_read, stop_write = os.pipe()
    child = multiprocessing.get_context("fork").Process(target=_wait, args=(write, stop_read, stop_write))
    child.start()
    try:
        assert os.read(read, 1) == b"0"
        owners.drop(tmp_path / "lock")

        assert owners.is_held(tmp_path / "lock") is False
    finally:
        os.close(stop_write)
        child.join()
        for handle in (read, write, stop_read):
            os.close(handle)


def _wait(write: int, stop_read: int, stop_write: int) -> None:
    os.close(stop_write)
    os.write(write, str(len(owners._held)).encode())
    os.read(stop_read, 1)


def test_a_subprocess_inherits_no_lock(tmp_path: Path) -> None:
    owners.hold(tmp_path / "lock")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False) as child:  # noqa: S607 - from PATH, and harmless
        owners.drop(tmp_path / "lock")

        assert child.poll() is None
        assert owners.is_held(tmp_path / "lock") is False


@pytest.mark.parametrize(
    "label",
    ["", "plain", "detached:", "detached:1:x", "process:x", "process:1:2:x", "process:1:2:3:4:b", "process:a:2:3:b"],
)
def test_a_label_that_no_owner_wrote_is_no_one(label: str) -> None:
    assert Owner.parse(label) is None


@pytest.mark.parametrize("owner", [Owner.current(), Owner.detached()])
def test_a_label_is_read_back(owner: Owner) -> None:
    assert Owner.parse(owner.label()) == owner


def test_a_program_with_a_name_like_a_stat_line_is_read_right(tmp_path: Path) -> None:
    script = tmp_path / ") Z 1 2"
    script.symlink_to(Path("/bin/sleep").resolve())
    with subprocess.Popen([script, "60"]) as child:  # noqa: S603 - our own link
        try:
            assert (owners.start_ticks(child.pid) or 0) >= (owners.start_ticks(os.getpid()) or 0)
        finally:
            child.kill()


def test_a_process_that_is_not_there_has_neither_start_nor_command() -> None:
    assert owners.start_ticks(2**22 + 1) is None
    assert owners.command_line(2**22 + 1) == ""


def test_a_long_command_line_is_cut_to_one_terminal_line() -> None:
    words = [sys.executable, "-c", "input()", "x" * 200]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:  # noqa: S603 - our own words
        assert len(owners.command_line(child.pid)) <= 80
        assert child.stdin is not None
        child.stdin.close()


def test_a_lease_taken_over_is_not_given_up_by_its_old_owners_lock(book: LeaseBook, environment: Surroundings) -> None:
    lease = book.acquire(environment)
    old = os.open(lease.lock, os.O_RDONLY)
    try:
        owners.hold(lease.lock)

        assert os.fstat(old).st_ino != lease.lock.stat().st_ino
        assert owners.is_held(lease.lock)
    finally:
        os.close(old)
