"""Waiting for a project: when it ends, what counts as ready, what a failure says. No engine, no container."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import queue
import re
import threading
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from stackyard.docker import ContainerState, inspection
from stackyard.docker.inspection import Place, Seen
from stackyard.errors import EngineError, NotReadyError, RefusedError
from stackyard.project.readiness_hints import Hint
from stackyard.stacks.diagnostics import LONGER
from stackyard.stacks.readiness import progress_lines, waiting, watched_container
from stackyard.stacks.readiness.watched_container import waits_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stackyard.probes.readiness_rules import Rule
    from stackyard.stacks.readiness.waiting import ServiceReady, StackReady

COMPLETED = {"migrate": {"condition": "service_completed_successfully"}}


def container(service: str, status: str = "running", code: int = 0, **more: Any) -> ContainerState:
    return ContainerState(
        id=more.pop("id", service), service=service, status=status, exit_code=code, oom_killed=more.pop("oom", False),
        error=more.pop("error", ""), health="none", health_log=(), restarts=more.pop("restarts", 0), started_at="",
    )  # fmt: skip


class FakeChanges:
    """Changes that the engine tells: none, or an error; then it is asked for lists all the time."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[None]:
        if self.error:
            raise self.error
        yield from ()

    def close(self) -> None:
        self.closed.set()


class Told(FakeChanges):
    """A change whenever a test says so, until `close`."""

    def __init__(self) -> None:
        super().__init__()
        self.news: queue.Queue[bool] = queue.Queue()

    def __iter__(self) -> Iterator[None]:
        while self.news.get():
            yield None

    def close(self) -> None:
        super().close()
        self.news.put(item=False)


class World:
    """What the engine shows, one list of containers after the other; the last one stays."""

    def __init__(self, *lists: Sequence[ContainerState]) -> None:
        self.lists = [list(states) for states in lists]
        self.shown: list[ContainerState] = []
        self.proofs: dict[str, Rule] = {}
        self.ended: list[str] = []
        self.never: set[str] = set()
        self.silent: set[str] = set()
        self.hopeless: set[str] = set()
        self.lasts: dict[str, str] = {}
        self.broken: dict[str, Exception] = {}
        self.images: dict[str, Any] = {}
        self.told: FakeChanges = FakeChanges()

    def seen(self, *_: object) -> list[Seen]:
        self.shown = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        return [
            Seen(
                id=one.id,
                name=f"x-{one.id}-1",
                service=one.service,
                image=one.service,
                status=one.status,
                unhealthy=one.health == "unhealthy",
            )
            for one in self.shown
        ]

    def changes(self, _: object, labels: Sequence[str]) -> FakeChanges:
        assert labels == ["a=b"]
        return self.told

    def place(self, _: object, identity: str) -> Place:
        return Place(state=self.state(identity), pid=0, address="", published={})

    def image(self, _: object, identity: str) -> Any:
        if identity not in self.images:
            raise RefusedError("no such image")
        return self.images[identity]

    # as an Engine, for what a failure says of containers

    def state(self, identity: str) -> ContainerState:
        return next(one for one in self.shown if one.id == identity)

    def logs(self, identity: str, *, tail: int) -> str:
        assert tail
        return f"log of {identity}: password s3cret"


class FakeProof:
    """A proof that passes at once, never, or with an error, as the world says."""

    world: World

    def __init__(self, _: object, identity: str, rule: Rule, __: object) -> None:
        self.identity = identity
        self.last = self.world.lasts.get(identity, "port 80 does not listen")
        self.warning = ""
        self.hopeless = identity in self.world.hopeless
        self.world.proofs[identity] = rule

    @property
    def silent_since(self) -> float | None:
        return 0.0 if self.identity in self.world.silent else None

    def give_up(self) -> str:
        self.warning = "port 80 does not listen"
        return "gave up"

    async def run(self) -> str:
        if self.identity in self.world.broken:
            raise self.world.broken[self.identity]
        if self.identity in self.world.never:
            try:
                await asyncio.Event().wait()
            finally:
                self.world.ended.append(self.identity)
        return f"{self.identity} answered"


def model(**services: dict[str, Any]) -> dict[str, Any]:
    return {"services": services}


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[..., StackReady]:
    monkeypatch.setattr(waiting, "TICK", 0.0)
    monkeypatch.setattr(waiting, "Proof", FakeProof)

    def run(world: World, services: dict[str, Any], **more: Any) -> StackReady:
        monkeypatch.setattr(FakeProof, "world", world, raising=False)
        monkeypatch.setattr(inspection, "Changes", world.changes)
        for name in ("seen", "place", "image"):
            monkeypatch.setattr(inspection, name, getattr(world, name))
        engine: Any = world
        return asyncio.run(waiting.wait(engine, ["a=b"], services, **{"deadline": 30.0} | more))

    return run


def names(ready: StackReady) -> list[str]:
    return sorted(one.service for one in ready.services)


def test_a_project_is_ready_when_each_service_has_proved_itself(wait: Callable[..., StackReady]) -> None:
    told: list[ServiceReady] = []

    ready = wait(World([container("web"), container("db")]), model(web={}, db={}), ready=told.append)

    assert names(ready) == ["db", "web"]
    assert [one.how for one in ready.services if one.service == "web"] == ["web answered"]
    assert sorted(one.service for one in told) == ["db", "web"]
    assert ready.seconds == max(one.seconds for one in ready.services)


def test_a_project_without_containers_is_ready(wait: Callable[..., StackReady]) -> None:
    assert wait(World([]), model(off={"scale": 0})).services == ()


def test_containers_may_appear_and_start_while_it_waits(wait: Callable[..., StackReady]) -> None:
    world = World([], [container("web", "created")], [container("web")])

    assert names(wait(world, model(web={}))) == ["web"]


def test_every_container_of_a_service_has_to_be_ready(wait: Callable[..., StackReady]) -> None:
    one, two = container("web", id="one"), container("web", id="two")

    assert names(wait(World([one], [one, two]), model(web={"scale": 2}))) == ["web"]
    with pytest.raises(NotReadyError, match=r"not ready after 2 s: web \(has 1 of 2 containers\)\n"):
        wait(World([one]), model(web={"scale": 2}), deadline=2)


def test_containers_of_other_services_do_not_count(wait: Callable[..., StackReady]) -> None:
    assert names(wait(World([container("web"), container("old", "exited", 1)]), model(web={}))) == ["web"]


def test_the_image_decides_about_the_rule(wait: Callable[..., StackReady]) -> None:
    world = World([container("web")])
    world.images["web"] = {"Config": {"Healthcheck": {"Test": ["CMD", "true"]}}}

    (ready,) = wait(world, model(web={})).services

    assert (ready.rule.kind, ready.rule) == ("health check", world.proofs["web"])


def test_a_hint_decides_before_the_image(wait: Callable[..., StackReady]) -> None:
    (ready,) = wait(World([container("web")]), model(web={}), hints={"web": Hint(kind="tcp", port=5)}).services

    assert ready.rule.kind == "tcp"


def test_a_one_shot_is_ready_when_it_has_ended_with_0_and_not_before(wait: Callable[..., StackReady]) -> None:
    world = World([container("migrate"), container("app")], [container("migrate", "exited"), container("app")])

    ready = wait(world, model(migrate={}, app={"depends_on": COMPLETED}))

    assert [one.service for one in ready.services] == ["app", "migrate"]
    assert ready.services[1].how == "ended with exit code 0"
    assert list(world.proofs) == ["app"]


def test_a_service_that_may_end_is_ready_when_it_has(wait: Callable[..., StackReady]) -> None:
    assert names(wait(World([container("job", "exited")]), model(job={}))) == ["job"]


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (container("migrate", "exited", 3), "migrate ended with exit code 3"),
        (container("migrate", "exited", 137, oom=True), "migrate ended with exit code 137, killed at its memory limit"),
        (container("migrate", "exited", 127, error="no such file"), "migrate ended with exit code 127, no such file"),
        (container("migrate", "exited", 1, restarts=2), "migrate ended with exit code 1, restarted 2 times"),
        (container("migrate", "dead", 0, restarts=0), "migrate ended with exit code 0"),
    ],
)
def test_an_end_that_must_not_be_ends_the_wait_and_names_all_who_wait(
    wait: Callable[..., StackReady], state: ContainerState, says: str
) -> None:
    services = model(
        migrate={"ports": [{"target": 80}]}, app={"depends_on": {"migrate": None}}, web={"depends_on": {"app": {}}}
    )
    world = World([state, container("app", "created"), container("web", "created")])

    with pytest.raises(NotReadyError) as caught:
        wait(world, services)

    lines = str(caught.value).splitlines()
    assert lines[0] == f"not ready: {says}"
    assert lines[1] == f"  {says.replace(' ', ': ', 1)}"
    assert lines[2].startswith("    rule: no health check; published port 80")
    assert lines[3] == "    waits for it: app, web"
    assert lines[-2:] == [
        "  app: not started yet, because it waits for migrate", "  web: not started yet, because it waits for app"
    ]  # fmt: skip
    # the container's state stands there only if it tells more than the first line
    plain = state.status == "exited" and not (state.oom_killed or state.restarts or state.error)
    assert plain is not any("    container: " in line for line in lines)


def test_a_failure_shows_the_log_of_those_to_blame_without_secrets(wait: Callable[..., StackReady]) -> None:
    world = World([container("web", "exited", 1), container("db"), container("app", "created")])
    world.never.add("db")

    with pytest.raises(NotReadyError) as caught:
        wait(world, model(web={}, db={}, app={}), secrets=["s3cret", ""])

    assert "log of web: password ***" in str(caught.value)
    assert "log of db" not in str(caught.value)


def test_a_deadline_names_each_service_that_is_missing_and_its_last_answer(wait: Callable[..., StackReady]) -> None:
    world = World([container("web"), container("ok"), container("migrate")])
    world.never.add("web")

    with pytest.raises(NotReadyError) as caught:
        wait(world, model(web={}, ok={}, migrate={}, late={}), deadline=2)

    lines = str(caught.value).splitlines()
    assert lines[0] == "not ready after 2 s: web (port 80 does not listen), migrate (still running)"
    assert "  web: port 80 does not listen" in lines
    assert "  migrate: still running" in lines
    assert "  late: has no container yet" in lines
    assert "    | log of web: password s3cret" in lines
    assert lines[-1] == LONGER
    assert world.ended == ["web"]


def test_a_health_check_that_is_cut_off_names_the_key_that_gives_it_more_time(wait: Callable[..., StackReady]) -> None:
    world = World([container("web"), container("db")])
    world.never, world.lasts = {"web", "db"}, {"db": "no answer within 3 s", "web": "exit code 1"}

    with pytest.raises(NotReadyError) as caught:
        wait(world, model(web=CHECKED, db=CHECKED), deadline=2)

    last = f"{LONGER}; for one check: services.db.healthcheck.timeout in the Compose file"
    assert str(caught.value).splitlines()[-1] == last


CHECKED = {"healthcheck": {"test": ["CMD", "check"]}}


def unhealthy(service: str) -> ContainerState:
    return dataclasses.replace(container(service), health="unhealthy")


def test_a_service_that_stays_unhealthy_ends_the_wait_with_its_last_answer(
    wait: Callable[..., StackReady], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_container, "RECOVERY", 0.05)
    world = World([container("db"), container("web")], [unhealthy("db"), container("web")])
    world.never, world.lasts = {"db"}, {"db": "exit code 1"}

    with pytest.raises(NotReadyError, match="not ready: db is unhealthy: exit code 1"):
        wait(world, model(db=CHECKED, web={}))


def test_a_health_check_that_no_later_answer_can_pass_ends_the_wait_at_once(wait: Callable[..., StackReady]) -> None:
    world = World([container("db"), container("web")])
    world.never, world.hopeless, world.lasts = {"db"}, {"db"}, {"db": "needs a shell"}

    with pytest.raises(NotReadyError, match="not ready: db is unhealthy: needs a shell"):
        wait(world, model(db=CHECKED, web={}))


def test_a_service_may_be_unhealthy_for_a_while_or_where_its_check_is_not_the_rule(
    wait: Callable[..., StackReady], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_container, "RECOVERY", 0.0)
    hint = Hint(kind="log", value="x")
    late = World([unhealthy("web")])
    late.never.add("web")

    with pytest.raises(NotReadyError, match="not ready after"):
        wait(late, model(web=CHECKED), hints={"web": hint}, deadline=0.2)
    monkeypatch.setattr(watched_container, "RECOVERY", 60.0)
    for again in (container("web"), unhealthy("web")):
        with pytest.raises(NotReadyError, match="not ready after"):
            wait(World([unhealthy("web")], [again], [unhealthy("web")]), model(web=CHECKED, late={}), deadline=0.2)


def test_a_failure_does_not_mention_a_service_that_answers_by_now(wait: Callable[..., StackReady]) -> None:
    both = [container("web"), container("db")]
    world = World(both, [container("web", "exited", 1), both[1]])
    world.never, world.lasts = {"web", "db"}, {"db": ""}

    with pytest.raises(NotReadyError) as caught:
        wait(world, model(web={}, db={}))

    assert "  db: " not in str(caught.value)


def test_a_failure_at_a_port_says_how_to_choose_another_rule(wait: Callable[..., StackReady]) -> None:
    world = World([container("web"), container("db")])
    world.never |= {"web", "db"}
    services = model(web={"ports": [{"target": 80}]}, db={"healthcheck": {"test": ["CMD", "true"]}})

    with pytest.raises(NotReadyError) as caught:
        wait(world, services, deadline=2)

    advice = [line for line in str(caught.value).splitlines() if "to choose what counts" in line]
    assert advice == [
        '    to choose what counts, write services.web.ready = "running", or another rule, to stackyard.toml'
    ]


@pytest.fixture
def no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SILENCE", 0.0)


@pytest.mark.parametrize("service", ["web", "a.b", "my-shop_1"])
def test_the_line_that_a_failure_advises_can_be_pasted(service: str) -> None:
    line = re.search(r"write (.*), or another rule", watched_container.other_rule(service))

    assert line
    assert tomllib.loads(line[1]) == {"services": {service: {"ready": "running"}}}


@pytest.mark.usefixtures("no_silence")
def test_silent_services_are_ready_with_a_warning_once_all_others_are(wait: Callable[..., StackReady]) -> None:
    world = World([container("web"), container("dns"), container("db")])
    world.never, world.silent = {"web", "dns"}, {"web", "dns"}

    ready = {one.service: one for one in wait(world, model(web={}, dns={}, db={})).services}

    assert ready["web"].how == "gave up"
    assert ready["web"].warning == (
        'web: port 80 does not listen; to choose what counts, write services.web.ready = "running", or another rule, '
        "to stackyard.toml"
    )
    assert ready["web"].to_json()["warning"] == ready["web"].warning
    assert ready["db"].to_json()["warning"] is None
    assert sorted(world.ended) == ["dns", "web"]


@pytest.mark.usefixtures("no_silence")
@pytest.mark.parametrize(
    ("others", "services"),
    [
        ([container("db")], {"db": {}}), ([container("db", "created")], {"db": {}}), ([], {"db": {}}),
        ([container("db", "restarting")], {"db": {}}),
        ([container("db")], {"db": {}, "web": {"depends_on": {"db": {"condition": "service_completed_successfully"}}}}),
    ],
    ids=["being asked", "not started", "not made", "restarting", "a one-shot at work"],
)  # fmt: skip
def test_a_silent_service_is_waited_for_while_another_one_may_still_change_something(
    wait: Callable[..., StackReady], others: list[ContainerState], services: dict[str, Any]
) -> None:
    world = World([container("web"), *others])
    world.never, world.silent = {"web", "db"}, {"web"}

    with pytest.raises(NotReadyError, match=r"not ready after 2 s: "):
        wait(world, model(**{"web": {}} | services), deadline=2)


def test_a_silent_service_is_waited_for_while_the_silence_is_short(wait: Callable[..., StackReady]) -> None:
    world = World([container("web")])
    world.never, world.silent = {"web"}, {"web"}

    with pytest.raises(NotReadyError, match=r"web \(port 80 does not listen\)"):
        wait(world, model(web={}), deadline=2)


@pytest.mark.parametrize(("silent", "said"), [(set(), ""), ({"s3cret-web"}, waiting.GOES_ON.format("does"))])
def test_a_long_wait_is_reported_without_secrets(
    wait: Callable[..., StackReady], monkeypatch: pytest.MonkeyPatch, silent: set[str], said: str
) -> None:
    monkeypatch.setattr(progress_lines, "SHORT", 0.0)
    monkeypatch.setattr(progress_lines, "PAUSE", 0.0)
    world = World([container("s3cret-web")])
    world.never, world.silent = {"s3cret-web"}, silent
    told: list[str] = []

    with pytest.raises(NotReadyError):
        wait(world, model(**{"s3cret-web": {}}), deadline=2, secrets=["s3cret"], progress=told.append)

    why = "no health check and no port to ask: it runs for 0.5 s, or has ended with exit code 0"
    assert told[0].partition(": ")[0].startswith("waiting for ***-web, 0 s of at most ")
    assert told[0].partition(": ")[2] == f"port 80 does not listen{said} ({why})"


def test_a_container_that_the_engine_could_not_start_is_reported_with_the_engines_words(
    wait: Callable[..., StackReady], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World([container("web", "created", 128, error="port is already allocated"), container("db", "created")])
    place = world.place

    def gone(engine: object, identity: str) -> Place:
        if identity == "db":
            raise RefusedError("no such container")
        return place(engine, identity)

    monkeypatch.setattr(world, "place", gone)

    with pytest.raises(NotReadyError) as caught:
        wait(world, model(web={}, db={}), deadline=2)

    assert "  web: could not be started: port is already allocated" in str(caught.value).splitlines()
    assert "  db: not started yet" in str(caught.value).splitlines()


def test_a_service_that_was_ready_and_ended_while_others_were_missing_is_a_failure(
    wait: Callable[..., StackReady],
) -> None:
    world = World([container("web"), container("db", "created")], [container("web", "exited", 1), container("db")])
    world.never.add("db")

    with pytest.raises(NotReadyError, match="not ready: web ended with exit code 1"):
        wait(world, model(web={}, db={}))


def test_a_service_that_restarts_has_to_prove_itself_again(wait: Callable[..., StackReady]) -> None:
    told: list[ServiceReady] = []
    db = container("db", "created")
    states = [container("web"), container("web", "restarting", 1, restarts=1), container("web", restarts=1)]
    world = World(*([state, db] for state in states), [states[2], container("db")])

    ready = wait(world, model(web={}, db={}), ready=told.append)

    assert names(ready) == ["db", "web"]
    assert sorted(one.service for one in told) == ["db", "web", "web"]


def test_a_container_that_was_started_again_in_the_meantime_is_no_failure(
    wait: Callable[..., StackReady], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World([container("web", "exited", 1)], [container("web")])
    monkeypatch.setattr(World, "state", lambda *_: container("web"))

    assert names(wait(world, model(web={}))) == ["web"]


def test_a_container_that_is_gone_at_the_second_look_is_no_failure(
    wait: Callable[..., StackReady], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World([container("web", "exited", 1)], [container("web")])

    def refuse(*_: object) -> Place:
        raise RefusedError("no such container")

    monkeypatch.setattr(World, "place", refuse)

    assert names(wait(world, model(web={}))) == ["web"]


def test_a_container_in_anothers_place_is_the_one_that_counts(wait: Callable[..., StackReady]) -> None:
    world = World([container("web", id="old")], [container("web", id="old")], [container("web", id="new")])
    world.never.add("old")

    (ready,) = wait(world, model(web={})).services

    assert ready.how == "new answered"
    assert world.ended == ["old"]


def test_a_container_that_keeps_restarting_is_given_up_once_all_others_are_ready(
    wait: Callable[..., StackReady],
) -> None:
    states = [[container("web", "restarting", 7, restarts=count), container("db")] for count in range(20)]

    with pytest.raises(
        NotReadyError, match=r"not ready: web keeps restarting: ended with exit code 7, restarted [3-9] times"
    ):
        wait(World(*states), model(web={}, db={}))


def test_a_container_may_restart_as_often_as_it_likes_while_others_are_missing(
    wait: Callable[..., StackReady],
) -> None:
    states = [[container("web", "restarting", 7, restarts=count), container("db", "created")] for count in range(20)]

    assert names(wait(World(*states, [container("web"), container("db")]), model(web={}, db={}))) == ["db", "web"]


def test_two_that_restart_do_not_excuse_each_other(wait: Callable[..., StackReady]) -> None:
    states = [
        [container("web", "restarting", 7, restarts=count), container("db", "restarting", 8, restarts=count)]
        for count in range(20)
    ]

    with pytest.raises(NotReadyError, match="keeps restarting"):
        wait(World(*states), model(web={}, db={}))


def test_an_engine_that_does_not_answer_ends_the_wait(wait: Callable[..., StackReady]) -> None:
    world = World([container("web")])
    world.broken["web"] = EngineError("no engine answers")

    with pytest.raises(EngineError, match="no engine answers"):
        wait(world, model(web={}))


def test_a_result_is_plain_data_and_a_sentence(wait: Callable[..., StackReady]) -> None:
    ready = wait(World([container("web")]), model(web={}))
    (one,) = ready.services

    data = json.loads(json.dumps(ready.to_json()))

    assert data["services"][0]["service"] == "web"
    assert data["services"][0]["rule"]["kind"] == "running"
    assert data["services"][0]["how"] == "web answered"
    assert str(dataclasses.replace(one, seconds=1.234)).startswith("web is ready after 1.23 s: web answered (no health")


def test_those_who_wait_are_followed_through_others_and_in_circles() -> None:
    services = model(
        db={}, web={"depends_on": {"db": {}}}, proxy={"depends_on": {"web": {}, "db": {}}}, a={"depends_on": {"b": {}}},
        b={"depends_on": {"a": {}}},
    )  # fmt: skip

    assert waits_for(services, "db") == ["web", "proxy"]
    assert waits_for(services, "a") == ["b"]
    assert waits_for(services, "proxy") == []


def test_a_change_that_the_engine_tells_leads_to_the_next_look(
    wait: Callable[..., StackReady], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LONG_TICK", 1000.0)
    monkeypatch.setattr(waiting, "TICK", 1000.0)
    world = World([container("web", "created")], [container("web", "created")], [container("web")])
    told = world.told = Told()

    def seen(*words: object) -> list[Seen]:
        told.news.put(item=True)
        return World.seen(world, *words)

    monkeypatch.setattr(world, "seen", seen)

    assert names(wait(world, model(web={}))) == ["web"]
    assert told.closed.is_set()


def test_an_engine_that_tells_no_changes_is_asked_again_and_again(wait: Callable[..., StackReady]) -> None:
    world = World([], [container("web", "created")], [container("web")])
    world.told = FakeChanges(EngineError("no such path"))

    assert names(wait(world, model(web={}))) == ["web"]
