"""
A host for the fault tests: a copy of the project, a lease book of its own, and things that must never be touched.

The book gives its containers a `stackyard.host` label that no other book on this machine uses, so CLEAN is one
list by that label, whatever else runs during these tests.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stackyard.docker.in_use import strangers
from stackyard.docker.lease_book import open_book
from stackyard.project.environments import Environment
from stackyard.settings import Settings
from stackyard.stacks.environments.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stackyard.docker import Engine
    from stackyard.leases import Lease, LeaseBook

CHECKOUT = Path(__file__).parents[2]
LISTEN = "0A"  # proc_net_tcp(5)
FULL = os.environ.get("STACKYARD_FULL") == "1"

# a whole flow, as nox runs it; it can be killed between the lease's files and the commit of the book's transaction, too
RUN = """
import os, signal, sys
from stackyard.cli import flows
from stackyard.leases.directory.draft import Draft
def deadly(place, work):
    def wrapper(*words, **options):
        result = work(*words, **options)
        if os.environ.get("STACKYARD_CRASH_AT") == place:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapper
Draft.prepare = deadly("draft", Draft.prepare)
Draft.settle = deadly("env_file", Draft.settle)
sys.exit(flows.test("test", sys.argv[1:]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Yard:
    """
    Where faults happen.

    Attributes:
        root: The copied project; its payload is one test.
        state: State directory of the yard's own lease book.
        host: The label value of that book.
        engine: The machine's engine.
        references: Image variables for leases.
        untouchable: What `snapshot` looks at.
        spared: Leases that live as long as the yard.
        around: Words before every command, to run it somewhere else.
        namespace: A process in whose network namespace ports are looked for.
    """

    root: Path
    state: Path
    host: str
    engine: Engine
    references: Mapping[str, str]
    untouchable: list[tuple[str, str]] = field(default_factory=list)
    spared: set[str] = field(default_factory=set)
    around: tuple[str, ...] = ()
    namespace: int | Literal["self"] = "self"

    @property
    def book(self) -> LeaseBook:
        return open_book(None, self.engine)

    def stack(self, **words: Any) -> Stack:
        """Lease a place; nothing is started."""
        environment = Environment.load("test")
        lease = self.book.acquire(
            environment, variables=self.references, strangers=lambda: strangers(self.engine), **words
        )  # fmt: skip
        return Stack(environment, lease, self.book, self.engine)

    def suite(self, body: str) -> None:
        """Give the flow's payload a body."""
        path = self.root / "tests" / "platform" / "test_payload.py"
        path.write_text(f"import os, subprocess, time\n\ndef test_payload():\n    {body}\n")

    def flow(self, *words: str, crash: str = "") -> subprocess.Popen[str]:
        """Start a whole run as a process of its own."""
        return self.start(self.words(*words), {"STACKYARD_CRASH_AT": crash})

    @staticmethod
    def words(*words: str) -> list[str]:
        """Return the words of a whole run."""
        return [sys.executable, "-c", RUN, "-q", "-p", "no:cacheprovider", *words]

    def start(self, command: list[str], env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        # a shell that runs the tests in the background ignores SIGINT, and a child inherits that
        words = [*self.around, "env", "--default-signal=INT", *command]
        return subprocess.Popen(  # noqa: S603 - our own words
            words, cwd=self.root, env=os.environ | dict(env or {}), text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def invoke(self, *words: str, env: Mapping[str, str] | None = None) -> tuple[int, str, float]:
        """Run one command of the command line; return exit code, all it wrote, and seconds."""
        began = time.monotonic()
        code, out = finish(self.begin(*words, env=env))
        return code, out, time.monotonic() - began

    def begin(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start one command of the command line."""
        return self.start([sys.executable, "-m", "invoke", "-r", str(CHECKOUT), *words], env)

    def report(self) -> dict[str, Any]:
        """Read the report of the run that ended last."""
        paths = (self.root / "reports").glob("test*.json")
        content: dict[str, Any] = json.loads(max(paths, key=lambda path: path.stat().st_mtime_ns).read_text())
        return content

    def lease_of(self, child: subprocess.Popen[str]) -> Lease:
        """Return the lease a run has, once it has one."""

        def mine() -> list[Lease]:
            return [lease for lease in self.book.leases() if lease.owner.pid == child.pid]

        until(mine)
        return mine()[0]

    def standing(self) -> list[str]:
        """Name everything that carries the yard's label and is not the control stack's."""
        found = self.engine.everything([f"stackyard.host={self.host}"])
        return [f"{item.kind} {item.name}" for item in found if item.labels["stackyard.lease"] not in self.spared]

    def remains(self) -> dict[str, list[str]]:
        """Tell everything that CLEAN forbids; a clean yard gives four empty lists."""
        folder = self.state / "leases"
        directories = {path.name for path in folder.iterdir()} if folder.exists() else set()
        ports = {port for lease in self.book.leases() if lease.id in self.spared for port in lease.ports.values()}
        own = {port for pool in Settings.load().pools for port in pool}
        bound = listening(self.namespace) & own - ports - self._published_by_others()
        return {
            "standing": self.standing(),
            "leases": [lease.id for lease in self.book.leases() if lease.id not in self.spared],
            "directories": sorted(directories - self.spared),
            "ports": sorted(map(str, bound)),
        }

    def _published_by_others(self) -> set[int]:
        """Return the ports of other books' stacks: another run of these tests may have the same pool."""
        rows = self.engine.api.containers()
        others = [row for row in rows if row["Labels"].get("stackyard.host") != self.host]
        return {port["PublicPort"] for row in others for port in row["Ports"] if "PublicPort" in port}

    def snapshot(self) -> dict[str, Any]:
        """Tell what FOREIGN-SAFE wants unchanged: ids, start times and restart counts."""
        return {f"{kind} {name}": self._facts(kind, name) for kind, name in self.untouchable}

    def _facts(self, kind: str, name: str) -> Any:
        api = self.engine.api
        if kind == "container":
            found = api.inspect_container(name)
            return found["Id"], found["State"]["StartedAt"], found["State"]["Status"], found["RestartCount"]
        found = api.inspect_network(name) if kind == "network" else api.inspect_volume(name)
        return found.get("Id"), found.get("CreatedAt", found.get("Created"))


def listening(process: int | Literal["self"]) -> set[int]:
    """Return the TCP ports somebody listens on in the network namespace of *process*."""
    rows = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{process}/net/{name}").read_text().splitlines()[1:]
    ]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == LISTEN}


CLEAN: dict[str, list[str]] = {"standing": [], "leases": [], "directories": [], "ports": []}


def until(check: Callable[[], object], *, seconds: float = 120.0, pause: float = 0.01) -> None:
    """Ask until *check* holds; fail when it does not within *seconds*."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, f"did not happen within {seconds} s"
        time.sleep(pause)


def finish(child: subprocess.Popen[str], *, seconds: float = 280.0) -> tuple[int, str]:
    """Wait for a process; return its exit code and all it wrote."""
    out, _ = child.communicate(timeout=seconds)
    return child.returncode, out


def changed(
    stack: Stack, changes: Mapping[str, Mapping[str, Any]], *, network: Mapping[str, Any] | None = None
) -> Stack:
    """Return a stack of the same lease whose Compose file has other values in some services, or in its network."""
    import yaml

    original = stack.environment.compose_file
    content = yaml.safe_load(original.read_text())
    for service, values in changes.items():
        content["services"][service] |= values
    content["networks"]["platform"] |= network or {}
    path = original.with_name(f"{stack.lease.id}.yml")
    path.write_text(json.dumps(content))
    environment = dataclasses.replace(stack.environment, compose_file=path)
    return Stack(environment, stack.lease, stack.book, stack.engine)
