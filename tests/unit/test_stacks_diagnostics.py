from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stackyard.stacks import diagnostics

if TYPE_CHECKING:
    from fake_engine import FakeEngine

    from stackyard.docker import Engine

LABEL = ["stackyard.lease=l1"]


def test_evidence_shows_state_exit_code_memory_health_and_last_words(fake_engine: FakeEngine, engine: Engine) -> None:
    health = {"Status": "unhealthy", "Log": [{"Output": f"check {n}"} for n in range(5)]}
    fake_engine.container("redis")
    broken = fake_engine.container(
        "auth", Status="exited", ExitCode=137, OOMKilled=True, Health=health, Error="no room"
    )
    broken["log"] = b"password hunter2\nbye\nbye\n"

    found = diagnostics.collect(engine, engine.containers(LABEL), secrets=["hunter2", ""])

    assert [item.state.service for item in found] == ["auth", "redis"]
    assert str(found[0]).splitlines() == [
        "auth: exited, exit code 137, health unhealthy, out of memory: killed at its limit, no room",
        "  health check: check 2",
        "  health check: check 3",
        "  health check: check 4",
        "  | password ***",
        "  | bye (2 times)",
    ]


def test_evidence_shows_a_line_as_it_was_drawn_last_and_not_megabytes_of_it(
    fake_engine: FakeEngine, engine: Engine
) -> None:
    fake_engine.container("web")["log"] = b"10%\r20%\r\n" + b"x" * 2000 + b"\n"

    (found,) = diagnostics.collect(engine, engine.containers(LABEL), secrets=[])

    assert str(found).split("\n")[1:] == ["  | 20%", f"  | {'x' * 500}… (1500 more characters)"]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"Status": "running", "ExitCode": 0}, "redis: running"),
        ({"Status": "running", "Health": {"Status": "starting"}}, "redis: running, health starting"),
        ({"Status": "created", "ExitCode": 0}, "redis: created"),
        ({"Status": "created", "ExitCode": 127, "Error": "no such program"},
         "redis: created, exit code 127, no such program"),
        ({"Status": "restarting", "ExitCode": 1}, "redis: restarting, exit code 1"),
        ({"Status": "exited", "ExitCode": 0}, "redis: exited, exit code 0"),
    ],
)  # fmt: skip
def test_evidence_says_nothing_of_an_exit_or_a_health_that_is_not_there(
    fake_engine: FakeEngine, engine: Engine, state: dict[str, Any], words: str
) -> None:
    fake_engine.container("redis", **state)

    found = diagnostics.collect(engine, engine.containers(LABEL), secrets=[])

    assert str(found[0]).splitlines()[0] == words


def test_a_container_gone_meanwhile_hides_nothing_of_the_others(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.container("redis", RestartCount=0)
    fake_engine.container("gone")
    plain = fake_engine.answer

    def answer(
        method: str, path: str, query: dict[str, list[str]], body: dict[str, Any] | None = None
    ) -> tuple[int, Any]:
        return (404, {"message": "gone"}) if "gone-l1" in path else plain(method, path, query, body)

    fake_engine.answer = answer  # type: ignore[method-assign]  # the engine forgets one container
    assert [item.state.service for item in diagnostics.collect(engine, engine.containers(LABEL), secrets=[])] == [
        "redis"
    ]


def test_the_longest_secret_is_hidden_first() -> None:
    assert diagnostics.redact("abcd", ["abcd", "ab"]) == "***"


def test_the_explanation_ends_with_the_next_step() -> None:
    removed = diagnostics.explain("r", [], repeat="invoke env.up --keep", kept=None)
    kept = diagnostics.explain("r", [], repeat="invoke env.up --keep", kept="l1")

    assert removed.splitlines() == [
        "r",
        "no container was created",
        f"everything that the start made was removed; to keep it for inspection: {'invoke env.up --keep'}",
    ]
    assert kept.endswith(
        "the stack was kept for you to inspect; when you have seen enough, remove it ('invoke env.down --name l1')"
    )


RUNC = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "
    'unable to start container process: exec: "serve": executable file not found in $PATH: unknown'
)


@pytest.mark.parametrize(
    ("state", "first"),
    [
        ({"Status": "exited", "ExitCode": 3}, "service web ended with exit code 3"),
        ({"Status": "running", "Health": {"Status": "unhealthy"}}, "service web is unhealthy"),
        ({"Status": "created", "ExitCode": 127, "Error": RUNC},
         'service web cannot start: exec: "serve": executable file not found in $PATH'),
        ({"Status": "running", "Health": {"Status": "starting"}}, "its time was over; web did not become healthy"),
        ({"Status": "running"}, "its time was over"),
        ({"Status": "exited", "ExitCode": 0}, "its time was over"),
    ],
)  # fmt: skip
def test_a_failure_begins_with_its_cause_and_shows_only_services_in_trouble(
    fake_engine: FakeEngine, engine: Engine, state: dict[str, Any], first: str
) -> None:
    fake_engine.container("boring")["log"] = b"all is well\n"
    fake_engine.container("web", **state)["log"] = b"last words\n"

    lines = diagnostics.blame(
        diagnostics.collect(engine, engine.containers(LABEL), secrets=[]), "its time was over"
    ).splitlines()

    assert lines[0] == first
    assert not [line for line in lines if "boring" in line or "all is well" in line]
    assert ("  | last words" in lines) is (first != "its time was over")


def test_a_health_check_that_says_the_same_each_time_is_shown_once(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.container("web", Health={"Status": "unhealthy", "Log": [{"Output": "no database"}] * 5})

    (found,) = diagnostics.collect(engine, engine.containers(LABEL), secrets=[])

    assert str(found).splitlines()[1:] == ["  health check: no database (3 times)"]
