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
        "the stack was kept for you to inspect; remove it when you have seen enough ('invoke env.down --name l1')"
    )
