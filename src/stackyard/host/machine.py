"""Plain facts about this machine: its distribution, how to become root, its service manager, cgroups and memory."""

from __future__ import annotations

import getpass
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stackyard.errors import CommandError, EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SYSTEM_FOLDERS: Final = ("usr/local/sbin", "usr/sbin", "sbin")  # not on every user's PATH
PROXIES: Final = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """
    The operating system's name as /etc/os-release gives it.

    Attributes:
        id: For example `debian`; the platform's own name where there is no os-release.
        codename: For example `bookworm`; may be empty.
        family: Its id and those it says it is like.
    """

    id: str
    codename: str = ""
    family: frozenset[str] = frozenset()
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One host: where its file system begins, and the user's id."""

    base: Path = Path("/")
    uid: int = field(default_factory=os.geteuid)

    @property
    def distribution(self) -> Distribution:
        """The operating system."""
        facts: dict[str, str] = {}
        for name in ("etc/os-release", "usr/lib/os-release"):
            if (self.base / name).is_file():
                facts = _assignments((self.base / name).read_text(encoding="utf-8", errors="replace"))
                break
        own = facts.get("ID", sys.platform)
        return Distribution(
            id=own,
            codename=facts.get("VERSION_CODENAME", ""),
            family=frozenset({own, *facts.get("ID_LIKE", "").split()}),
            title=facts.get("PRETTY_NAME", own),
        )

    @property
    def has_apt(self) -> bool:
        """Whether packages come from apt."""
        return "debian" in self.distribution.family and self.program("apt-get") is not None

    @property
    def has_systemd(self) -> bool:
        """Whether systemd is this system's first process, not merely installed."""
        return (self.base / "run/systemd/system").is_dir()

    @property
    def has_init_script(self) -> bool:
        """Whether docker came with an init script and the command that runs one exists."""
        return os.access(self.base / "etc/init.d/docker", os.X_OK) and self.program("service") is not None

    @property
    def cgroup(self) -> str:
        """`v2`, `v1`, or empty where no control groups are mounted."""
        root = self.base / "sys/fs/cgroup"
        if (root / "cgroup.controllers").exists():
            return "v2"
        return "v1" if (root / "memory").is_dir() else ""

    @property
    def memory(self) -> int:
        """Memory a new process could get, in MiB; 0 where the system does not tell."""
        try:
            lines = (self.base / "proc/meminfo").read_text(encoding="ascii").splitlines()
        except OSError:
            return 0
        facts = dict(line.split(":", 1) for line in lines if ":" in line)
        return int(facts.get("MemAvailable", "0").split()[0]) // 1024

    @property
    def user(self) -> str:
        """The user's login name, or the number where it has none."""
        try:
            return getpass.getuser()
        except (KeyError, OSError):
            return str(self.uid)

    @property
    def path(self) -> str:
        """PATH with the system's own folders behind it."""
        own = [str(self.base / folder) for folder in SYSTEM_FOLDERS]
        return os.pathsep.join([os.environ.get("PATH", os.defpath), *own])

    def program(self, name: str) -> str | None:
        """Return where a program lies, the system's own folders included; None when it is not installed."""
        return shutil.which(name, path=self.path)

    def can_be_root(self) -> bool:
        """Tell whether commands can be run as root without asking for a password."""
        from stackyard._util import process

        if self.uid == 0:
            return True
        if self.program("sudo") is None:
            return False
        try:
            process.run(["sudo", "-n", "true"], deadline=10.0)
        except CommandError:
            return False
        return True

    def as_root(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
        """
        Return *argv* so that it runs as root with *env*, this user's proxies and the system's folders on PATH.

        Raises:
            EngineError: If this user is not root and may not become it without a password.
        """
        if not self.can_be_root():
            raise EngineError(
                f"root is needed (for {argv[0]}), and {self.user} has no sudo without a password; run once: "
                f"sudo {sys.executable} -B -m stackyard.host --setup-only --yes"
            )
        kept = {name: os.environ[name] for name in PROXIES if name in os.environ}
        words = [f"{name}={value}" for name, value in (kept | {"PATH": self.path} | dict(env or {})).items()]
        return [*([] if self.uid == 0 else ["sudo", "-n"]), "env", *words, *argv]


def _assignments(text: str) -> dict[str, str]:
    """Read os-release's shell-like lines."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, value in pairs}
