"""`invoke reaper.*` and `invoke env.pool`, with a reaper that is only noted down."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from invoke_shell import Shell
from lease_records import Surroundings

from stackyard.leases import LeaseBook, Owner
from stackyard.leases.warm import WarmStacks
from stackyard.project.environments import Environment
from stackyard.reaper import status
from stackyard.settings import Settings
from stackyard.stacks import reaper_launch
from stackyard.stacks.environments import launch
from stackyard.stacks.reaper_files import Notice, Post

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class YardShell(Shell):
    woken: list[Settings]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> YardShell:
    made = YardShell(capsys, [])
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("STACKYARD_REAPER", "on")
    monkeypatch.setattr(launch, "prepare_images", lambda *_: {})
    monkeypatch.setattr(reaper_launch, "wake", made.woken.append)
    return made


def warm() -> None:
    book = LeaseBook(Settings.load({**os.environ, "STACKYARD_POOL": "11000-11099"}))
    lease = book.acquire(Surroundings(), force=True)
    root = Environment.load("test").root
    assert WarmStacks(book).offer(lease, root=root, fingerprint="f" * 64, keeper=Owner.current())


def test_a_pool_is_set_shown_and_ended(shell: YardShell) -> None:
    assert "no pool; 'invoke env.pool" in shell.run("env.pool")[1]
    code, out, _ = shell.run("env.pool", "--environment", "test", "--size", "2")
    warm()
    shown = shell.json("env.pool")

    assert code == 0
    assert "environment      size    ready  project" in out
    assert [(item["environment"], item["size"], item["ready"]) for item in shown] == [("test", 2, 1)]
    assert len(shell.woken) == 1
    assert shell.run("env.pool", "--size", "0")[1] == "the pool of test has ended; the reaper removes its stacks\n"
    assert shell.json("env.pool", "--size", "0") == []
    assert len(shell.woken) == 3


@pytest.mark.parametrize("size", ["-1", "51", "nan", "1e3", "02", "two", "²"])
def test_a_size_that_is_no_number_of_stacks_is_one_line(shell: YardShell, size: str) -> None:
    code, _, message = shell.run("env.pool", f"--size={size}")

    assert code == 2
    assert message.startswith("--size must be a number from 0 to 50, got ")
    assert shell.woken == []


def test_what_keeps_its_data_has_no_pool(shell: YardShell) -> None:
    code, _, message = shell.run("env.pool", "--environment", "dev", "--size", "1")

    assert (code, message) == (2, "environment 'dev' keeps its data, so it has one stack and no pool")


def test_without_a_reaper_there_is_no_pool_but_one_can_be_ended(
    shell: YardShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STACKYARD_REAPER", "off")

    assert "STACKYARD_REAPER=off forbids it" in shell.run("env.pool", "--size", "1")[2]
    assert shell.run("env.pool", "--size", "0")[0] == 0


def test_waiting_ends_when_the_pool_is_full_or_time_is_over(shell: YardShell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "POLL_S", 0.01)
    code, _, message = shell.run("env.pool", "--size", "1", "--timeout", "0.03")
    warm()

    assert (code, message) == (7, "not ready after 0.03 s: test has 0 of 1; see 'invoke reaper.status'")
    assert shell.run("env.pool", "--timeout", "5")[0] == 0
    code, _, message = shell.run("env.pool", "--size", "0", "--timeout", "0.03")
    assert (code, message.split(";")[0]) == (7, "not ready after 0.03 s: warm stacks are left")


def test_a_status_tells_whether_a_reaper_runs(shell: YardShell, tmp_path: Path) -> None:
    assert shell.run("reaper.status")[1] == "no reaper runs; the next stack starts it\n"
    (tmp_path / "state").mkdir(mode=0o700)
    post = Post(tmp_path / "state")
    assert post.take()
    assert shell.run("reaper.status")[1] == "the reaper is starting\n"
    post.tell(Notice(owner=Owner.current().label(), code="1", since=0.0, watched=["a"], trouble="no image"))
    out = shell.run("reaper.status")[1]
    shown = shell.json("reaper.status")
    post.leave()

    assert f"pid      {os.getpid()}, since 19" in out
    assert "watched  1 lease\n" in out
    assert out.endswith("trouble  no image\n")
    assert shown["pid"] == os.getpid()
    assert shown["rss_bytes"] > shown["pss_bytes"] > 0


def test_stopping_says_whether_there_was_anything_to_stop(
    shell: YardShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shell.run("reaper.stop")[1] == "no reaper was running\n"
    assert shell.json("reaper.stop") == {"stopped": False}
    (tmp_path / "state").mkdir(mode=0o700)
    post = Post(tmp_path / "state")
    assert post.take()
    monkeypatch.setattr(Post, "dismiss", lambda _post: True)
    assert shell.run("reaper.stop")[1] == "the reaper has ended\n"
    monkeypatch.setattr(Post, "dismiss", lambda _post: False)
    code, _, message = shell.run("reaper.stop")
    post.leave()

    assert (code, message) == (1, f"the reaper does not end; see {post.log}")
