"""
Install Docker Engine, Compose and buildx with apt.

The distribution's own packages are taken where they are new enough. On Debian 12 they are not: there the packages of
Debian 13 are fetched from the machine's own mirror through a source list, pin, package lists and cache of their own,
all in one temporary folder, so that nothing changes under /etc/apt and later upgrades are not affected.
"""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stackyard._util import process
from stackyard.docker.endpoint import version_tuple
from stackyard.docker.versions import OLDEST_COMPOSE, OLDEST_ENGINE
from stackyard.errors import CommandError, EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stackyard.host.machine import Machine

NEXT_RELEASE: Final = {"bookworm": "trixie"}
KEYRING: Final = "usr/share/keyrings/debian-archive-keyring.gpg"
DEADLINE: Final = 900.0  # seconds for one apt command, another one's lock included
ELSEWHERE: Final = (
    "install Docker Engine {engine} or newer (on macOS and Windows: Docker Desktop or colima),\n"
    "the Compose plugin {compose} or newer and the buildx plugin with your system's own means,\n"
    "and start the engine"
).format(engine=OLDEST_ENGINE[0], compose=".".join(map(str, OLDEST_COMPOSE)))


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSet:
    """One family of packages that gives a whole engine: those with dockerd and the Compose plugin, and *others*."""

    engine: str
    compose: str
    others: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Every package of the set."""
        return (self.engine, self.compose, *self.others)


SETS: Final = (
    PackageSet(
        engine="docker-ce",
        compose="docker-compose-plugin",
        others=("docker-ce-cli", "containerd.io", "docker-buildx-plugin"),
    ),
    PackageSet(engine="docker.io", compose="docker-compose-v2", others=("docker-buildx",)),
    PackageSet(engine="docker.io", compose="docker-compose", others=("docker-cli", "docker-buildx")),
)
BACKPORTED: Final = SETS[-1]


def install(machine: Machine, say: Callable[[str], None], *, engine: bool = True) -> None:
    """
    Install what is missing: the engine, Compose and buildx, or without *engine* the latter two.

    Raises:
        EngineError: If this system has no packages that are new enough; the text says what to install.
        CommandError: If apt failed.
    """
    if not machine.has_apt:
        raise EngineError(f"no way to install Docker on {machine.distribution.title} is known here:\n{ELSEWHERE}")
    say("refreshing the package lists")
    _apt(machine, [], ["update"])
    chosen = new_enough(machine)
    if chosen:
        say(f"installing {chosen.engine} and {chosen.compose} of {machine.distribution.title}")
        _apt_install(machine, [], _wanted(chosen, engine=engine), say)
        return
    release = NEXT_RELEASE.get(machine.distribution.codename)
    if release is None:
        raise EngineError(f"{machine.distribution.title} has no Docker that is new enough:\n{ELSEWHERE}")
    with temporary_source(machine, release) as options:
        say(f"this release's Docker is too old; fetching the package lists of {release}")
        _apt(machine, options, ["update"])
        say(f"installing {BACKPORTED.engine} and {BACKPORTED.compose} of {release}")
        # `name/release` takes these packages alone from there; `-t release` would upgrade the C library with them.
        wanted = [f"{name}/{release}" for name in _wanted(BACKPORTED, engine=engine)]
        _apt_install(machine, options, wanted, say)


def add(machine: Machine, names: Sequence[str], say: Callable[[str], None]) -> None:
    """
    Install packages from the own sources of this system, which must have apt.

    Raises:
        EngineError: If this user may not become root.
        CommandError: If apt failed.
    """
    say("refreshing the package lists")
    _apt(machine, [], ["update"])
    say(f"installing {', '.join(names)}")
    _apt_install(machine, [], names, say)


def new_enough(machine: Machine) -> PackageSet | None:
    """Return the first set of packages that this system's own sources offer in versions that are new enough."""
    offered = candidates(machine, sorted({name for known in SETS for name in known.names}))
    for known in SETS:
        complete = all(offered.get(name) for name in known.names)
        if complete and offered[known.engine] >= OLDEST_ENGINE and offered[known.compose] >= OLDEST_COMPOSE:
            return known
    return None


def candidates(machine: Machine, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the version apt would install of each package it knows."""
    found: dict[str, tuple[int, ...]] = {}
    name = ""
    policy = [machine.program("apt-cache") or "apt-cache", "policy", *names]
    for line in process.run(policy, deadline=60.0, env={"LC_ALL": "C"}).stdout.splitlines():
        if line and not line[0].isspace():
            name = line.rstrip(":")
        elif line.strip().startswith("Candidate:"):
            found[name] = version_tuple(line.split(":", 1)[1])
    return found


def mirror(machine: Machine) -> str:
    """
    Return the address of this machine's own mirror of its release.

    Raises:
        EngineError: If no configured source has it.
    """
    codename = machine.distribution.codename
    layout = "$(RELEASE) $(COMPONENT) $(REPO_URI)"
    rows = process.run(["apt-get", "indextargets", "--format", layout, "Created-By: Packages"], deadline=60.0).stdout
    for row in rows.splitlines():
        release, component, address = row.split(maxsplit=2)
        if release in {codename, "stable"} and component == "main":
            return address
    raise EngineError(f"apt has no source for {codename} main, so no mirror to take Docker from:\n{ELSEWHERE}")


@contextlib.contextmanager
def temporary_source(machine: Machine, release: str) -> Iterator[list[str]]:
    """
    Yield apt options under which *release* can be installed from too; no trace of it is left afterwards.

    Raises:
        EngineError: If no mirror is configured, or the user may not become root.
    """
    folder = Path(tempfile.mkdtemp(prefix="stackyard-apt-"))
    try:
        address = mirror(machine)
        key = machine.base / KEYRING
        signed = f"[signed-by={key}] " if key.exists() else ""
        own = machine.distribution.codename
        lines = [f"deb {signed}{address} {name} main\n" for name in (own, release)]
        (folder / "sources.list").write_text("".join(lines), encoding="utf-8")
        (folder / "pin").write_text(f"Package: *\nPin: release n={release}\nPin-Priority: 90\n", encoding="utf-8")
        for name in ("lists/partial", "cache/archives/partial", "empty"):
            (folder / name).mkdir(parents=True)
        folder.chmod(0o755)  # apt fetches as a user of its own
        yield _options(folder)
    finally:
        # Root's apt has written there, so root has to remove it.
        process.run(machine.as_root(["rm", "-rf", str(folder)]), deadline=60.0)


def _options(folder: Path) -> list[str]:
    """Return the apt options that replace the sources and state of this machine, but not its proxies and keys."""
    settings = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": folder / "empty",
        "Dir::Etc::preferences": folder / "pin",
        "Dir::Etc::preferencesparts": folder / "empty",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Acquire::Languages": "none",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _wanted(chosen: PackageSet, *, engine: bool) -> list[str]:
    """Return the packages to ask for: all, or only the client's plugins."""
    return [name for name in chosen.names if engine or "compose" in name or "buildx" in name]


def _apt_install(machine: Machine, options: Sequence[str], names: Sequence[str], say: Callable[[str], None]) -> None:
    def progress(line: str) -> None:
        if line.startswith(("Need to get", "Setting up docker", "Setting up containerd", "Setting up chromium")):
            say(line.rstrip(". "))

    words = ["install", "-y", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold", *names]
    _apt(machine, options, words, progress)


def _apt(
    machine: Machine, options: Sequence[str], words: Sequence[str], on_line: Callable[[str], None] = lambda _: None
) -> None:
    """Run apt-get as root, waiting for another one's lock; raise CommandError when it fails."""
    common = ["-q", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=300"]
    argv = machine.as_root(["apt-get", *common, *options, *words], {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"})
    done = process.stream(argv, deadline=DEADLINE, on_line=on_line)
    if done.returncode != 0:
        raise CommandError(argv, done.returncode, done.stdout)
