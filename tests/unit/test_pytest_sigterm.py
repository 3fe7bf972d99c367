"""SIGTERM during a test that has a stack: once like Ctrl-C, then not at all until the stack has been removed."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, cast

import pytest

from stackyard.pytest_plugin import sigterm
from stackyard.pytest_plugin.main_process import MainProcess

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def test_sigterm_ends_the_block_like_ctrl_c_and_a_second_one_does_not_break_off_what_follows() -> None:
    removed = []

    def block() -> None:
        with sigterm.handled():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                removed.append("the stack")

    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        block()

    assert removed == ["the stack"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_no_sigterm_breaks_off_what_the_main_process_does_once_the_workers_have_ended() -> None:
    finish = MainProcess({"folder": "/nowhere", "pid": 0}).pytest_sessionfinish(cast("pytest.Session", None))
    next(finish)  # the workers end

    os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(AttributeError, match="exitstatus"):
        finish.throw(AttributeError("exitstatus"))
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_handler_of_somebody_else_stays() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))

    with sigterm.handled():
        os.kill(os.getpid(), signal.SIGTERM)

    assert heard == [signal.SIGTERM]


def test_blocks_inside_one_another_handle_it_once() -> None:
    with sigterm.handled():
        outer = signal.getsignal(signal.SIGTERM)
        with sigterm.handled():
            assert signal.getsignal(signal.SIGTERM) == outer
        assert signal.getsignal(signal.SIGTERM) == outer


def test_another_thread_than_the_main_one_handles_nothing() -> None:
    seen = []

    def block() -> None:
        with sigterm.handled():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()

    assert seen == [signal.SIG_DFL]
