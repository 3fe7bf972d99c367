"""
Start a Docker engine that is installed but does not answer.

Whatever the machine has starts it: systemd, the init script, or dockerd by hand. An engine that was killed leaves pid
files, and it will not start while such a pid belongs to any living process; so a pid file whose process is not the
program it names is removed first. A living dockerd is only waited for: a second one would destroy the first one's
networks.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from stackyard._util import process
from stackyard._util.advice import Action, how
from stackyard.errors import CommandError, EngineError
from stackyard.host import iptables

if TYPE_CHECKING:
    from collections.abc import Callable

    from stackyard.docker.endpoint import Endpoint, PingResult
    from stackyard.host.machine import Machine

DEADLINE: Final = 30.0  # seconds until a started engine must answer
PAUSE: Final = 0.05  # seconds between two pings
LOG: Final = "/var/log/docker.log"
LOG_LINES: Final = 15
PID_FILES: Final = {"dockerd": "var/run/docker.pid", "containerd": "var/run/docker/containerd/containerd.pid"}
LIMIT: Final = "ulimit -n 1048576"  # the init script's first act, refused in many containers
FATAL: Final = ("failed to start daemon", "failed to start containerd")  # dockerd's last words
# The shell only opens the log: dockerd must not hold this process's pipes.
BY_HAND: Final = 'log=$1; shift; exec setsid -f "$@" >>"$log" 2>&1 </dev/null'


def start(
    machine: Machine,
    endpoint: Endpoint,
    say: Callable[[str], None],
    *,
    deadline: float = DEADLINE,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> PingResult:
    """
    Start the engine and return its first answer, for which it has *deadline* seconds.

    Raises:
        EngineError: If it does not answer in time; the text ends with the last lines of its log.
    """
    until = clock() + deadline
    pid = living(machine, "dockerd")
    already = log_size(machine)
    if pid:
        say(f"dockerd runs as process {pid} but does not answer yet, waiting up to {deadline:g} s")
    else:
        _launch_anew(machine, say)
    while True:
        if pid and not living(machine, "dockerd"):  # it was ending, not starting
            pid = 0
            _launch_anew(machine, say)
        ping = endpoint.ping(deadline=1.0)
        if ping.state in {"answers", "forbidden"}:
            return ping
        words = new_log(machine, already)
        if clock() >= until or (not pid and any(last in words for last in FATAL)):
            raise EngineError(_failure(machine, endpoint, ping, deadline if clock() >= until else None, words))
        sleep(PAUSE)


def _launch_anew(machine: Machine, say: Callable[[str], None]) -> None:
    for path in clear_stale(machine):
        say(f"removed {path}: the process it names is gone")
    say(f"starting the Docker engine ({launch(machine)})")


def launch(machine: Machine) -> str:
    """
    Start dockerd with what this machine has and return how.

    Raises:
        EngineError: If there is no way to start it.
    """
    if machine.has_systemd:
        process.run(machine.as_root(["systemctl", "start", "docker.service"]), deadline=DEADLINE, check=False)
        return "systemd"
    if machine.has_init_script and _init_script_may_run(machine):
        done = process.run(machine.as_root(["service", "docker", "start"]), deadline=DEADLINE, check=False)
        if done.returncode == 0:
            return "init script"
    dockerd = machine.program("dockerd")
    if dockerd is None:
        raise EngineError(f"dockerd is not installed; {how(Action.INSTALL)}")
    log = str(machine.base / LOG.lstrip("/"))
    argv = ["sh", "-c", BY_HAND, "sh", log, dockerd, "-p", str(machine.base / PID_FILES["dockerd"])]
    legacy = iptables.legacy_folder(machine)
    env = {"PATH": os.pathsep.join([legacy, machine.path])} if legacy else {}
    process.run(machine.as_root(argv, env), deadline=DEADLINE)
    return f"by hand, {'with iptables-legacy, ' if legacy else ''}log in {log}"


def _init_script_may_run(machine: Machine) -> bool:
    """Tell whether the number of open files can be raised; docker's init script ends at once where it cannot."""
    limit = machine.as_root(["sh", "-c", LIMIT])
    return process.run(limit, deadline=10.0, check=False).returncode == 0


def living(machine: Machine, program: str) -> int:
    """Return the pid in *program*'s pid file if that process lives and is *program*, else 0."""
    return _living(machine, program, _pid_file(machine, program))


def _living(machine: Machine, program: str, text: str | None) -> int:
    pid = int(text) if text and text.isdecimal() else 0
    try:
        stat = (machine.base / f"proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    # "pid (comm) state ...", proc(5); a dead one stays as a zombie until its parent waits for it
    comm, _, rest = stat.partition("(")[2].rpartition(")")
    return pid if comm == program and rest.split()[0] not in {"Z", "X"} else 0


def clear_stale(machine: Machine) -> list[str]:
    """
    Remove the pid files whose process is gone or is another program by now, and return their paths.

    Raises:
        EngineError: If this user may not become root.
    """
    removed: list[str] = []
    for program, name in PID_FILES.items():
        text = _pid_file(machine, program)
        if text is not None and not _living(machine, program, text):
            process.run(machine.as_root(["rm", "-f", str(machine.base / name)]), deadline=10.0)
            removed.append(str(machine.base / name))
    return removed


def _pid_file(machine: Machine, program: str) -> str | None:
    """Return what *program*'s pid file says, read as root where only root may; None when there is none."""
    path = machine.base / PID_FILES[program]
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except PermissionError:
        done = process.run(machine.as_root(["cat", str(path)]), deadline=10.0, check=False)
        return done.stdout.strip() if done.returncode == 0 else None
    except OSError:
        return None


def log_size(machine: Machine) -> int:
    """Return how many bytes the log held before the start; 0 when there is none."""
    path = machine.base / LOG.lstrip("/")
    return path.stat().st_size if path.exists() else 0


def new_log(machine: Machine, already: int) -> str:
    """Return what was written to the log after its first *already* bytes; empty when it may not be read."""
    try:
        with (machine.base / LOG.lstrip("/")).open("rb") as file:
            file.seek(already)
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _failure(machine: Machine, endpoint: Endpoint, ping: PingResult, waited: float | None, words: str) -> str:
    """Say that the engine did not start, and what it said last."""
    how = f"does not answer at {endpoint.url} after {waited:g} s ({ping.detail})" if waited else "did not start"
    tail = words.strip().splitlines()[-LOG_LINES:] or _journal(machine)
    shown = "".join(f"\n  {line}" for line in tail) or "\n  (it wrote no log)"
    return f"the Docker engine {how}; its last lines:{shown}"


def _journal(machine: Machine) -> list[str]:
    """Return the last lines the service manager kept; none where it keeps none."""
    if not machine.has_systemd:
        return []
    try:
        argv = ["journalctl", "-u", "docker.service", "-n", str(LOG_LINES), "--no-pager", "-o", "cat"]
        return process.run(machine.as_root(argv), deadline=10.0).stdout.splitlines()
    except CommandError:
        return []
