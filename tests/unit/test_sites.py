"""Where copies run, as an option or a setting names it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from stackyard.errors import UsageError
from stackyard.sites import Site

if TYPE_CHECKING:
    from pathlib import Path


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
