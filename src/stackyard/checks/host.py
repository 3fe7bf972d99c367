"""What a host needs: each check is a small object that checks one thing and knows the fix."""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from stackyard._util import files, process
from stackyard._util.advice import Action, typed
from stackyard.docker import versions
from stackyard.docker.endpoint import Endpoint, PingResult, permission_fix, version_tuple
from stackyard.errors import BookError, CommandError, StackyardError, UsageError
from stackyard.host import engine_setup
from stackyard.host.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Status = Literal["ok", "warn", "fail", "unknown"]

ASK_DEADLINE: Final = 10.0  # seconds for one question to the docker client or the engine
DISK_MB: Final = 3000  # MiB: the images of both flavours and a build's cache
STATE_MB: Final = 16  # MiB: the lease book with its journal, and the files of many copies
MEMORY_MB: Final = 1024  # MiB: one stack at its limits, and its tests
CLOCK_S: Final = 2.0  # seconds the engine's clock may differ before tokens look expired
MIB: Final = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFinding:
    """
    What one check found.

    Attributes:
        status: `fail` if stackyard cannot work like this, `warn` if something could be better, `unknown` if it could
            not be checked because something else is missing; then the check for the missing thing shows the fix.
        found: What is there, with its unit.
        needed: What should be there.
        fix: What to do; empty if nothing is needed.
    """

    id: str
    title: str
    status: Status
    found: str
    needed: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """The facts that all checks use, read once: *info* is empty if no engine answered, *skew* is in seconds."""

    machine: Machine = field(default_factory=Machine)
    endpoint: Endpoint
    ping: PingResult
    info: dict[str, Any] = field(default_factory=dict)
    skew: float = 0.0

    @classmethod
    def read(cls, machine: Machine | None = None) -> HostFacts:
        """Ask the engine for what the checks need; never raise."""
        endpoint = Endpoint.find()
        ping = endpoint.ping()
        info: dict[str, Any] = {}
        asked = time.time()
        if ping.state == "answers":
            try:
                info = endpoint.get("/info", deadline=ASK_DEADLINE)
            except OSError as error:
                ping = PingResult(state="silent", detail=str(error))
        skew = _skew(str(info.get("SystemTime", "")), (asked + time.time()) / 2)
        return cls(machine=machine or Machine(), endpoint=endpoint, ping=ping, info=info, skew=skew)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """
    The result of one check.

    Attributes:
        ok: Whether the need is met.
        fix: A better fix than the check's own; empty if that one fits.
        unknown: Whether it could not be checked, for a reason that another check names.
    """

    ok: bool
    found: str
    fix: str = ""
    unknown: bool = False


NOT_CHECKED: Final = CheckResult(ok=False, found="not checked: no engine answers", unknown=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCheck:
    """One requirement; *required* if stackyard cannot work without it."""

    id: str
    title: str
    needed: str
    fix: str | Action
    look: Callable[[HostFacts], CheckResult]
    required: bool = True

    def run(self, facts: HostFacts) -> HostFinding:
        """Check once; a check that fails is a finding too."""
        try:
            seen = self.look(facts)
        except (StackyardError, OSError) as error:
            seen = CheckResult(ok=False, found=f"cannot be checked: {str(error).splitlines()[0]}", fix=_fix_of(error))
        status: Status = (
            "unknown" if seen.unknown else "ok" if seen.ok else "fail" if self.required else "warn"
        )  # fmt: skip
        general = typed(self.fix) if isinstance(self.fix, Action) else self.fix
        fix = "" if seen.ok or seen.unknown else seen.fix or general
        return HostFinding(id=self.id, title=self.title, status=status, found=seen.found, needed=self.needed, fix=fix)


def _fix_of(error: Exception) -> str:
    """Return a fix for *error* if the check's own fix does not help; else an empty text."""
    if isinstance(error, BookError):
        return "set STACKYARD_STATE_DIR to a new directory, or correct what the error names"
    return "correct what the error names" if isinstance(error, UsageError) else ""


def examine(machine: Machine | None = None, checks: Sequence[HostCheck] | None = None) -> list[HostFinding]:
    """Run every check, in order, and return what each found."""
    facts = HostFacts.read(machine)
    return [check.run(facts) for check in (CHECKS if checks is None else checks)]


def _python(_: HostFacts) -> CheckResult:
    return CheckResult(ok=sys.version_info >= (3, 11), found=".".join(map(str, sys.version_info[:3])))


def _client(facts: HostFacts) -> CheckResult:
    path = facts.machine.program("docker")
    if path is None:
        return CheckResult(ok=False, found="not installed")
    version = process.run([path, "version", "--format", "{{.Client.Version}}"], deadline=ASK_DEADLINE, check=False)
    return CheckResult(ok=True, found=f"{version.stdout.strip() or 'unknown version'} at {path}")


def _socket(facts: HostFacts) -> CheckResult:
    path = facts.endpoint.socket
    if not path:
        return CheckResult(ok=True, found=f"not needed for {facts.endpoint.url}")
    if not files.exists(Path(path)):  # nor is one that may not be looked at
        fix = typed(Action.INSTALL) if facts.endpoint.standard else facts.endpoint.remedy
        return CheckResult(ok=False, found=f"{path} is not there", fix=fix)
    fine = os.access(path, os.R_OK | os.W_OK)
    return CheckResult(
        ok=fine, found=f"{path}, {'allowed' if fine else 'forbidden'}", fix=permission_fix(facts.machine.user)
    )


def _engine(facts: HostFacts) -> CheckResult:
    if facts.ping.state == "answers":
        return CheckResult(ok=True, found=f"answers at {facts.endpoint.where}")
    fix = facts.endpoint.fix(facts.ping.state, facts.machine.user)
    return CheckResult(ok=False, found=f"{facts.ping.state} at {facts.endpoint.where}: {facts.ping.detail}", fix=fix)


def _engine_version(facts: HostFacts) -> CheckResult:
    version = facts.ping.version
    return CheckResult(ok=engine_setup.new_enough(version), found=version) if version else NOT_CHECKED


def _compose(facts: HostFacts) -> CheckResult:
    return _plugin(facts, "compose", ["version", "--short"], versions.OLDEST_COMPOSE)


def _buildx(facts: HostFacts) -> CheckResult:
    return _plugin(facts, "buildx", ["version"], ())


def _plugin(facts: HostFacts, name: str, words: Sequence[str], oldest: tuple[int, ...]) -> CheckResult:
    """Ask the client on PATH, because only the plugin it finds counts."""
    try:
        answer = process.run([facts.machine.program("docker") or "docker", name, *words], deadline=ASK_DEADLINE)
    except CommandError:
        return CheckResult(ok=False, found="not found by the docker client")
    # buildx prints `github.com/docker/buildx 0.13.1+ds1 …`
    version = next((word for word in answer.stdout.split() if version_tuple(word)), "")
    return CheckResult(ok=bool(version) and version_tuple(version) >= oldest, found=version or "gives no version")


def _building(facts: HostFacts) -> CheckResult:
    """Check the tools that a build from packages needs; existing images and a registry do not need them."""
    from stackyard.images.builder import missing_tools
    from stackyard.project.environments import project_root
    from stackyard.settings import Settings

    if Settings.load().image_source == "registry":
        return CheckResult(ok=True, found="not needed with STACKYARD_IMAGE_SOURCE=registry")
    try:
        missing = missing_tools(project_root())
    except UsageError:  # no platform here, so no images of its own
        return CheckResult(ok=True, found="not needed here")
    if not missing:
        return CheckResult(ok=True, found="all there")
    instead = "set STACKYARD_IMAGE_SOURCE=registry where the engine reaches one"
    install = f"`apt-get install {' '.join(missing.values())}` as root, or " if facts.machine.has_apt else ""
    return CheckResult(ok=False, found=f"{', '.join(missing)} missing", fix=install + instead)


def _disk(facts: HostFacts) -> CheckResult:
    folder = str(facts.info.get("DockerRootDir", "/var/lib/docker"))
    if not facts.endpoint.socket or not os.path.isdir(folder):  # noqa: PTH112 - a folder that may not be read is none
        return CheckResult(ok=True, found=f"{folder} is not on this machine")
    return _room(folder, DISK_MB)


def _state(_: HostFacts) -> CheckResult:
    """Check the disk of the state directory, which is made only when it is needed."""
    from stackyard.settings import Settings

    folder = Settings.load().state_dir
    return _room(next(place for place in (folder, *folder.parents) if place.is_dir()), STATE_MB)


def _room(folder: Path | str, least: int) -> CheckResult:
    free = shutil.disk_usage(folder).free // MIB
    return CheckResult(ok=free >= least, found=f"{free} MiB in {folder}")


def _memory(facts: HostFacts) -> CheckResult:
    free = facts.machine.memory
    return CheckResult(ok=not free or free >= MEMORY_MB, found=f"{free} MiB" if free else "the system does not say")


def _cgroup(facts: HostFacts) -> CheckResult:
    if not facts.info:
        return NOT_CHECKED
    version = facts.machine.cgroup or f"v{facts.info.get('CgroupVersion', '?')}"
    limits = bool(facts.info.get("MemoryLimit")) and bool(facts.info.get("PidsLimit"))
    driver = facts.info.get("CgroupDriver", "unknown driver")
    return CheckResult(ok=limits, found=f"{version}, {driver}{'' if limits else ', limits missing'}")


def _clock(facts: HostFacts) -> CheckResult:
    if not facts.info:
        return NOT_CHECKED
    return CheckResult(ok=abs(facts.skew) <= CLOCK_S, found=f"{facts.skew:+z.1f} s")


def _heartbeat(facts: HostFacts) -> CheckResult:
    """Check how soon the Swarm that the engine manages, if it manages one, notices that a machine is lost."""
    from stackyard.docker.engine import Engine
    from stackyard.docker.swarm import Swarm
    from stackyard.sites import site_list

    if not (facts.info.get("Swarm") or {}).get("ControlAvailable"):
        return CheckResult(ok=True, found="the engine manages no Swarm") if facts.info else NOT_CHECKED
    with Engine(endpoint=facts.endpoint, deadline=ASK_DEADLINE) as engine:
        seconds = Swarm(engine).heartbeat()
    return CheckResult(ok=not site_list.is_slow(seconds), found=site_list.meaning(seconds), fix=site_list.BETTER)


def _ports(_: HostFacts) -> CheckResult:
    from stackyard.checks import fixed_ports

    ok, found = fixed_ports.free()
    return CheckResult(ok=ok, found=found)


def _leftovers(facts: HostFacts) -> CheckResult:
    """Count stale leases, and containers and networks of this book whose lease it does not know; change nothing."""
    from stackyard.leases import LeaseBook
    from stackyard.settings import Settings

    settings = Settings.load()
    book = LeaseBook(settings, read_only=True)
    stale = len(book.stale())
    if facts.ping.state != "answers":
        return CheckResult(ok=False, found=f"{stale} stale leases; containers not checked", unknown=not stale)
    labels = [*_labels(facts, "/containers/json?all=1", settings.host), *_labels(facts, "/networks?", settings.host)]
    known = {lease.id for lease in book.leases()}
    unknown = sum(label not in known for label in labels)
    return CheckResult(ok=not stale and not unknown, found=f"{stale} stale leases, {unknown} containers and networks")


def _images(facts: HostFacts) -> CheckResult:
    """Count the images that copies were built with and that none needs; change nothing."""
    from stackyard.docker.engine import Engine
    from stackyard.leases import LeaseBook
    from stackyard.settings import Settings
    from stackyard.stacks import unused_images

    if facts.ping.state != "answers":
        return NOT_CHECKED
    with Engine(endpoint=facts.endpoint, deadline=ASK_DEADLINE) as engine:
        found = {item.image for item in unused_images.find(LeaseBook(Settings.load(), read_only=True), engine)}
    return CheckResult(ok=not found, found=f"{len(found)} that no copy needs")


def _labels(facts: HostFacts, path: str, host: str) -> list[str]:
    """Return the lease label of everything in one of the engine's lists that belongs to *host*."""
    rows = facts.endpoint.get(path, deadline=ASK_DEADLINE)
    found = [row.get("Labels") or {} for row in rows]
    return [labels.get("stackyard.lease", "") for labels in found if labels.get("stackyard.host") == host]


def _skew(reported: str, now: float) -> float:
    """Return how many seconds the engine's time is ahead of *now*; 0 when it gave none."""
    try:
        return datetime.fromisoformat(reported).timestamp() - now
    except ValueError:
        return 0.0


CHECKS: Final = (
    HostCheck(id="python", title="Python", needed="3.11 or newer", fix="install a newer Python", look=_python),
    HostCheck(id="client", title="docker client", needed="on PATH", fix=Action.INSTALL, look=_client),
    HostCheck(id="socket", title="engine socket", needed="may be read and written", fix=Action.INSTALL, look=_socket),
    HostCheck(id="engine", title="engine", needed="answers", fix=Action.INSTALL, look=_engine),
    HostCheck(
        id="engine-version", title="engine version", needed=f"{versions.OLDEST_ENGINE[0]} or newer",
        fix="upgrade the engine", look=_engine_version,
    ),
    HostCheck(
        id="compose", title="Compose plugin", needed=f"{'.'.join(map(str, versions.OLDEST_COMPOSE))} or newer",
        fix=Action.INSTALL, look=_compose,
    ),
    HostCheck(id="buildx", title="buildx plugin", needed="found by the client", fix=Action.INSTALL, look=_buildx),
    HostCheck(
        id="building", title="image building", needed="apt, dpkg, gpgv, perl, tar; uidmap unless root", fix="",
        look=_building, required=False,
    ),
    HostCheck(
        id="disk", title="disk space", needed=f"{DISK_MB} MiB", fix="free some; `docker system df` shows what uses it",
        look=_disk,
    ),
    HostCheck(
        id="state", title="state directory", needed=f"{STATE_MB} MiB", fix=files.MAKE_ROOM, look=_state,
    ),
    HostCheck(
        id="memory", title="memory", needed=f"{MEMORY_MB} MiB available", fix="run fewer stacks at once",
        look=_memory, required=False,
    ),
    HostCheck(
        id="cgroup", title="control groups", needed="memory and pids limits", fix="enable both controllers at boot",
        look=_cgroup, required=False,
    ),
    HostCheck(
        id="clock", title="engine clock", needed=f"within {CLOCK_S:g} s of this host's clock",
        fix="restart the engine's virtual machine, or set its clock", look=_clock, required=False,
    ),
    HostCheck(
        id="heartbeat", title="Swarm", needed="heartbeat 3 to 4 s", fix="see `docker node ls`", look=_heartbeat,
        required=False,
    ),
    HostCheck(
        id="ports", title="fixed ports", needed="free",
        fix="nothing to do: test runs move to the pool, and dev names the holder of a port", look=_ports,
        required=False,
    ),
    HostCheck(id="leftovers", title="leftovers", needed="none", fix=Action.CLEAN_UP, look=_leftovers, required=False),
    HostCheck(
        id="images", title="images of copies", needed="none unneeded", fix=Action.CLEAN_UP_IMAGES, look=_images,
        required=False,
    ),
)  # fmt: skip
