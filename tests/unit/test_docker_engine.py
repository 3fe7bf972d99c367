from __future__ import annotations

import errno
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from unruly_engine import ANSWERS, SLOW, Answer, http, unruly

from stackyard.docker import Engine, MemoryUse, Resource, container_commands, images, lease_book, networks
from stackyard.docker.endpoint import Endpoint
from stackyard.docker.engine import each
from stackyard.docker.fast_start.records import NetworkPlan, VolumePlan
from stackyard.docker.time_limit import RESTORED, Patience, allowing
from stackyard.docker.usage import sight
from stackyard.errors import EngineError, UnansweredError, UnlistedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fake_engine import FakeEngine

LABEL = ["stackyard.lease=l1"]
VOLUME = VolumePlan(name="v", labels={})
NETWORK = NetworkPlan(name="n", driver="bridge", subnets=("10.0.0.0/28",), labels={})
THING = Resource(kind="network", id="n", name="n", labels={})


def test_everything_is_listed_in_the_order_it_can_be_removed(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.volume("data")
    fake_engine.network("net")
    fake_engine.container("redis")
    fake_engine.container("redis", lease="l2")

    found = engine.everything(LABEL)

    assert [(item.kind, item.name) for item in found] == [
        ("container", "redis-l1"), ("network", "net"), ("volume", "data"),
    ]  # fmt: skip


def test_a_container_of_an_image_that_was_made_of_a_lease_s_container_is_not_the_lease_s(
    fake_engine: FakeEngine, engine: Engine
) -> None:
    labels = {"stackyard.lease": "l1", "stackyard.host": "h1", "com.docker.compose.project": "shop-l1"}
    fake_engine.images.put("sha256:own", "shop:1", labels={"stackyard.lease": "l0"})
    fake_engine.images.put("sha256:commit", "kept:1", labels=labels)
    fake_engine.images.put("sha256:plain", "plain:1")["Config"] = {"Labels": None}
    images = {"shop-l1-db-1": "own", "renamed": "own", "pruned": "gone", "plain": "plain", "kept": "commit"}
    for name, image in images.items():
        fake_engine.containers[name] = {**fake_engine.container("x", State="exited"), "labels": labels}
        fake_engine.containers[name] |= {"image": f"sha256:{image}", "state": {"Status": "exited"}}
    del fake_engine.containers["x-l1"]

    found = [item.name for item in engine.containers(LABEL)]

    assert found == ["shop-l1-db-1", "renamed", "pruned", "plain"]
    assert len(engine.troubled(LABEL)) == 4
    fake_engine.requests.clear()
    for name in found[1:]:
        del fake_engine.containers[name]
    del fake_engine.containers["kept"]
    engine.containers(LABEL)
    assert len(fake_engine.requests) == 1  # a usual name needs no second look


def test_removing_what_is_gone_or_going_is_success(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.container("auth")
    fake_engine.refuse["containers auth-l1"] = (409, "removal of container auth-l1 is already in progress")
    gone = Resource(kind="network", id="gone", name="gone", labels={})

    engine.remove(gone)
    engine.remove(engine.containers(LABEL)[0])

    assert [line.split()[0] for line in fake_engine.requests].count("DELETE") == 2


def test_a_refusal_keeps_the_engines_words(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.network("net")
    fake_engine.refuse["networks net"] = (403, "network net has active endpoints")

    with pytest.raises(EngineError, match="removing network net: the engine refused: network net has active endpoints"):
        engine.remove(engine.networks(LABEL)[0])


def test_after_a_silence_the_next_call_pings_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/e.sock")
    answers = iter([http("OK"), None, http("OK"), http("[]")])
    with unruly(tmp_path / "e.sock", lambda *_: next(answers)) as served, Engine(deadline=2) as engine:
        with pytest.raises(EngineError, match="did not answer within"):
            engine.containers(LABEL)
        served.requests.clear()

        assert engine.containers(LABEL) == []

    assert served.requests[0].endswith("/_ping")


def test_no_engine_is_one_line_with_the_address_and_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")

    with pytest.raises(EngineError) as caught:
        Engine().version()

    assert str(caught.value) == (
        f"connecting to the Docker engine: no engine answers at unix://{tmp_path}/nothing.sock (from DOCKER_HOST):"
        " there is no such socket; start it, or unset DOCKER_HOST to use this host's own engine"
    )


def test_an_engine_that_the_user_may_not_ask_is_not_to_be_started_but_joined() -> None:
    said = Endpoint(url="unix:///var/run/docker.sock").away(PermissionError(errno.EACCES, "Permission denied"))

    assert said == (
        "you may not use the engine at unix:///var/run/docker.sock: Permission denied; run `sudo usermod -aG docker "
        "$USER` and log in again (members of that group are as good as root)"
    )


CALLS: dict[str, Callable[[Engine], object]] = {
    "version": lambda engine: engine.version(),
    "containers": lambda engine: engine.containers(LABEL),
    "troubled": lambda engine: engine.troubled(LABEL),
    "networks": lambda engine: engine.networks(LABEL),
    "volumes": lambda engine: engine.volumes(LABEL),
    "attached": lambda engine: engine.attached(THING),
    "state": lambda engine: engine.state("c"),
    "logs": lambda engine: engine.logs("c"),
    "memory": lambda engine: engine.memory("c"),
    "published": lambda engine: engine.published_ports(),
    "subnets": lambda engine: engine.subnets(),
    "sight": lambda engine: sight(engine, "c"),
    "labelled": lambda engine: images.labelled(engine, "l"),
    "disk use": images.disk_use,
    "architecture": images.architecture,
    "export": lambda engine: list(images.export(engine, "i")),
    "inside": lambda engine: container_commands.output(engine, "c", "true", deadline=0.2),
    "create volume": lambda engine: engine.create_volume(VOLUME),
    "create network": lambda engine: engine.create_network(NETWORK),
    "start": lambda engine: engine.start("c"),
    "restart": lambda engine: engine.restart("c", grace=0),
    "remove": lambda engine: engine.remove(THING),
    "tag": lambda engine: images.tag(engine, "i", "r:t"),
    "untag": lambda engine: images.untag(engine, "i"),
    "detach": lambda engine: networks.detach(engine, THING, "c"),
}
# requests that change something
DONE = frozenset({"create volume", "create network", "start", "restart", "remove", "tag", "untag", "detach"})


def end_of(call: str) -> tuple[float, Exception | None]:
    """Make one request to DOCKER_HOST; return its seconds and its error."""
    began = time.monotonic()
    with Engine(deadline=0.5) as engine:
        try:
            CALLS[call](engine)
        except Exception as error:  # noqa: BLE001 - the test looks at its kind
            return time.monotonic() - began, error
    return time.monotonic() - began, None


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_every_request_ends_in_time_and_in_one_line_whatever_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/e.sock")
    for deadline in ("MEASUREMENT", "REMOVAL", "EXPORT_DEADLINE"):
        monkeypatch.setattr(images, deadline, 0.2)

    def answer(_method: str, path: str) -> Answer:
        return http("OK") if path.endswith("/_ping") else ANSWERS[name]

    with unruly(tmp_path / "e.sock", answer), ThreadPoolExecutor(16) as pool:
        ends = dict(zip(CALLS, pool.map(end_of, CALLS), strict=True))
    errors = {call: error for call, (_, error) in ends.items() if error is not None}

    assert max(seconds for seconds, _ in ends.values()) < 30  # the slow ones go on for a minute
    assert {call: error for call, error in errors.items() if not isinstance(error, EngineError)} == {}
    assert [str(error) for error in errors.values() if "\n" in str(error) or len(str(error)) > 700] == []
    if name in SLOW:
        assert set(errors) == set(CALLS)
        assert {call for call, error in errors.items() if isinstance(error, UnansweredError)} == DONE


def test_a_state_tells_exit_code_health_and_the_last_checks(fake_engine: FakeEngine, engine: Engine) -> None:
    log = [{"Output": "first\n"}, {"Output": "second\n"}]
    changes: dict[str, Any] = {
        "Status": "exited",
        "ExitCode": 3,
        "OOMKilled": True,
        "Health": {"Status": "unhealthy", "Log": log},
    }
    fake_engine.container("auth", **changes)

    state = engine.state("auth-l1")

    assert (state.service, state.status, state.exit_code, state.oom_killed) == ("auth", "exited", 3, True)
    assert (state.health, state.health_log, state.ended) == ("unhealthy", ("first", "second"), True)


def test_trouble_is_an_ended_or_unhealthy_container(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.container("auth", Status="exited")
    fake_engine.container("redis")
    fake_engine.container("backend")["text"] = "Up 3 seconds (unhealthy)"

    assert [item.name for item in engine.troubled(LABEL)] == ["auth", "backend"]


def test_memory_leaves_out_the_cache_the_kernel_may_drop(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.container("redis")

    assert engine.memory("redis-l1") == MemoryUse(used=20 << 20, anonymous=8 << 20, limit=96 << 20)


def test_processor_time_is_in_seconds(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.container("redis")

    assert engine.processor_seconds("redis-l1") == 1.5


def test_memory_of_an_older_cgroup_reads_the_totals() -> None:
    stats = {"total_inactive_file": 1, "inactive_file": 9, "total_rss": 3, "total_shmem": 4}

    use = MemoryUse.from_stats({"memory_stats": {"usage": 10, "limit": 20, "stats": stats}})

    assert use == MemoryUse(used=9, anonymous=7, limit=20)


def test_memory_of_a_stopped_container_is_unknown_rather_than_zero() -> None:
    assert MemoryUse.from_stats({"memory_stats": {}}) is None


def test_logs_ports_and_subnets_come_as_plain_values(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.container("redis")["log"] = b"one\ntwo\n"
    fake_engine.network("net", users=("b", "a"))

    assert engine.logs("redis-l1") == "one\ntwo\n"
    assert engine.published_ports() == {5433}
    assert engine.subnets() == ["10.213.0.0/28"]
    assert engine.attached(engine.networks(LABEL)[0]) == ["a", "b"]
    assert engine.version() == "26.1.5"


def test_a_restart_is_of_one_container_alone(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.container("redis")
    fake_engine.container("auth")
    fake_engine.requests.clear()

    engine.restart("redis-l1")

    restarted = [request.split("/")[3] for request in fake_engine.requests if request.endswith("/restart")]
    assert restarted == ["redis-l1"]


def test_each_does_all_and_returns_the_refusals() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        done.append(item)
        if item == 2:
            raise EngineError("no")

    refusals = each(work, [1, 2, 3])

    assert sorted(done) == [1, 2, 3]
    assert [str(error) for error in refusals] == ["no"]
    assert each(work, []) == []


def test_an_engine_that_hangs_is_found_out_at_the_first_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackyard.docker.engine.PING_TIMEOUT_S", 0.2)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/silent.sock")
    with (
        unruly(tmp_path / "silent.sock", lambda *_: None),
        Engine() as engine,
        pytest.raises(EngineError, match=r"did not answer within 0\.2 s"),
    ):
        engine.containers([])


def test_all_engines_of_a_process_share_what_silence_has_used_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/e.sock")
    monkeypatch.setenv("STACKYARD_ENGINE_TIMEOUT", "0.6")
    began, said = time.monotonic(), []
    with unruly(tmp_path / "e.sock", lambda _, path: http("OK") if path.endswith("/_ping") else None):
        for _ in range(20):
            with Engine() as engine, pytest.raises(EngineError) as caught:
                engine.containers([])
            said.append(str(caught.value))

    waited = [float(found[1]) for line in said if (found := re.search(r"within ([0-9.]+) s", line))]
    assert waited[0] == 0.5
    assert sum(waited) < 0.7 + RESTORED * (time.monotonic() - began)
    assert said[-1].endswith("did not answer an earlier request in time")


def test_a_lost_book_waits_only_a_moment_for_its_engine_and_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/e.sock")
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(lease_book, "SURVEY_DEADLINE", 0.2)
    began = time.monotonic()
    with (
        unruly(tmp_path / "e.sock", lambda _, path: http("OK") if path.endswith("/_ping") else None),
        Engine() as engine,
        pytest.raises(UnlistedError, match=r"the lease book is new, and .* did not answer within 0\.2 s"),
    ):
        lease_book.open_book(None, engine).leases()

    assert time.monotonic() - began < 10


def test_an_engine_that_is_not_closed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/e.sock")
    with unruly(tmp_path / "e.sock", lambda *_: http("OK")):
        engine = Engine(deadline=1)
        engine.api  # noqa: B018 - connects
        with pytest.warns(ResourceWarning, match="an Engine was not closed"):
            del engine


def test_a_request_that_was_never_sent_is_not_unanswered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/e.sock")
    with unruly(tmp_path / "e.sock", lambda *_: http("OK")):
        engine = Engine(deadline=1)
        engine.api  # noqa: B018 - connects
    with engine, pytest.raises(EngineError, match="no such socket") as caught:
        engine.create_volume(VOLUME)

    assert not isinstance(caught.value, UnansweredError)


def test_an_address_where_nothing_listens_is_not_a_silent_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound, and nothing listens
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("DOCKER_HOST", address)

        with Engine() as engine, pytest.raises(EngineError) as caught:
            engine.containers([])

    assert str(caught.value) == (
        f"connecting to the Docker engine: no engine answers at {address} (from DOCKER_HOST): Connection refused; "
        "start it, or unset DOCKER_HOST to use this host's own engine"
    )


def test_starting_on_another_hosts_engine_is_refused_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.7:2375")

    with (
        Engine() as engine,
        pytest.raises(EngineError, match=r"tcp://192.0.2.7:2375 \(from DOCKER_HOST\) is on another"),
    ):
        engine.refuse_elsewhere()


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon", "1e9"])
def test_a_wrong_limit_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("STACKYARD_ENGINE_TIMEOUT", text)

    with pytest.raises(UsageError, match=f"STACKYARD_ENGINE_TIMEOUT must be a time such as.*got '{text}'"):
        Engine()


class Ticking:
    """A clock that stands still between two steps."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_answers_within_a_second_use_nothing_up_and_slow_ones_do() -> None:
    clock = Ticking()
    patience = Patience(24.0, clock=clock)

    for took in (0.9, 0.5, 1.0):
        began, clock.now = clock.now, clock.now + took
        patience.note(began, answered=True)
    assert patience.limit(99.0) == 20.0

    began, clock.now = clock.now, clock.now + 15.0
    patience.note(began, answered=True)
    assert patience.limit(99.0) == pytest.approx(24.0 - 14.0)


def test_a_busy_engine_is_not_given_up_while_other_answers_come() -> None:
    clock = Ticking()
    patience = Patience(24.0, clock=clock)
    began = clock.now

    for _ in range(100):
        clock.now += 0.8
        patience.note(began, answered=True)

    assert patience.limit(99.0) == 20.0


def test_waits_at_the_same_time_count_once_and_time_restores_them() -> None:
    clock = Ticking()
    patience = Patience(24.0, clock=clock)
    began, clock.now = clock.now, clock.now + 20.0

    for _ in range(8):
        patience.note(began, answered=False)
    assert patience.limit(99.0) == pytest.approx(4.0, abs=0.1)

    began, clock.now = clock.now, clock.now + 5.0
    patience.note(began, answered=False)
    assert patience.limit(99.0) == 0.0

    clock.now += 600.0
    assert patience.limit(99.0) == 20.0


def test_work_that_takes_its_time_is_allowed_it() -> None:
    clock = Ticking()
    patience = Patience(24.0, clock=clock)

    with allowing(extra=3.0):
        assert patience.limit(99.0) == 23.0
        began, clock.now = clock.now, clock.now + 3.9
        patience.note(began, answered=True)
    with allowing(alone=600.0):
        assert patience.limit(1.0) == 600.0
        began, clock.now = clock.now, clock.now + 600.0
        patience.note(began, answered=True)

    assert patience.limit(99.0) == 20.0


def test_work_with_a_time_of_its_own_is_not_asked_for_once_more_after_a_silence() -> None:
    clock = Ticking()
    patience = Patience(24.0, clock=clock)
    began, clock.now = clock.now, clock.now + 20.0
    patience.note(began, answered=False)

    with allowing(alone=20.0):
        assert patience.limit(99.0) == 4.0
        began, clock.now = clock.now, clock.now + 4.0
        patience.note(began, answered=False)

    assert patience.limit(99.0) < 1.5
