"""The sites that this user can choose: this host's engine, each Docker context, and a Swarm that the engine manages."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import json_text
from stackyard.docker import Engine
from stackyard.docker.client_settings import client_folder
from stackyard.docker.host_facts import EngineFacts
from stackyard.docker.swarm import Swarm
from stackyard.errors import StackyardError
from stackyard.sites.site import CONTEXT, Site

if TYPE_CHECKING:
    from collections.abc import Mapping

DEADLINE: Final = 5.0  # seconds for an answer of one engine
BEST_HEARTBEAT: Final = 3.0  # seconds; a shorter one lets an engine wait 10 s for the lost one, in a copy's network
SLOWEST_HEARTBEAT: Final = 4.0  # seconds; with more, a copy answers elsewhere only after 15 s
MISSED: Final = 3  # heartbeats that a machine misses before the Swarm takes it for lost
MOVED: Final = 4.0  # seconds that a copy then needs to answer elsewhere, as measured
AT_ONCE: Final = 16  # engines that are asked at a time


BETTER: Final = f"docker swarm update --dispatcher-heartbeat {BEST_HEARTBEAT:g}s"


def is_slow(heartbeat: float) -> bool:
    """Say whether copies leave a lost machine later than they could; a short heartbeat is slow, too."""
    return not BEST_HEARTBEAT <= heartbeat <= SLOWEST_HEARTBEAT


def meaning(heartbeat: float) -> str:
    """Say what a heartbeat of so many seconds means for the copies of a machine that is lost."""
    lost = f"heartbeat {heartbeat:g} s: a lost machine is noticed within {MISSED * heartbeat:g} s"
    if heartbeat < BEST_HEARTBEAT:
        return f"{lost}, but networks wait 10 s more for it before its copies answer elsewhere"
    return f"{lost}, and its copies answer elsewhere about {MOVED:g} s later"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """
    One site, and what its engine says.

    Attributes:
        site: The site.
        facts: What its engine says; None if it does not answer.
        why: Why it does not answer; empty if it does.
        heartbeat: Seconds between two reports of a Swarm's nodes; None for one engine.
    """

    site: Site
    facts: EngineFacts | None = None
    why: str = ""
    heartbeat: float | None = None

    @property
    def told(self) -> str:
        """What a Swarm's heartbeat means, and what would be better; empty for one engine."""
        if self.heartbeat is None:
            return ""
        better = f"; better: '{BETTER}'" if is_slow(self.heartbeat) else ""
        return f"{self.site.name}: {meaning(self.heartbeat)}{better}"

    @classmethod
    def ask(cls, site: Site) -> Known:
        """Ask a site's engine; one that does not answer is no error."""
        try:
            with Engine(endpoint=site.endpoint, deadline=DEADLINE) as engine:
                return cls(site=site, facts=EngineFacts.ask(engine))
        except StackyardError as error:
            return cls(site=site, why=str(error))

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data."""
        facts: dict[str, Any] = dict.fromkeys(("version", "processors", "memory_bytes", "copies"))
        if self.facts:
            facts = asdict(self.facts)
            del facts["manages_swarm"]
        return {
            "site": self.site.name, "kind": self.site.kind, "engine": self.site.endpoint.url,
            "answers": self.facts is not None, "why": self.why or None, **facts,
            "heartbeat_seconds": self.heartbeat,
        }  # fmt: skip


def contexts(env: Mapping[str, str] | None = None) -> list[str]:
    """Return the names of the docker command's contexts, sorted; those that no option can name are left out."""
    found = []
    for file in client_folder(env).glob("contexts/meta/*/meta.json"):
        try:
            found.append(json_text.read(file.read_bytes())["Name"])
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return sorted(name for name in found if isinstance(name, str))


def known(env: Mapping[str, str] | None = None) -> list[Known]:
    """Return every site with what its engine says; the engines are asked at the same time."""
    sites = [Site.find("local", env)]
    for name in contexts(env):
        try:
            sites.append(Site.find(f"{CONTEXT}{name}", env))
        except StackyardError:  # a name that docker would not take today
            continue
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        found = list(pool.map(Known.ask, sites))
    if (first := found[0]).facts and first.facts.manages_swarm:
        found.append(Known(site=Site.find("swarm", env), facts=first.facts, heartbeat=_heartbeat(first.site)))
    return found


def _heartbeat(site: Site) -> float | None:
    try:
        with Engine(endpoint=site.endpoint, deadline=DEADLINE) as engine:
            return Swarm(engine).heartbeat()
    except StackyardError:  # it answered a moment ago, and may do so again
        return None
