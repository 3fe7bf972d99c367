"""Ports of a Swarm's services that listen late, answer badly or never: what a start waits for, and when it goes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from test_swarm_leases import FakeSwarm, task

from stackyard.docker.swarm import Node, Task
from stackyard.errors import EngineError, NotReadyError
from stackyard.probes import port_answers
from stackyard.probes.container_readiness import OPTIONAL_S
from stackyard.probes.port_answers import HttpAnswer
from stackyard.probes.readiness_rules import Rule
from stackyard.project.service_ports import Port
from stackyard.sites.swarm import port_readiness, progress, start
from stackyard.sites.swarm.progress import Progress
from stackyard.stacks.diagnostics import LONGER
from stackyard.stacks.readiness import progress_lines, waiting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stackyard.docker.swarm import Swarm
    from stackyard.stacks.starts.times import Startup

TCP = Rule(service="web", kind="tcp", why="it publishes port 80", ports=(Port(80),))
BOTH = Rule(service="web", kind="tcp", why="it publishes ports", ports=(Port(80), Port(81)))
HEALTH = Rule(service="db", kind="health check", why="its file has one")
GOES_ON = waiting.GOES_ON.format("writes")
OTHER = 'to choose what counts, write services.web.ready = "running", or another rule, to stackyard.toml'


class Clock:
    """Monotonic time that only sleeping makes go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Site(FakeSwarm):
    """A Swarm with logs, whose services are started as they are made."""

    written: list[str] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    silent: bool = False
    members: list[Node] = field(
        default_factory=lambda: [Node(id="n", name="n1", address="h", state="ready", availability="active")]
    )

    def logs(self, _service: str, **_: object) -> list[str]:
        if self.silent:
            raise EngineError("the node does not answer")
        return self.written[-1:]

    def create_service(self, name: str, _spec: Mapping[str, Any]) -> str:
        state = self.states.get(name, "running")
        self.running.append(task(state, service=name, container=name, ports={(80, "tcp"): 30080}))
        return name


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (port_readiness, progress, start, progress_lines):
        monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def open_ports(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Return the ports of the node that accept connections: none, until a test adds some."""
    found: set[int] = set()

    async def stays_open(_host: str, port: int) -> bool:
        return port in found

    monkeypatch.setattr(port_answers, "stays_open", stays_open)
    return found


def look(found: Progress, site: Site, *tasks: Task) -> Progress:
    given = tasks or (task("running", ports={(80, "tcp"): 30080, (81, "tcp"): 30081}),)
    found.look(cast("Swarm", site), given, {"n": "h"}, {"n": "n1"})
    return found


def watched(clock: Clock, site: Site, rule: Rule = TCP) -> Progress:
    """Return a service that has been looked at three times in three seconds."""
    found = Progress(rule, 1, "id", retries=True)
    for _ in range(3):
        look(found, site)
        clock.sleep(1)
    return found


@pytest.mark.usefixtures("open_ports")
def test_a_service_is_silent_while_no_port_of_it_listens_and_it_writes_nothing(clock: Clock) -> None:
    site = Site()
    found = watched(clock, site)
    assert (found.how, found.last, found.silent_since) == ("", "port 80 accepts no connection", 101.0)

    site.written.append("2026-11-28T10:00:00.123456789Z still at work")
    assert look(found, site).silent_since == clock.now
    clock.sleep(5)
    assert look(found, site).silent_since == clock.now - 5
    site.written.append("\rwhat follows a carriage return")
    clock.sleep(5)
    assert look(found, site).silent_since == clock.now - 10


@pytest.mark.usefixtures("open_ports")
def test_the_silence_ends_with_another_container_and_where_the_log_cannot_be_read(clock: Clock) -> None:
    site = Site()
    found = watched(clock, site)
    look(found, site, task("running", container="another", ports={(80, "tcp"): 30080}))
    assert found.silent_since is None

    clock.sleep(1)
    site.silent = True
    assert look(found, site).silent_since is None
    assert look(found, site, task("starting")).silent_since is None


@pytest.mark.parametrize(
    ("rule", "answer"),
    [
        (Rule(service="web", kind="tcp", why="", ports=(Port(80),), hinted=True), None),
        (Rule(service="web", kind="tcp", why="", ports=(Port(80),), strict=False), None),
        (Rule(service="web", kind="http", why="", ports=(Port(80),)), HttpAnswer(503, other=False, said="HTTP 503")),
    ],
    ids=["a hint", "a port that is only exposed", "a bad answer"],
)
@pytest.mark.usefixtures("open_ports")
def test_a_service_is_never_silent_where_an_answer_is_insisted_on_or_something_listens(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, rule: Rule, answer: HttpAnswer | None
) -> None:
    async def get(*_: object, **__: object) -> HttpAnswer | None:
        return answer

    monkeypatch.setattr(port_answers, "get", get)

    assert watched(clock, Site(), rule).silent_since is None


def test_a_port_whose_proxy_closes_the_connection_does_not_listen(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def get(*_: object, **__: object) -> HttpAnswer:
        return HttpAnswer(0, other=False, said="connection closed without an answer")

    monkeypatch.setattr(port_answers, "get", get)
    found = watched(clock, Site(), Rule(service="web", kind="http", why="", ports=(Port(80),)))

    assert (found.silent_since, found.last) == (101.0, "port 80 accepts no connection")


def test_a_port_beside_one_that_answers_is_given_up_after_a_while_with_a_warning(
    clock: Clock, open_ports: set[int]
) -> None:
    open_ports.add(30080)
    found = watched(clock, Site(), BOTH)
    assert (found.how, found.warning, found.silent_since) == ("", "", None)

    clock.sleep(OPTIONAL_S - 3)
    look(found, Site())

    assert found.how == "port 80 listens; port 81 accepts no connection, 10 s later"
    assert found.warning == "port 81 accepts no connection, although the Compose file publishes it"


def test_each_container_of_a_service_has_to_answer_once(clock: Clock, open_ports: set[int]) -> None:
    found = Progress(TCP, 2, "id", retries=True)
    pair = [task("running", slot=slot, container=f"c{slot}", ports={(80, "tcp"): 30000 + slot}) for slot in (1, 2)]
    open_ports.add(30001)
    assert look(found, Site(), *pair).how == ""

    open_ports.clear()
    open_ports.add(30002)
    clock.sleep(1)

    assert look(found, Site(), *pair).how == "port 80 listens"


def started(site: Site, rules: list[Rule], said: list[str], **waits: dict[str, str]) -> Startup:
    template = {"ContainerSpec": {}, "Networks": [], "RestartPolicy": {"Condition": "any"}}
    names = [rule.service for rule in rules]
    translation: Any = SimpleNamespace(
        networks={}, files={}, services={name: {"TaskTemplate": template} for name in names},
        waits={name: waits.get(name, {}) for name in names}, names={name: name for name in names},
    )  # fmt: skip
    model: Any = {"services": {name: {} for name in names}}
    lease: Any = SimpleNamespace(id="shop-1", label="stackyard.swarm.lease=shop-1")
    rule_of = {rule.service: rule for rule in rules}
    return start.Start(cast("Swarm", site), lease, translation, model, rule_of, said.append).run(60)


@pytest.mark.usefixtures("clock", "open_ports")
def test_a_start_goes_on_without_a_port_that_never_listens_once_all_else_is_ready() -> None:
    said: list[str] = []
    made = started(Site(), [TCP, HEALTH], said)
    assert made.ready
    db, web = made.ready.services

    assert (db.service, db.warning, made.started) == ("db", "", {"web": 0.0, "db": 0.0})
    assert web.how == "has run without writing anything for 30 s; port 80 accepts no connection"
    assert web.warning == (
        f"web: port 80 accepts no connection, and the container has written nothing for 30 s; {OTHER}"
    )
    assert 30 <= web.seconds < 33
    assert any(line.endswith(f"port 80 accepts no connection{GOES_ON}") for line in said), said


@pytest.mark.usefixtures("open_ports")
def test_a_service_that_writes_is_waited_for_until_the_deadline_and_says_how_to_choose_a_rule(clock: Clock) -> None:
    class Writing(Site):
        def logs(self, _service: str, **_: object) -> list[str]:
            return [f"{datetime.fromtimestamp(clock.now // 10 * 10, UTC).isoformat()} at work"]

    with pytest.raises(NotReadyError) as caught:
        started(Writing(), [TCP], [])

    first, reason, advice, log, last = str(caught.value).splitlines()
    assert (first, last) == (f"not ready after 60 s: web (port 80 accepts no connection{GOES_ON})", LONGER)
    assert (reason, advice) == (f"  web: port 80 accepts no connection{GOES_ON}", f"    {OTHER}")
    assert log.endswith("at work")


@pytest.mark.usefixtures("clock", "open_ports")
@pytest.mark.parametrize("waits", [{}, {"db": {"web": "service_healthy"}}], ids=["not ready yet", "not made yet"])
def test_a_silent_service_is_waited_for_while_another_one_may_still_change_something(
    waits: dict[str, dict[str, str]],
) -> None:
    with pytest.raises(NotReadyError, match=r"^not ready after 60 s: web \(port 80 accepts no connection, and it wr"):
        started(Site(states={"db": "starting"}), [TCP, HEALTH], [], **waits)
