"""What a host needs: each check is a small object that checks one thing and knows the fix."""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from stackyard._util import process
from stackyard._util.advice import Action, typed
from stackyard.docker import versions
from stackyard.docker.endpoint import Endpoint, Knock, version_tuple
from stackyard.errors import BookError, CommandError, StackyardError, UsageError
from stackyard.host import engine_setup
from stackyard.host.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Status = Literal["ok", "warn", "fail", "unknown"]

ASK_DEADLINE: Final = 10.0  # seconds for one question to the docker client or the engine
DISK_MB: Final = 3000  # MiB: the images of both flavours and a build's cache
MEMORY_MB: Final = 1024  # MiB: one stack at its limits, and its tests
CLOCK_S: Final = 2.0  # seconds the engine's clock may differ before tokens look expired
MIB: Final = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    What one check found.

    Attributes:
        id: The check's short name.
        title: For people.
        status: `fail` if stackyard cannot work like this, `warn` if something could be better, `unknown` if it could
            not be checked because something else is missing; then the check of that has the fix.
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

    def to_json(self) -> dict[str, str]:
        """Return the record as plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """
    The facts that all checks use, read once.

    Attributes:
        machine: The host.
        endpoint: Where the engine listens.
        knock: Its answer.
        info: What it says about itself; empty when it did not answer.
        skew: Seconds its clock is ahead of ours.
    """

    machine: Machine = field(default_factory=Machine)
    endpoint: Endpoint
    knock: Knock
    info: dict[str, Any] = field(default_factory=dict)
    skew: float = 0.0

    @classmethod
    def look(cls, machine: Machine | None = None) -> Scene:
        """Ask the engine for what the checks need; never raise."""
        endpoint = Endpoint.find()
        knock = endpoint.knock()
        info: dict[str, Any] = {}
        asked = time.time()
        if knock.state == "answers":
            try:
                info = endpoint.get("/info", deadline=ASK_DEADLINE)
            except OSError as error:
                knock = Knock(state="silent", detail=str(error))
        skew = _skew(str(info.get("SystemTime", "")), (asked + time.time()) / 2)
        return cls(machine=machine or Machine(), endpoint=endpoint, knock=knock, info=info, skew=skew)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """
    The result of one check.

    Attributes:
        fine: Whether the need is met.
        found: What is there.
        fix: A better fix than the check's own; empty if that one fits.
        unknown: Whether it could not be checked, for a reason that another check names.
    """

    fine: bool
    found: str
    fix: str = ""
    unknown: bool = False


UNSEEN: Final = Seen(fine=False, found="not checked: no engine answers", unknown=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """
    One requirement.

    Attributes:
        id: Short name.
        title: For people.
        needed: What should be there.
        fix: What to do if it is not there.
        look: Does the check.
        required: Whether stackyard cannot work without it.
    """

    id: str
    title: str
    needed: str
    fix: str | Action
    look: Callable[[Scene], Seen]
    required: bool = True

    def run(self, scene: Scene) -> Finding:
        """Check once; a check that fails is a finding too."""
        try:
            seen = self.look(scene)
        except (StackyardError, OSError) as error:
            seen = Seen(fine=False, found=f"cannot be checked: {str(error).splitlines()[0]}", fix=_fix_of(error))
        status: Status = (
            "unknown" if seen.unknown else "ok" if seen.fine else "fail" if self.required else "warn"
        )  # fmt: skip
        general = typed(self.fix) if isinstance(self.fix, Action) else self.fix
        fix = "" if seen.fine or seen.unknown else seen.fix or general
        return Finding(id=self.id, title=self.title, status=status, found=seen.found, needed=self.needed, fix=fix)


def _fix_of(error: Exception) -> str:
    """Return a fix for *error* if the check's own fix does not help; else an empty text."""
    if isinstance(error, BookError):
        return "set STACKYARD_STATE_DIR to a new directory, or correct what the error names"
    return "correct what the error names" if isinstance(error, UsageError) else ""


def examine(machine: Machine | None = None, checks: Sequence[Check] | None = None) -> list[Finding]:
    """Run every check, in order, and return what each found."""
    scene = Scene.look(machine)
    return [check.run(scene) for check in (CHECKS if checks is None else checks)]


def _python(_: Scene) -> Seen:
    return Seen(fine=sys.version_info >= (3, 11), found=".".join(map(str, sys.version_info[:3])))


def _client(scene: Scene) -> Seen:
    path = scene.machine.program("docker")
    if path is None:
        return Seen(fine=False, found="not installed")
    version = process.run([path, "version", "--format", "{{.Client.Version}}"], deadline=ASK_DEADLINE, check=False)
    return Seen(fine=True, found=f"{version.stdout.strip() or 'unknown version'} at {path}")


def _socket(scene: Scene) -> Seen:
    path = scene.endpoint.socket
    if not path:
        return Seen(fine=True, found=f"not needed for {scene.endpoint.url}")
    if not os.path.exists(path):  # noqa: PTH110 - a socket that may not be looked at is not there either, without an error
        fix = typed(Action.INSTALL) if scene.endpoint.standard else scene.endpoint.remedy
        return Seen(fine=False, found=f"{path} is not there", fix=fix)
    fine = os.access(path, os.R_OK | os.W_OK)
    return Seen(
        fine=fine, found=f"{path}, {'allowed' if fine else 'forbidden'}", fix=engine_setup.permission_fix(scene.machine)
    )


def _engine(scene: Scene) -> Seen:
    if scene.knock.state == "answers":
        return Seen(fine=True, found=f"answers at {scene.endpoint.where}")
    fix = "" if scene.endpoint.standard else scene.endpoint.remedy
    return Seen(fine=False, found=f"{scene.knock.state} at {scene.endpoint.where}: {scene.knock.detail}", fix=fix)


def _engine_version(scene: Scene) -> Seen:
    version = scene.knock.version
    return Seen(fine=engine_setup.new_enough(version), found=version) if version else UNSEEN


def _compose(scene: Scene) -> Seen:
    return _plugin(scene, "compose", ["version", "--short"], versions.OLDEST_COMPOSE)


def _buildx(scene: Scene) -> Seen:
    return _plugin(scene, "buildx", ["version"], ())


def _plugin(scene: Scene, name: str, words: Sequence[str], oldest: tuple[int, ...]) -> Seen:
    """Ask the client on PATH, because only the plugin it finds counts."""
    try:
        answer = process.run([scene.machine.program("docker") or "docker", name, *words], deadline=ASK_DEADLINE)
    except CommandError:
        return Seen(fine=False, found="not found by the docker client")
    # buildx prints `github.com/docker/buildx 0.13.1+ds1 …`
    version = next((word for word in answer.stdout.split() if version_tuple(word)), "")
    return Seen(fine=bool(version) and version_tuple(version) >= oldest, found=version or "gives no version")


def _building(scene: Scene) -> Seen:
    """Check the tools that a build from packages needs; existing images and a registry do not need them."""
    from stackyard.images.builder import missing_tools
    from stackyard.project.environments import project_root
    from stackyard.settings import Settings

    if Settings.load().image_source == "registry":
        return Seen(fine=True, found="not needed with STACKYARD_IMAGE_SOURCE=registry")
    try:
        missing = missing_tools(project_root())
    except UsageError:  # no platform here, so no images of its own
        return Seen(fine=True, found="not needed here")
    if not missing:
        return Seen(fine=True, found="all there")
    instead = "set STACKYARD_IMAGE_SOURCE=registry where the engine reaches one"
    install = f"`apt-get install {' '.join(missing.values())}` as root, or " if scene.machine.has_apt else ""
    return Seen(fine=False, found=f"{', '.join(missing)} missing", fix=install + instead)


def _disk(scene: Scene) -> Seen:
    folder = str(scene.info.get("DockerRootDir", "/var/lib/docker"))
    if not scene.endpoint.socket or not os.path.isdir(folder):  # noqa: PTH112 - a folder that may not be read is none
        return Seen(fine=True, found=f"{folder} is not on this machine")
    free = shutil.disk_usage(folder).free // MIB
    return Seen(fine=free >= DISK_MB, found=f"{free} MiB in {folder}")


def _memory(scene: Scene) -> Seen:
    free = scene.machine.memory
    return Seen(fine=not free or free >= MEMORY_MB, found=f"{free} MiB" if free else "the system does not say")


def _cgroup(scene: Scene) -> Seen:
    if not scene.info:
        return UNSEEN
    version = scene.machine.cgroup or f"v{scene.info.get('CgroupVersion', '?')}"
    limits = bool(scene.info.get("MemoryLimit")) and bool(scene.info.get("PidsLimit"))
    driver = scene.info.get("CgroupDriver", "unknown driver")
    return Seen(fine=limits, found=f"{version}, {driver}{'' if limits else ', limits missing'}")


def _clock(scene: Scene) -> Seen:
    if not scene.info:
        return UNSEEN
    return Seen(fine=abs(scene.skew) <= CLOCK_S, found=f"{scene.skew:+z.1f} s")


def _heartbeat(scene: Scene) -> Seen:
    """Check how soon the Swarm that the engine manages, if it manages one, notices that a machine is lost."""
    from stackyard.docker.engine import Engine
    from stackyard.docker.swarm import Swarm
    from stackyard.sites import site_list

    if not (scene.info.get("Swarm") or {}).get("ControlAvailable"):
        return Seen(fine=True, found="the engine manages no Swarm") if scene.info else UNSEEN
    with Engine(endpoint=scene.endpoint, deadline=ASK_DEADLINE) as engine:
        seconds = Swarm(engine).heartbeat()
    return Seen(fine=not site_list.is_slow(seconds), found=site_list.meaning(seconds), fix=site_list.BETTER)


def _ports(_: Scene) -> Seen:
    """Check the environments' fixed ports; those of our own stacks are in use as intended, and copies have none."""
    from stackyard.leases import LeaseBook
    from stackyard.leases.host_ports import can_bind, port_holders
    from stackyard.leases.owners import short
    from stackyard.project.environments import load_all
    from stackyard.project.environments.roots import in_environments
    from stackyard.settings import Settings

    if not in_environments():
        return Seen(fine=True, found="none needed here")
    fixed = {port: environment.name for environment in load_all().values() for port in environment.ports.values()}
    own = {
        port: lease.title
        for lease in LeaseBook(Settings.load(), read_only=True).leases()
        if lease.slot is None
        for port in lease.ports.values()
    }
    taken = [port for port in sorted(fixed) if port not in own and not can_bind(port)]
    holders = port_holders(taken) if taken else {}
    used = [f"{port} ({fixed[port]}): {short(holders.get(port, 'another user or a container'))}" for port in taken]
    ours = sorted(set(own.values()))
    free = f"all {len(fixed)} free" + (f" except those of our own {', '.join(ours)}" if ours else "")
    return Seen(fine=not taken, found="; ".join(used) or free)


def _leftovers(scene: Scene) -> Seen:
    """Count stale leases, and containers and networks of this book whose lease it does not know; change nothing."""
    from stackyard.leases import LeaseBook
    from stackyard.settings import Settings

    settings = Settings.load()
    book = LeaseBook(settings, read_only=True)
    stale = len(book.stale())
    if scene.knock.state != "answers":
        return Seen(fine=False, found=f"{stale} stale leases; containers not checked", unknown=not stale)
    labels = [*_labels(scene, "/containers/json?all=1", settings.host), *_labels(scene, "/networks?", settings.host)]
    known = {lease.id for lease in book.leases()}
    unknown = sum(label not in known for label in labels)
    return Seen(fine=not stale and not unknown, found=f"{stale} stale leases, {unknown} containers and networks")


def _images(scene: Scene) -> Seen:
    """Count the images that copies were built with and that none needs; change nothing."""
    from stackyard.docker.engine import Engine
    from stackyard.leases import LeaseBook
    from stackyard.settings import Settings
    from stackyard.stacks import unused_images

    if scene.knock.state != "answers":
        return UNSEEN
    with Engine(endpoint=scene.endpoint, deadline=ASK_DEADLINE) as engine:
        found = {item.image for item in unused_images.find(LeaseBook(Settings.load(), read_only=True), engine)}
    return Seen(fine=not found, found=f"{len(found)} that no copy needs")


def _labels(scene: Scene, path: str, host: str) -> list[str]:
    """Return the lease label of everything in one of the engine's lists that belongs to *host*."""
    rows = scene.endpoint.get(path, deadline=ASK_DEADLINE)
    found = [row.get("Labels") or {} for row in rows]
    return [labels.get("stackyard.lease", "") for labels in found if labels.get("stackyard.host") == host]


def _skew(reported: str, now: float) -> float:
    """Return how many seconds the engine's time is ahead of *now*; 0 when it gave none."""
    try:
        return datetime.fromisoformat(reported).timestamp() - now
    except ValueError:
        return 0.0


CHECKS: Final = (
    Check(id="python", title="Python", needed="3.11 or newer", fix="install a newer Python", look=_python),
    Check(id="client", title="docker client", needed="on PATH", fix=Action.INSTALL, look=_client),
    Check(id="socket", title="engine socket", needed="may be read and written", fix=Action.INSTALL, look=_socket),
    Check(id="engine", title="engine", needed="answers", fix=Action.INSTALL, look=_engine),
    Check(
        id="engine-version", title="engine version", needed=f"{versions.OLDEST_ENGINE[0]} or newer",
        fix="upgrade the engine", look=_engine_version,
    ),
    Check(
        id="compose", title="Compose plugin", needed=f"{'.'.join(map(str, versions.OLDEST_COMPOSE))} or newer",
        fix=Action.INSTALL, look=_compose,
    ),
    Check(id="buildx", title="buildx plugin", needed="found by the client", fix=Action.INSTALL, look=_buildx),
    Check(
        id="building", title="image building", needed="apt, dpkg, gpgv, perl, tar; uidmap unless root", fix="",
        look=_building, required=False,
    ),
    Check(
        id="disk", title="disk space", needed=f"{DISK_MB} MiB", fix="free some; `docker system df` shows what uses it",
        look=_disk,
    ),
    Check(
        id="memory", title="memory", needed=f"{MEMORY_MB} MiB available", fix="run fewer stacks at once",
        look=_memory, required=False,
    ),
    Check(
        id="cgroup", title="control groups", needed="memory and pids limits", fix="enable both controllers at boot",
        look=_cgroup, required=False,
    ),
    Check(
        id="clock", title="engine clock", needed=f"within {CLOCK_S:g} s of ours",
        fix="restart the engine's virtual machine, or set its clock", look=_clock, required=False,
    ),
    Check(
        id="heartbeat", title="Swarm", needed="heartbeat 3 to 4 s", fix="see `docker node ls`", look=_heartbeat,
        required=False,
    ),
    Check(
        id="ports", title="fixed ports", needed="free",
        fix="nothing to do: test runs move to the pool, and dev names the holder of a port", look=_ports,
        required=False,
    ),
    Check(id="leftovers", title="leftovers", needed="none", fix=Action.CLEAN_UP, look=_leftovers, required=False),
    Check(
        id="images", title="images of copies", needed="none unneeded", fix=Action.CLEAN_UP_IMAGES, look=_images,
        required=False,
    ),
)  # fmt: skip
