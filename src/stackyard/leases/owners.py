"""
The owner of a lease, and whether it is alive.

A process that owns a lease holds an ``flock`` on the lease's ``owner.lock`` until it ends. The kernel drops the lock in
whatever way the process ends, and a process that reuses the pid does not get it. Boot id, pid, start time and pid
namespace say which process it is, and replace the lock if its file is gone. A detached owner is only a deadline; it
ends with the boot in which its containers ran. Neither shows that the owner does anything useful. `filelock` has no
lock that many may share for a moment, which is how others ask whether the owner lives.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from stackyard._util import files as disk

_NUMBERS: Final = 3  # pid, ticks and namespace in a label
_PROC: Final = Path("/proc")
_DESCRIBED: Final = re.compile(r"(pid \d+) \((.*)\)", re.DOTALL)
_INTERPRETERS: Final = frozenset({"python", "bash", "sh", "node", "uv"})
_held: Final[dict[Path, int]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """
    The owner of a lease.

    Attributes:
        kind: ``process`` lives until its process ends; ``detached`` until the lease's deadline.
        boot: Boot id of the kernel it was made under.
        pid: Process id in *namespace*; 0 when detached.
        ticks: Start time of the process in clock ticks since boot; 0 when detached.
        namespace: Inode of its pid namespace; 0 when detached.
    """

    kind: Literal["process", "detached"]
    boot: str
    pid: int = 0
    ticks: int = 0
    namespace: int = 0

    @classmethod
    def current(cls) -> Owner:
        """Return this process as an owner."""
        return _process(os.getpid())

    @classmethod
    def detached(cls) -> Owner:
        """Return an owner that is only a deadline."""
        return cls(kind="detached", boot=boot_id())

    @classmethod
    def parse(cls, label: str) -> Owner | None:
        """Read a text that *label* wrote; None for any other."""
        kind, _, rest = label.partition(":")
        numbers, _, boot = rest.rpartition(":")
        if kind == "detached" and not numbers and boot:
            return cls(kind="detached", boot=boot)
        parts = numbers.split(":")
        if kind != "process" or len(parts) != _NUMBERS or not all(p.isascii() and p.isdigit() for p in parts):
            return None
        pid, ticks, namespace = map(int, parts)
        return cls(kind="process", boot=boot, pid=pid, ticks=ticks, namespace=namespace)

    def label(self) -> str:
        """Return the owner as one word, the value of the containers' ``stackyard.owner`` label."""
        if self.kind == "detached":
            return f"detached:{self.boot}"
        return f"process:{self.pid}:{self.ticks}:{self.namespace}:{self.boot}"

    def describe(self) -> str:
        """Describe the owner, with the command line of a process that still runs."""
        if self.kind == "detached":
            return "detached"
        command = command_line(self.pid) if self.runs() else ""
        return f"pid {self.pid} ({command})" if command else f"pid {self.pid}, which has ended"

    def runs(self) -> bool:
        """Say whether this process, and not another one with its pid, runs, as far as this pid namespace can see."""
        seen = self.boot == boot_id() and self.namespace == pid_namespace()
        return seen and self.ticks > 0 and start_ticks(self.pid) == self.ticks

    def is_alive(self, lock: Path) -> bool:
        """
        Say whether the owner is alive; deadlines are not checked.

        Args:
            lock: The lease's ``owner.lock``.
        """
        if self.boot != boot_id():
            return False
        if self.kind == "detached":
            return True
        held = is_held(lock)
        if held is None:
            return self.runs()
        # A fork that our hook missed may still hold the lock of a process that has ended.
        return held and (self.namespace != pid_namespace() or self.runs())


@cache
def _process(pid: int) -> Owner:
    return Owner(kind="process", boot=boot_id(), pid=pid, ticks=start_ticks(pid) or 0, namespace=pid_namespace())


@cache
def boot_id() -> str:
    """Return the kernel's id of this boot."""
    return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@cache
def pid_namespace() -> int:
    """Return the inode of this process's pid namespace."""
    return (_PROC / "self/ns/pid").stat().st_ino


def start_ticks(pid: int) -> int | None:
    """Return when process *pid* started, in clock ticks since boot; None if there is none, or only a zombie."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the program's name in brackets, and may itself hold spaces and brackets.
    rest = text.rpartition(")")[2].split()
    return None if rest[0] in "ZX" else int(rest[19])


def command_line(pid: int) -> str:
    """Return the command line of process *pid*, at most 80 characters; empty if it cannot be read."""
    try:
        raw = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ""
    text = raw.replace(b"\0", b" ").decode(errors="replace").strip()
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004 - one terminal line


def short(who: str) -> str:
    """Return *who*, as `Owner.describe` names a process, with its program alone: ``pid 12 pytest``."""
    found = _DESCRIBED.fullmatch(who)
    return f"{found[1]} {_program(found[2])}" if found else who


def _program(command: str) -> str:
    """Return the program of a command line: what an interpreter runs, else the first word; folders left out."""
    words = [word.rpartition("/")[2] for word in command.split()]
    if words and words[0].rstrip("0123456789.") in _INTERPRETERS and "-c" not in words[1:2]:
        named = [word for word in words[1:] if not word.startswith("-")]
        return named[0] if named else words[0]
    return words[0] if words else "unknown"


def hold(lock: Path) -> None:
    """
    Make a new file *lock* and hold its lock until *drop* or the end of this process.

    The file is new each time, because an owner whose deadline has passed may still hold the old one.

    Raises:
        OSError: If the file cannot be made.
    """
    drop(lock)
    try:
        lock.unlink(missing_ok=True)
    except IsADirectoryError:
        raise OSError(errno.EISDIR, "is a folder where a lock file must be; move it away", str(lock)) from None
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    _held[lock] = handle


def drop(lock: Path) -> None:
    """Stop holding *lock*; nothing happens if this process does not."""
    handle = _held.pop(lock, None)
    if handle is not None:
        os.close(handle)


def moved(before: Path, after: Path) -> None:
    """Note the new name of a lock that this process holds; a rename does not release a lock."""
    _held[after] = _held.pop(before)


def is_held(lock: Path) -> bool | None:
    """Say whether any process holds *lock*; None if the file is gone, cannot be opened or is not a plain file."""
    try:
        handle = disk.open_plain(lock, os.O_RDONLY)
    except OSError:
        return None
    try:
        # shared, so that two processes that check at the same time do not take each other for the owner
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _forget() -> None:
    """Close the parent's locks in a fork: an flock lasts as long as any copy of its descriptor."""
    for handle in _held.values():
        os.close(handle)
    _held.clear()
    # a descendant may get the pid of an ancestor that has ended
    _process.cache_clear()


os.register_at_fork(after_in_child=_forget)
