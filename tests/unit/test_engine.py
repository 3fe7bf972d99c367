from __future__ import annotations

import gc
import socket
from typing import TYPE_CHECKING, Any

import pytest
import requests.exceptions

from stackyard.engine import Engine, MemoryUse, Resource
from stackyard.engine.client import each
from stackyard.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

    from fake_engine import FakeEngine

LABEL = ["stackyard.lease=l1"]


def test_everything_is_listed_in_the_order_it_can_be_removed(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.volume("data")
    fake_engine.network("net")
    fake_engine.container("redis")
    fake_engine.container("redis", lease="l2")

    found = engine.everything(LABEL)

    assert [(item.kind, item.name) for item in found] == [
        ("container", "redis-l1"), ("network", "net"), ("volume", "data"),
    ]  # fmt: skip


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


def test_after_a_silence_the_next_call_knocks_first(
    fake_engine: FakeEngine, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silence(**_: object) -> None:
        raise requests.exceptions.ReadTimeout

    monkeypatch.setattr(engine.api, "containers", silence)
    with pytest.raises(EngineError, match="did not answer in time"):
        engine.containers(LABEL)
    fake_engine.requests.clear()

    assert engine.containers(LABEL) == []

    assert fake_engine.requests[0].endswith("/_ping")


# the client library leaves the socket of a failed connect to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_engine_is_one_line_with_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")

    with pytest.raises(EngineError, match="try 'invoke doctor'") as caught:
        Engine().version()
    text = str(caught.value)
    del caught
    gc.collect()

    assert "\n" not in text


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


def test_a_restart_takes_those_along_that_share_the_network_namespace(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.container("pod")
    fake_engine.container("redis")["mode"] = "container:pod-l1"
    fake_engine.container("other")
    fake_engine.requests.clear()

    engine.restart("pod-l1")

    restarted = [request.split("/")[3] for request in fake_engine.requests if request.endswith("/restart")]
    assert restarted == ["pod-l1", "redis-l1"]


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
    monkeypatch.setattr("stackyard.engine.client.KNOCK_S", 0.2)
    with socket.socket(socket.AF_UNIX) as silent, Engine() as engine:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/silent.sock")

        with pytest.raises(EngineError, match="did not answer in time; try 'invoke doctor'"):
            engine.containers([])
