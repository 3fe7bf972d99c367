"""Where a reaper is found, how it is woken and dismissed, and what wakes it up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import stackyard
from stackyard._util import process
from stackyard.errors import CommandError
from stackyard.leases import Owner
from stackyard.leases.owners import start_ticks
from stackyard.reaper.events import ENDING, Watch
from stackyard.reaper.status import Status
from stackyard.settings import Settings
from stackyard.stacks import reaper_files, reaper_launch
from stackyard.stacks.reaper_files import Notice, Post

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def test_of_two_only_one_becomes_the_reaper(place: Post, settings: Settings) -> None:
    other = Post(settings.state_dir)

    assert not other.take(patience=0.05)
    assert other.is_taken()
    place.leave()
    assert other.take(patience=0)
    assert not place.is_mine()
    other.leave()
    assert not other.is_taken()


def test_a_lock_that_was_made_again_is_not_mine(place: Post) -> None:
    assert place.is_mine()
    place.lock.unlink()
    assert not place.is_mine()
    place.lock.touch()
    assert not place.is_mine()


def test_a_lock_that_is_let_go_in_time_is_taken(
    place: Post, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _seconds: place.leave())
    other = Post(settings.state_dir)

    assert other.take(patience=1.0, clock=lambda: 5.0)
    other.leave()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"owner": 1}'], ids=["empty", "cut off", "a list", "incomplete"])
def test_a_broken_notice_is_none(place: Post, text: str) -> None:
    place.notice.write_text(text)

    assert place.read() is None
    assert Status.read(place) == Status(running=True)


def test_a_long_log_is_begun_again(place: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaper_files, "LOG_LIMIT", 10)
    for expected in (6, 12, 6):
        handle = place.open_log()
        os.write(handle, b"a line")
        os.close(handle)
        assert place.log.stat().st_size == expected
    assert place.log.stat().st_mode & 0o777 == 0o600


def test_no_one_has_to_be_dismissed_from_an_empty_post(settings: Settings) -> None:
    assert Post(settings.state_dir).dismiss(patience=0)


def test_a_reaper_is_dismissed(holder: Callable[..., subprocess.Popen[str]], settings: Settings) -> None:
    child = holder("0.1")

    assert Post(settings.state_dir).dismiss(patience=120)
    assert child.wait(120) == -signal.SIGTERM


def test_a_reaper_that_does_not_end_is_waited_for_in_vain(
    holder: Callable[..., subprocess.Popen[str]], settings: Settings
) -> None:
    child = holder("0.1", "deaf")

    assert not Post(settings.state_dir).dismiss(patience=0.2)
    assert child.poll() is None


def test_who_follows_a_dismissed_one_is_left_alone(
    holder: Callable[..., subprocess.Popen[str]], settings: Settings
) -> None:
    old = holder("0.1")
    found = Post(settings.state_dir)
    new: list[subprocess.Popen[str]] = []

    def replace_at_once() -> None:
        old.wait(120)
        new.append(holder("0.2"))

    successor = threading.Thread(target=replace_at_once)
    successor.start()
    assert found.dismiss(patience=120)
    successor.join()

    assert new[0].poll() is None


@pytest.mark.parametrize(
    ("notices", "told", "ended"),
    [
        (["old", "old", "ended"], ["old"], True),
        (["old", "new", "new"], ["old"], True),  # another one has the place
        (["old", None, "new"], ["old"], True),
        (["old"], ["old"], False),
        (["ended", None, "old", "new"], ["old"], True),  # the notice of an earlier one, then none, then its own
        ([None], [], False),
        (["ended"], [], False),
    ],
)
def test_only_the_reaper_that_was_there_is_asked_to_end_and_once(
    place: Post, monkeypatch: pytest.MonkeyPatch, notices: list[str | None], told: list[str], ended: bool
) -> None:
    owners = {name: replace(Owner.current(), pid=pid) for pid, name in enumerate(("old", "new", "ended"), 7)}
    names = {owner.pid: name for name, owner in owners.items()}
    rest, asked = list(notices), list[str]()

    def read(_post: Post) -> Notice | None:
        name = rest.pop(0) if len(rest) > 1 else rest[0]
        return Notice(owner=owners[name].label(), code="0.1", since=0.0) if name else None

    monkeypatch.setattr(Post, "read", read)
    monkeypatch.setattr(Owner, "runs", lambda owner: names[owner.pid] != "ended")
    monkeypatch.setattr(reaper_files, "_terminate", lambda who: asked.append(names[who.pid]))
    monkeypatch.setattr(reaper_files, "POLL", 0.0)
    ticks = iter(range(100))

    assert (place.dismiss(patience=10, clock=lambda: next(ticks)), asked) == (ended, told)


def test_the_notice_of_a_reused_pid_gets_no_process_killed(place: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda *_: pytest.fail("it is another process"))
    owner = Owner.current()
    notice = Notice(owner=replace(owner, ticks=owner.ticks - 1).label(), code="0.1", since=0.0)
    place.tell(notice)

    assert not place.dismiss(patience=0.05)
    reaper_files._terminate(replace(owner, ticks=owner.ticks - 1))
    reaper_files._terminate(replace(owner, pid=2**22 - 1))


@pytest.mark.parametrize(
    ("theirs", "mine", "older"),
    [
        ("0.1.0+5", "0.1.0+6", True),
        ("0.1.0+6", "0.1.0+6", False),
        ("0.1.0+9", "0.2.0+1", True),
        ("0.10.0+1", "0.9.0+2", False),
        ("nonsense", "0.1.0+1", True),
    ],
)
def test_versions_come_before_times(theirs: str, mine: str, older: bool) -> None:
    assert reaper_files.is_older(theirs, mine) is older


def test_code_names_version_and_newest_file() -> None:
    version, _, written = reaper_files.code().partition("+")

    assert version == "0.1.0"
    assert int(written) > 1_700_000_000_000_000_000


def test_only_what_the_newest_python_file_says_makes_a_reaper_an_older_one(tmp_path: Path) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    assert reaper_files._newest(str(folder)) == 0
    times = {"a.py": 5, "part/b.py": 7, "part/text.txt": 9, "__pycache__/c.py": 11, "__pycache__.py": 6}
    for name, written in times.items():
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
        os.utime(file, ns=(written, written))
    (folder / "part" / "all").symlink_to(folder)
    os.utime(folder, ns=(3, 3))

    assert reaper_files._newest(str(folder)) == 7


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """Let reapers be started; note how instead."""
    calls: list[tuple[list[str], dict[str, str]]] = []

    def note(argv: list[str], *, output: int, env: dict[str, str]) -> None:
        os.write(output, b"begins\n")
        calls.append((argv, env))

    monkeypatch.setattr(process, "detach", note)
    return calls


def test_the_first_stack_wakes_a_reaper_for_its_book(
    settings: Settings, woken: list[tuple[list[str], dict[str, str]]]
) -> None:
    settings.state_dir.mkdir(mode=0o700)

    assert reaper_launch.wake(settings)
    (argv, env) = woken[0]
    assert argv == [sys.executable, "-m", "stackyard.reaper"]
    assert Settings.load(env) == settings
    assert env["PYTHONPATH"] == str(Path(stackyard.__file__).parents[1])
    assert Post(settings.state_dir).log.read_text() == "begins\n"


def test_one_that_is_there_is_enough(
    settings: Settings, place: Post, woken: list[tuple[list[str], dict[str, str]]]
) -> None:
    assert not reaper_launch.wake(settings)
    place.tell(Notice(owner=Owner.current().label(), code=reaper_files.code(), since=0.0))
    assert not reaper_launch.wake(settings)
    assert woken == []


def test_an_older_one_is_replaced(
    settings: Settings, place: Post, woken: list[tuple[list[str], dict[str, str]]]
) -> None:
    place.tell(Notice(owner=Owner.current().label(), code="0.0.9+1", since=0.0))

    assert reaper_launch.wake(settings)
    assert len(woken) == 1


def test_switched_off_none_is_started_for_that_book(
    settings: Settings, woken: list[tuple[list[str], dict[str, str]]]
) -> None:
    settings.state_dir.mkdir(mode=0o700)

    assert not reaper_launch.wake(replace(settings, reaper="off"))
    assert woken == []


def test_one_that_cannot_be_started_is_no_error(
    settings: Settings, woken: list[tuple[list[str], dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not reaper_launch.wake(settings)  # no state directory

    settings.state_dir.mkdir(mode=0o700)

    def refuse(argv: list[str], **_: object) -> None:
        raise CommandError(argv, 127, "setsid: no such program")

    monkeypatch.setattr(process, "detach", refuse)
    assert not reaper_launch.wake(settings)
    assert woken == []


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    (tmp_path / "book").write_bytes(bytes(100))
    made = Watch(tmp_path / "book")
    yield made
    made.close()


def test_the_end_of_a_process_wakes_it(watch: Watch) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = replace(Owner.current(), pid=child.pid, ticks=_ticks(child.pid))
    assert watch.follow([owner]) == set()
    assert watch.follow([owner]) == set()
    assert not watch.wait(0)

    child.communicate(b"\n")

    assert watch.wait(60)
    assert watch._processes == {}
    assert watch.follow([owner]) == {owner}


def test_who_need_not_be_watched_any_more_is_let_go(watch: Watch) -> None:
    me = Owner.current()
    watch.follow([me])
    watch.follow([])

    assert watch._processes == {}


def test_another_process_of_the_same_number_is_not_watched(watch: Watch) -> None:
    me = Owner.current()

    assert watch.follow([replace(me, ticks=me.ticks - 1)]) == {replace(me, ticks=me.ticks - 1)}


def test_a_change_of_the_book_wakes_it_even_within_one_tick_of_the_clock(watch: Watch, tmp_path: Path) -> None:
    book = tmp_path / "book"
    before = book.stat()
    assert not watch.changed()
    book.write_bytes(bytes(24) + b"\0\0\0\1" + bytes(72))
    os.utime(book, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert watch.wait(60)
    assert not watch.changed()
    book.unlink()
    assert watch.changed()


def test_a_signal_wakes_and_is_remembered(watch: Watch) -> None:
    before = {number: signal.getsignal(number) for number in (*ENDING, signal.SIGCHLD)}
    try:
        watch.listen()
        signal.raise_signal(signal.SIGCHLD)
        assert watch.wait(60)
        assert not watch.ending
        signal.raise_signal(signal.SIGTERM)
        assert watch.wait(60)
        assert watch.ending
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)


def _ticks(pid: int) -> int:
    found = start_ticks(pid)
    assert found is not None
    return found


def test_a_child_is_started_with_its_output_in_a_file(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        child = process.start([sys.executable, "-c", "print('here')"], output=log.fileno())
        assert child.wait(120) == 0

    assert (tmp_path / "log").read_text() == "here\n"
    with pytest.raises(CommandError, match="no such program"):
        process.start(["no-such-program"], output=2)


def test_a_detached_program_is_no_one_s_child_and_in_a_session_of_its_own(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "import os; print(os.getppid(), os.getsid(0), os.getcwd(), sorted(os.listdir('/proc/self/fd')))"
    with log.open("wb") as output:
        process.detach([sys.executable, "-c", script], output=output.fileno())
    end = time.monotonic() + 120
    while not log.read_text().endswith("\n") and time.monotonic() < end:
        time.sleep(0.01)

    parent, session, folder, *handles = log.read_text().split()
    assert int(parent) != os.getpid()
    assert int(session) != os.getsid(0)
    assert folder == "/"
    assert len(handles) <= 4


def test_without_setsid_nothing_can_be_detached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError, match="setsid: no such program"):
        process.detach(["true"], output=2)
    (tmp_path / "setsid").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "setsid").chmod(0o755)
    with pytest.raises(CommandError, match="exit code 3"):
        process.detach(["true"], output=2)
