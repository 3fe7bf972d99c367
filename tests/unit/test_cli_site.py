"""`stackyard site`: what its words choose, and what each may not have."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from stackyard import __version__
from stackyard.cli.site import site
from stackyard.sites.swarm import reaper_service, registry
from stackyard.sites.swarm.reaper_service import Reaper
from stackyard.sites.swarm.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

MADE = Registry(address="192.0.2.1:5001", certificate="PEM")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Let a Swarm's registry be a word in a list."""
    found: list[dict[str, Any]] = []

    def start(_swarm: object, **chosen: Any) -> Registry:
        found.append(chosen)
        return MADE

    def remove(_swarm: object) -> list[str]:
        found.append({"removed": True})
        return ["service stackyard-registry"]

    monkeypatch.setattr(registry, "start", start)
    monkeypatch.setattr(registry, "remove", remove)
    monkeypatch.setattr("stackyard.docker.swarm.Swarm", lambda _: SimpleNamespace(now=lambda: ""))
    monkeypatch.delenv("STACKYARD_SITE", raising=False)
    return found


def run(**chosen: Any) -> None:
    body: Callable[..., None] = site.body
    body(Context(), **chosen)


def test_a_registry_is_asked_for_and_its_certificate_shown(
    asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    run(action="registry", site="swarm", image="own", port="5001")
    run(action="registry", site="swarm", json=True)

    text, _, content = capsys.readouterr().out.partition("END\n")
    assert asked == [{"image": "own", "port": 5001}, {"image": "registry:2", "port": 5000}]
    assert text.startswith("the registry at 192.0.2.1:5001 answers; root lets a node trust it with:\nmkdir -p /etc/")
    assert json.loads(content) == {"address": MADE.address, "certificate": "PEM", "trust": MADE.trust()}


def test_a_removal_asks_first(asked: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exit, match="nothing removed; --yes removes without asking") as refused:
        run(action="registry", site="swarm", remove=True)
    run(action="registry", site="swarm", remove=True, yes=True)

    assert (refused.value.code, asked) == (2, [{"removed": True}])
    assert capsys.readouterr().out == "removed service stackyard-registry\n"


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"action": "start"}, "the action must be list, registry or reaper, got 'start'"),
        ({"action": "list", "image": "own"}, "are for 'stackyard site registry'"),
        ({"action": "registry"}, "a registry is for a Swarm: say --site swarm"),
        ({"action": "registry", "site": "swarm", "port": "0"}, "--port must be a number from 1 to 65535, got '0'"),
    ],
)
def test_words_that_do_not_fit_are_refused(asked: list[dict[str, Any]], chosen: dict[str, Any], said: str) -> None:
    with pytest.raises(Exit, match=said) as refused:
        run(**chosen)

    assert (refused.value.code, asked) == (2, [])


def test_a_reaper_is_asked_for_shown_and_removed(
    asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = iter([Reaper(version=__version__, node="n2"), Reaper(version="0", node="n2")])

    def start(_swarm: object, image: str) -> Reaper:
        asked.append({"image": image})
        return next(found)

    monkeypatch.setattr(reaper_service, "start", start)
    monkeypatch.setattr(reaper_service, "remove", lambda _swarm: ["service stackyard-reaper"])

    run(action="reaper", site="swarm", image="own")
    run(action="reaper", site="swarm")
    run(action="reaper", site="swarm", remove=True, yes=True)
    with pytest.raises(Exit, match="--port: a reaper has none; leave it out"):
        run(action="reaper", site="swarm", port="1")

    assert asked == [{"image": "own"}, {"image": "python:3.13-slim"}]
    line = "the reaper runs on node n2; it looks for copies whose lease has ended every 5 s"
    assert capsys.readouterr().out.splitlines() == [
        line, line, "its version is 0: remove it with --remove, and start it again", "removed service stackyard-reaper",
    ]  # fmt: skip
