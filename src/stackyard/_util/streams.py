"""
What happens to output that cannot be written. A program calls `guard` first and `settle` last.

A reader that has gone (`| head -1`) is no failure: the work goes on to its end, and the exit code is that of the work.
A full disk is one: the work goes on to its end as well, then one line says so and the exit code is not 0. A stream that
was closed by the caller (`>&-`) counts as /dev/null; so no file that is opened later gets its number.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

NAMES: Final = ("stdin", "stdout", "stderr")  # by number
GONE: Final = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EIO})  # the last is a terminal's
FAILED: Final = 1  # exit code of work that went well and whose output could not be written

_outlets: dict[str, _Outlet] = {}
_told: list[str] = []
_endless: list[bool] = []


class _Outlet(io.FileIO):
    """A standard stream that takes what it is given even when it can no longer pass it on."""

    lost: OSError | None = None

    def write(self, data: Any) -> int:
        """Write *data*, or note why that is impossible, and drop it."""
        size = memoryview(data).nbytes
        if self.lost is None:
            try:
                # None from a stream that must not block: its reader is slow
                while (written := super().write(data)) is None:
                    select.select([], [self], [])
            except OSError as error:
                self.lost = error
            else:
                return written
        if _endless:
            raise BrokenPipeError(*self.lost.args)
        return size

    @property
    def gone(self) -> bool:
        """Whether the reader of this stream has gone."""
        return self.lost is not None and self.lost.errno in GONE

    @property
    def failed(self) -> bool:
        """Whether output was lost that somebody may have wanted."""
        return self.lost is not None and not self.gone


def guard() -> None:
    """Guard this process's standard streams; what a test or a library has put in their place is left alone."""
    for number, name in enumerate(NAMES):
        stream = getattr(sys, name)
        if stream is None:
            _replace(number, name)
        elif number and name not in _outlets and stream is getattr(sys, f"__{name}__"):
            _wrap(number, name, stream)
    if "stdout" in _outlets:
        atexit.register(_settle_late)


def quiet_interrupts() -> None:
    """
    Let Ctrl-C end this process without a traceback, also while it still imports its modules.

    Python then ends itself with SIGINT, which a shell shows as exit code 130.
    """
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            before(kind, error, trace)

    sys.excepthook = hook


def _replace(number: int, name: str) -> None:
    """Open /dev/null in place of a stream that was closed before this program began."""
    try:
        os.fstat(number)
    except OSError:
        nowhere = os.open(os.devnull, os.O_RDWR)
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)
        os.set_inheritable(number, True)  # noqa: FBT003 - it takes no keyword
    # opened again, because a file of this program may have the number by now
    setattr(sys, name, open(os.devnull, "w" if number else "r", encoding="utf-8"))  # noqa: PTH123, SIM115 - it stays open


def _wrap(number: int, name: str, stream: Any) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if stream.fileno() != number:
            return
        stream.flush()
        outlet = _outlets[name] = _Outlet(number, "w", closefd=False)
        # a terminal that knows fewer letters than our tables have gets their names
        errors = "backslashreplace" if stream.errors == "strict" else stream.errors
        made = io.TextIOWrapper(
            io.BufferedWriter(outlet), encoding=stream.encoding, errors=errors, newline="\n",
            line_buffering=stream.line_buffering, write_through=stream.write_through,
        )  # fmt: skip
        setattr(sys, name, made)
        setattr(sys, f"__{name}__", made)


@contextlib.contextmanager
def endless() -> Iterator[None]:
    """
    End a `with` block whose work has no end of its own, such as a live view, when its output goes nowhere.

    Within it print raises BrokenPipeError, which ends the block; output must be flushed to be noticed.
    """
    _endless.append(True)
    try:
        with contextlib.suppress(BrokenPipeError):
            yield
    finally:
        _endless.pop()


def settle(code: int = 0) -> int:
    """
    Write out what is buffered and return the exit code: *code*, or 1 if that is 0 and output was lost.

    One line on standard error says what could not be written; later calls are quiet about the same.
    """
    for name in _outlets:
        with contextlib.suppress(OSError, ValueError):
            getattr(sys, name).flush()
    failed = {name: outlet.lost for name, outlet in _outlets.items() if outlet.failed and outlet.lost is not None}
    for name, error in failed.items():
        if name not in _told:
            _told.append(name)
            print(f"cannot write to {name}: {error.strerror}", file=sys.stderr, flush=True)  # noqa: T201 - a last word
    return code or (FAILED if failed else 0)


def _settle_late() -> None:
    """Settle what was written outside of a program's own work, such as help; all other handlers have run by now."""
    known = "stdout" in _told
    if settle() and "stdout" in _told and not known:  # what a program says on stderr last is why it failed anyway
        os._exit(FAILED)
