"""Where copies run, as an option or a setting names it."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from stackyard.docker.endpoint import Endpoint
from stackyard.docker.host_facts import EngineFacts
from stackyard.errors import EngineError, UsageError
from stackyard.plan import addresses, ports
from stackyard.sites import Site, site_list

if TYPE_CHECKING:
    from pathlib import Path

    from fake_engine import FakeEngine


@pytest.fixture
def contexts(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a docker client that has a context `build`, of an engine on another host."""
    folder = tmp_path / "contexts" / "meta" / hashlib.sha256(b"build").hexdigest()
    folder.mkdir(parents=True)
    made = {"Name": "build", "Endpoints": {"docker": {"Host": "tcp://192.0.2.7:2376"}}}
    (folder / "meta.json").write_text(json.dumps(made))
    return {"DOCKER_CONFIG": str(tmp_path)}


def test_without_a_word_copies_run_here(contexts: dict[str, str]) -> None:
    site = Site.find("", contexts)

    assert (site.kind, site.name, site.endpoint.url) == ("local", "local", "unix:///var/run/docker.sock")


def test_an_option_wins_over_the_setting(contexts: dict[str, str]) -> None:
    env = contexts | {"STACKYARD_SITE": "context:build"}

    assert (Site.find("", env).kind, Site.find("local", env).kind) == ("context", "local")


def test_a_context_s_engine_is_found_in_docker_s_own_store(contexts: dict[str, str]) -> None:
    site = Site.find("context:build", contexts | {"DOCKER_HOST": "tcp://192.0.2.9:2375"})

    assert (site.kind, site.endpoint.url) == ("context", "tcp://192.0.2.7:2376")


def test_an_engine_elsewhere_that_docker_would_use_is_a_site_elsewhere(contexts: dict[str, str]) -> None:
    assert Site.find("local", contexts | {"DOCKER_HOST": "tcp://192.0.2.9:2375"}).kind == "context"
    assert Site.find("local", contexts | {"DOCKER_CONTEXT": "build"}).kind == "context"


def test_a_swarm_s_manager_is_the_engine_that_docker_would_use(contexts: dict[str, str]) -> None:
    site = Site.find("swarm", contexts | {"DOCKER_CONTEXT": "build"})

    assert (site.kind, site.endpoint.url) == ("swarm", "tcp://192.0.2.7:2376")


@pytest.mark.parametrize("text", ["here", "context:", "context:a b", "LOCAL"])
def test_any_other_word_is_refused_with_the_words_that_are_known(text: str, contexts: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="--site must be local, context:NAME or swarm, got"):
        Site.find(text, contexts)


def test_a_context_that_is_not_there_is_bad_input(contexts: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"--site context:other: .* has no context of this name; 'docker context ls'"):
        Site.find("context:other", contexts)


def test_a_process_that_uses_a_site_hands_it_to_the_programs_it_starts(contexts: dict[str, str]) -> None:
    env = contexts | {"DOCKER_HOST": "tcp://192.0.2.9:2375"}

    Site.find("context:build", env).use(env)

    assert env == contexts | {"DOCKER_CONTEXT": "build", "STACKYARD_SITE": "context:build"}


def test_the_usual_site_changes_nothing(contexts: dict[str, str]) -> None:
    env = dict(contexts)

    Site.find("", env).use(env)

    assert env == contexts


def test_a_block_uses_a_site_and_then_what_was_used_before(
    contexts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**contexts, "DOCKER_HOST": "tcp://192.0.2.9:2375"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)

    with Site.find("context:build").used():
        assert ("DOCKER_HOST" in os.environ, os.environ["DOCKER_CONTEXT"]) == (False, "build")
    assert (os.environ["DOCKER_HOST"], "DOCKER_CONTEXT" in os.environ) == ("tcp://192.0.2.9:2375", False)


def test_a_swarm_is_refused_where_one_engine_is_needed(contexts: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="site swarm"):
        Site.find("swarm", contexts).require_engine()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("unix:///var/run/docker.sock", "127.0.0.1"), ("tcp://127.0.0.1:2375", "127.0.0.1"),
        ("tcp://192.0.2.7:2376", "192.0.2.7"),
    ],
)  # fmt: skip
def test_ports_of_an_engine_elsewhere_are_reached_at_its_address(url: str, address: str) -> None:
    assert Endpoint(url=url).address == address


def test_an_engine_whose_name_has_no_address_is_away() -> None:
    with pytest.raises(EngineError, match=r"no engine answers at tcp://build.invalid:2376"):
        _ = Endpoint(url="tcp://build.invalid:2376").address


def test_every_context_is_a_site_and_one_that_is_silent_says_why(
    contexts: dict[str, str], fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_list, "DEADLINE", 2.0)
    fake_engine.container("web")["labels"]["stackyard.copy"] = "shop"

    here, build = (one.to_json() for one in site_list.known({**contexts, "DOCKER_HOST": os.environ["DOCKER_HOST"]}))

    assert (here["site"], here["version"], here["processors"], here["copies"]) == ("local", "26.1.5", 8, 1)
    assert (build["site"], build["answers"], build["copies"]) == ("context:build", False, None)
    assert "192.0.2.7" in build["why"]


def test_a_store_of_contexts_that_is_damaged_is_skipped(contexts: dict[str, str], tmp_path: Path) -> None:
    for name, text in {"bad": "{", "list": "[]", "number": '{"Name": 7}'}.items():
        (tmp_path / "contexts" / "meta" / name).mkdir()
        (tmp_path / "contexts" / "meta" / name / "meta.json").write_text(text)

    assert site_list.contexts(contexts) == ["build"]


def test_a_copy_elsewhere_publishes_at_the_engine_s_address_what_would_be_on_loopback() -> None:
    published = [("8080", ""), ("8081", "127.0.0.1"), ("8082", "0.0.0.0")]  # noqa: S104 - as a file has it
    entries = [
        {"target": 80 + index, "published": port, "host_ip": host} for index, (port, host) in enumerate(published)
    ]
    model: dict[str, Any] = {"services": {"web": {"ports": entries}}}
    usual = copy.deepcopy(model)

    ports.lease(model, usual, iter(range(9500, 9503)), {}, "192.0.2.7")

    assert [entry["host_ip"] for entry in entries] == ["192.0.2.7", "192.0.2.7", "0.0.0.0"]  # noqa: S104 - as above
    assert [item.host for item in addresses(usual, model, "192.0.2.7")] == ["192.0.2.7"] * 3


@pytest.mark.parametrize(
    ("seconds", "means"),
    [
        (2, "noticed within 6 s, but networks wait 10 s more for it before its copies answer elsewhere; better: '"),
        (3, "noticed within 9 s, and its copies answer elsewhere about 4 s later"),
        (4, "noticed within 12 s, and its copies answer elsewhere about 4 s later"),
        (5, "noticed within 15 s, and its copies answer elsewhere about 4 s later; better: 'docker swarm update"),
    ],
)  # fmt: skip
def test_a_swarm_s_heartbeat_is_shown_with_what_it_means_and_what_is_better(
    contexts: dict[str, str], monkeypatch: pytest.MonkeyPatch, seconds: int, means: str
) -> None:
    facts = EngineFacts(version="26", processors=1, memory_bytes=1, copies=0, manages_swarm=True)
    manager = SimpleNamespace(inspect_swarm=lambda: {"Spec": {"Dispatcher": {"HeartbeatPeriod": seconds * 10**9}}})
    monkeypatch.setattr(site_list.Known, "ask", lambda site: site_list.Known(site=site, facts=facts))
    monkeypatch.setattr("stackyard.docker.Engine.api", manager)

    here, *_, swarm = site_list.known(contexts)

    assert (swarm.site.name, swarm.to_json()["heartbeat_seconds"], here.told) == ("swarm", seconds, "")
    assert swarm.told.startswith(f"swarm: heartbeat {seconds} s: a lost machine is {means}")
    assert swarm.told.endswith("later") is not site_list.is_slow(seconds)


@pytest.mark.parametrize(
    ("name", "typed"), [("local", ("docker",)), ("swarm", ("docker",)), ("context:two", ("docker", "--context", "two"))]
)
def test_a_docker_command_for_a_context_names_it(name: str, typed: tuple[str, ...]) -> None:
    assert Site(kind="local", name=name, endpoint=Endpoint()).docker == typed
