"""Runs other programs: a list of arguments, no shell, a deadline, an allow-listed environment."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stackyard.errors import CommandError
from stackyard.settings import NAMES

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import psutil

log = logging.getLogger("stackyard")

# What a child may inherit: enough to find programs, the engine, a terminal, certificates and package mirrors.
# Everything else (COMPOSE_*, PG*, a caller's secrets) stays out: the shell's value would win over the env file's.
INHERITED: Final = frozenset(
    "PATH HOME USER LANG LC_ALL TERM TZ TMPDIR XDG_RUNTIME_DIR XDG_CONFIG_HOME XDG_CACHE_HOME XDG_STATE_HOME "
    "DOCKER_HOST DOCKER_CONTEXT DOCKER_CONFIG DOCKER_CERT_PATH DOCKER_TLS_VERIFY SSH_AUTH_SOCK SSL_CERT_FILE "
    "SSL_CERT_DIR REQUESTS_CA_BUNDLE HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy".split()
)
INHERITED_PREFIXES: Final = ("PIP_", "UV_")
MISSING: Final = 127  # a shell's exit code for a program that is not there
MARK: Final = "STACKYARD_PAYLOAD"  # by its value whatever a payload has started is found again
STOP_GRACE: Final = 3.0  # seconds between SIGTERM and SIGKILL for a child past its deadline
LAST_WORDS: Final = 0.5  # seconds to read what a child wrote before it was ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """
    What a finished command left.

    Attributes:
        argv: The command's words.
        returncode: Its exit code.
        stdout: Its standard output; standard error too when the two were merged.
        stderr: Its standard error; empty when merged.
        seconds: Wall time.
    """

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment a child gets: the allow-listed part of this process's own, then *extra*."""
    kept = {k: v for k, v in os.environ.items() if k in INHERITED or k in NAMES or k.startswith(INHERITED_PREFIXES)}
    return kept | dict(extra or {})


@functools.cache
def _parent_death_signal() -> tuple[str, ...]:
    """
    Return the words that make a child end with the thread that started it, even when that is killed with SIGKILL.

    A `docker compose up` that outlived its parent would go on creating containers behind the back of any clean-up.
    `setpriv` (util-linux) asks the kernel for it (prctl PR_SET_PDEATHSIG) and then becomes the command.
    """
    program = shutil.which("setpriv")
    return (program, "--pdeathsig", "TERM", "--") if program else ()


def with_parent_death_signal(argv: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """
    Return the words to execute for *argv*.

    Raises:
        CommandError: If the program is not there; said here, because `setpriv` would say it in its own words.
    """
    if shutil.which(argv[0], path=env.get("PATH")) is None:
        raise CommandError(argv, MISSING, f"{argv[0]}: no such program")
    return [*_parent_death_signal(), *argv]


def run(
    argv: Sequence[str],
    *,
    deadline: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    check: bool = True,
) -> Completed:
    """
    Run one command to its end and return its output.

    Args:
        argv: Program and arguments; never goes through a shell.
        deadline: Seconds until the command's whole process group is stopped.
        env: Variables on top of the allow-listed ones.
        cwd: Working directory.
        stdin: Text for its standard input; None gives it an empty one.
        check: Raise when the exit code is not 0.

    Raises:
        CommandError: If the program is missing, fails (with *check*), or runs past *deadline*.
    """
    started = time.monotonic()
    log.debug("run %s", shlex.join(argv))
    with _child(argv, env, cwd, stdin=stdin is not None, stderr=subprocess.PIPE) as child:
        try:
            out, err = child.communicate(stdin, timeout=deadline)
        except subprocess.TimeoutExpired:
            out, err = _stop(child)
            raise CommandError(argv, None, err or out) from None
    seconds = time.monotonic() - started
    log.debug("exit %s after %.3f s: %s", child.returncode, seconds, argv[0])
    if check and child.returncode != 0:
        raise CommandError(argv, child.returncode, err or out)
    return Completed(argv=tuple(argv), returncode=child.returncode, stdout=out, stderr=err, seconds=seconds)


def stream(
    argv: Sequence[str],
    *,
    deadline: float,
    on_line: Callable[[str], None],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Completed:
    """
    Run one command and hand each line it writes (both streams) to *on_line* at once; never checks the exit code.

    Raises:
        CommandError: If the program is missing or runs past *deadline* seconds.
    """
    started = time.monotonic()
    log.debug("stream %s", shlex.join(argv))
    lines: list[str] = []
    with _child(argv, env, cwd, stdin=False, stderr=subprocess.STDOUT) as child:
        expired = threading.Event()

        def end() -> None:
            expired.set()
            _signal_group(child, signal.SIGKILL)

        timer = threading.Timer(deadline, end)
        timer.start()
        try:
            for line in child.stdout or ():
                lines.append(line)
                on_line(line.rstrip("\n"))
            child.wait()
        finally:
            timer.cancel()
    if expired.is_set():
        raise CommandError(argv, None, "".join(lines[-20:]))
    seconds = time.monotonic() - started
    return Completed(argv=tuple(argv), returncode=child.returncode, stdout="".join(lines), stderr="", seconds=seconds)


async def run_async(
    argv: Sequence[str], *, deadline: float, env: Mapping[str, str] | None = None, cwd: Path | None = None,
    errors: bytearray | None = None,
) -> Completed:  # fmt: skip
    """
    Run one command to its end without blocking the event loop; cancelling ends its whole process group first.

    *errors* gets what the command writes to its standard error, also if it is ended.

    Raises:
        CommandError: If the program is missing, fails, or runs past *deadline* seconds.
    """
    import asyncio

    started = time.monotonic()
    log.debug("run %s", shlex.join(argv))
    environment = child_environment(env)
    creating = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *with_parent_death_signal(argv, environment), env=environment, cwd=cwd, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
    )  # fmt: skip
    said = bytearray(), bytearray() if errors is None else errors
    try:
        async with asyncio.timeout(deadline):
            # cancelled half-way, the module would leave open pipes of a child behind
            child = await asyncio.shield(creating)
            await _read(child, said)
            await child.wait()
    except TimeoutError:
        raise CommandError(argv, None, "") from None
    finally:
        await _end_async(creating, said)
    seconds = time.monotonic() - started
    out, err = (text.decode(errors="replace") for text in said)
    if child.returncode:
        raise CommandError(argv, child.returncode, err or out)
    return Completed(argv=tuple(argv), returncode=0, stdout=out, stderr=err, seconds=seconds)


def start(argv: Sequence[str], *, output: int, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """
    Start one command without waiting for it; it ends with the thread that started it, and that has to wait for it.

    Args:
        argv: Program and arguments; never goes through a shell.
        output: File descriptor of both of its outputs.
        env: Variables on top of the allow-listed ones.

    Raises:
        CommandError: If the program is missing.
    """
    log.debug("start %s", shlex.join(argv))
    environment = child_environment(env)
    return subprocess.Popen(  # noqa: S603 - as in _child
        with_parent_death_signal(argv, environment), env=environment, start_new_session=True, stdin=subprocess.DEVNULL,
        stdout=output, stderr=output,
    )  # fmt: skip


def limit_reached(error: BaseException) -> str:
    """Say that no more processes or threads may be started here; return an empty text for any other *error*."""
    fork = isinstance(error, BlockingIOError) and error.strerror == os.strerror(errno.EAGAIN)
    if not fork and "can't start new thread" not in str(error):
        return ""
    return (
        "this process may start no more processes or threads; end some, or raise the limit ('ulimit -u', or pids.max "
        "of its control group)"
    )


def detach(argv: Sequence[str], *, output: int, env: Mapping[str, str] | None = None) -> None:
    """
    Start one command that outlives this process: not its child, in a session of its own, working in the root folder.

    Args:
        argv: Program and arguments; never goes through a shell.
        output: File descriptor of both of its outputs.
        env: Variables on top of the allow-listed ones.

    Raises:
        CommandError: If `setsid` (util-linux) is missing or fails.
    """
    words = ["setsid", "--fork", "--", *argv]
    if shutil.which(words[0]) is None:
        raise CommandError(words, MISSING, "setsid: no such program")
    log.debug("detach %s", shlex.join(argv))
    code = subprocess.call(  # noqa: S603 - as in _child
        words, env=child_environment(env), stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/"
    )  # fmt: skip
    if code:
        raise CommandError(words, code, "")


async def _read(child: asyncio.subprocess.Process, said: Sequence[bytearray]) -> None:
    """Add to *said* what a child writes to its two outputs, to their end; cancelling keeps what has been read."""
    import asyncio

    async def read(pipe: asyncio.StreamReader | None, text: bytearray) -> None:
        while pipe is not None and (part := await pipe.read(65536)):
            text.extend(part)

    await asyncio.gather(*map(read, (child.stdout, child.stderr), said))


async def _end_async(creating: asyncio.Future[asyncio.subprocess.Process], said: Sequence[bytearray]) -> None:
    """End a child's whole process group if it still runs, read what it wrote at last, and close its pipes."""
    import asyncio

    await asyncio.wait({creating})
    if creating.exception() is not None:
        return
    child = creating.result()
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):  # a grandchild in another group may hold a pipe open
        async with asyncio.timeout(LAST_WORDS):
            await _read(child, said)
    transport = child._transport  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public way
    # `wait` returns when both pipes are at their end: one that is full never gets there, nor one that is held open
    for number in (1, 2):
        transport.get_pipe_transport(number).close()
    await child.wait()
    transport.close()


def passthrough(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    deadline: float | None = None,
    inherit: bool = True,
) -> int:
    """
    Run one command on this process's own terminal and return its exit code.

    It stays in the terminal's foreground group, so Ctrl-C and a debugger reach it. Whatever it started ends with it,
    processes that have cut themselves loose too.

    Args:
        argv: Program and arguments; never goes through a shell.
        env: Variables on top of the inherited ones.
        cwd: Working directory.
        deadline: Seconds until it is ended with all it started; None sets no limit.
        inherit: Give it the caller's whole environment, not only the allow-listed part.

    Raises:
        CommandError: If the program is missing or runs past *deadline*.
    """
    log.debug("run %s", shlex.join(argv))
    mark = os.urandom(8).hex()
    environment = (os.environ | dict(env or {}) if inherit else child_environment(env)) | {MARK: mark}
    child = subprocess.Popen(with_parent_death_signal(argv, environment), env=environment, cwd=cwd)  # noqa: S603 - as in _child
    try:
        return child.wait(deadline)
    except subprocess.TimeoutExpired:
        raise CommandError(argv, None, "") from None
    finally:
        _end_all(child, mark)


def _end_all(child: subprocess.Popen[bytes], mark: str) -> None:
    """End a child that shares our process group, and all it started: politely, then by force."""
    import psutil

    found = _marked(mark)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for member in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.send_signal(number)
        psutil.wait_procs(found, timeout=STOP_GRACE)
        found = _marked(mark)  # with what was started in the meantime
        if not found:
            break
    child.wait()


def _marked(mark: str) -> list[psutil.Process]:
    """List the processes that inherited *mark*: a daemon leaves its parent and its session, but not its environment."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@contextlib.contextmanager
def _child(
    argv: Sequence[str], env: Mapping[str, str] | None, cwd: Path | None, *, stdin: bool, stderr: int
) -> Iterator[subprocess.Popen[str]]:
    """Start the command in its own process group; whatever happens, it does not outlive the block."""
    environment = child_environment(env)
    child = subprocess.Popen(  # noqa: S603 - the one place; a list of arguments, no shell
        with_parent_death_signal(argv, environment), env=environment, cwd=cwd, text=True, errors="replace",
        start_new_session=True, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=stderr,
    )  # fmt: skip
    try:
        yield child
    finally:
        if child.poll() is None:
            _stop(child)
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()


def _stop(child: subprocess.Popen[str]) -> tuple[str, str]:
    """End the child's process group, politely first; return what it had written."""
    _signal_group(child, signal.SIGTERM)
    try:
        return child.communicate(timeout=STOP_GRACE)
    except subprocess.TimeoutExpired:
        _signal_group(child, signal.SIGKILL)
        return child.communicate()


def _signal_group(child: subprocess.Popen[str], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)
