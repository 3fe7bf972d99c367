from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from fake_compose import install_compose, model
from fake_probes import Answering, replace_probes

from stackyard.errors import LeftoversError, UsageError
from stackyard.running import running

if TYPE_CHECKING:
    from pathlib import Path

    from fake_engine import FakeEngine


@pytest.fixture(autouse=True)
def _yard(tmp_path: Path, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    del fake_engine  # DOCKER_HOST names it
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("STACKYARD_START", "auto")
    monkeypatch.setattr("stackyard.images.ensure", lambda *_, **__: {"redis": "stackyard/redis:debian-abc"})
    replace_probes(monkeypatch, Answering)
    install_compose(tmp_path, model())


def test_a_stack_is_up_while_the_block_runs_and_gone_after_it(fake_engine: FakeEngine, tmp_path: Path) -> None:
    with running("test", force=True) as stack:
        assert len(fake_engine.containers) == 4
        assert stack.lease.environment == "test"

    assert fake_engine.containers == fake_engine.networks == {}
    assert list((tmp_path / "state" / "leases").iterdir()) == []


def test_an_error_in_the_block_removes_the_stack_and_is_passed_on(fake_engine: FakeEngine) -> None:
    with pytest.raises(ValueError, match="mine"), running("test", force=True):
        raise ValueError("mine")

    assert fake_engine.containers == {}


def test_what_cannot_be_removed_fails_the_block(fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackyard.cleanup.removal.PAUSE", 0)

    with pytest.raises(LeftoversError, match="has active endpoints"), running("test", force=True) as stack:
        fake_engine.refuse[f"networks {stack.lease.project}_platform"] = (403, "has active endpoints")


def test_a_fork_in_the_block_leaves_its_parents_stack_alone(
    fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = os.getpid()
    with running("test", force=True):
        monkeypatch.setattr("stackyard.running.os.getpid", lambda: pid + 1)

    assert len(fake_engine.containers) == 4


def test_an_environment_that_keeps_its_data_is_refused() -> None:
    with pytest.raises(
        UsageError,
        match=r"dev keeps its data, so a block cannot have it alone; start it for several commands \('./noxw -s dev'\)",
    ):
        running("dev").__enter__()
