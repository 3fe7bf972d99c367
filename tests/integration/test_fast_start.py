"""The two ways to start a stack, compared: afterwards the engine must hold the same, field by field."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from stackyard.docker import Engine
from stackyard.docker.in_use import strangers
from stackyard.docker.lease_book import open_book
from stackyard.leases.records import own_names
from stackyard.project.environments import Environment
from stackyard.settings import Settings
from stackyard.stacks.environments.launch import prepare_images
from stackyard.stacks.environments.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(1800)  # the first tests build images where they are missing

# Notes of the program that made the containers: a hash of its own, by which `up` sees what has changed since; two that
# nothing reads; and the files, which differ by the override that frees services from their conditions.
NOTES = {
    f"com.docker.compose.{name}" for name in ("config-hash", "image", "version", "project.config_files")
}  # fmt: skip
# What differs between any two containers.
LIVES = {
    "Id", "Created", "State", "ResolvConfPath", "HostnamePath", "HostsPath", "LogPath", "GraphDriver", "ExecIDs",
    "NetworkSettings",
}  # fmt: skip


@pytest.fixture(params=["test", "alpine-test", "ci", "dev"])
def both(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Stack, Stack]]:
    """Start one environment twice, in two books: by the engine and by Compose."""
    # under a name of its own: a volume's project is named after its environment, and a person's may be up
    environment = replace(Environment.load(request.param), name=f"twin-{request.param}")
    images = prepare_images(environment, print)
    with Engine() as engine:
        stacks: list[Stack] = []
        for way in ("auto", "compose"):
            monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / way))
            monkeypatch.setenv("STACKYARD_POOL", "19000-19009" if way == "auto" else "19010-19019")
            monkeypatch.setenv("STACKYARD_POOL_SUBNETS", f"10.220.{len(stacks)}.0/28")
            monkeypatch.setenv("STACKYARD_START", way)
            book = open_book(Settings.load(), engine)
            lease = book.acquire(
                environment, variables=images, strangers=lambda: strangers(engine), ttl=600, force=True
            )
            stacks.append(Stack(environment, lease, book, engine))
        try:
            yield stacks[0], stacks[1]
        finally:
            left = [stack.down(volumes=True).left for stack in stacks]
        assert left == [[], []]


def test_the_engine_makes_what_compose_makes(both: tuple[Stack, Stack]) -> None:
    quick, slow = both
    assert quick.up().by == "engine"
    made = _everything(quick)
    if quick.keeps_data:  # both would have the one name; only the containers' own volume may differ
        quick.down(volumes=True)
    assert slow.up().by == "compose: as STACKYARD_START asks"

    compared = _everything(slow)
    assert {
        key: (made.get(key), compared.get(key)) for key in made | compared if made.get(key) != compared.get(key)
    } == {}


def _everything(stack: Stack) -> dict[str, Any]:
    """Return each field the engine holds of a stack under its path, the lease's own values replaced by their names."""
    api = stack.engine.api
    found: dict[str, Any] = {}
    for item in stack.engine.everything(stack.labels):
        answer = _without_lives(item.kind, getattr(api, f"inspect_{item.kind}")(item.id))
        found |= _fields(f"{item.kind} {_neutral(item.name, stack)}", json.loads(_neutral(json.dumps(answer), stack)))
    return found


def _fields(path: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {key: leaf for name, part in value.items() for key, leaf in _fields(f"{path}.{name}", part).items()}


def _without_lives(kind: str, answer: dict[str, Any]) -> dict[str, Any]:
    if kind == "container":
        networks = answer["NetworkSettings"]["Networks"]
        kept = {key: value for key, value in answer.items() if key not in LIVES}
        kept["Config"]["Env"].sort()
        kept["Config"]["Hostname"] = len(kept["Config"]["Hostname"])
        host = kept["HostConfig"]
        host |= {name: sorted(host.get(name) or [], key=str) for name in ("Mounts", "ExtraHosts")}
        kept["Mounts"] = sorted(kept["Mounts"], key=str)
        kept["Aliases"] = {name: set(net["Aliases"]) - {answer["Id"][:12]} for name, net in networks.items()}
        kept["Aliases"] = {name: sorted(aliases) for name, aliases in kept["Aliases"].items()}
        labels = kept["Config"]["Labels"]
    else:
        kept = {key: value for key, value in answer.items() if key not in {"Id", "Created", "CreatedAt", "Containers"}}
        labels = kept["Labels"]
    for note in NOTES & labels.keys():
        del labels[note]
    return kept


def _neutral(text: str, stack: Stack) -> str:
    text = text.replace(str(stack.lease.directory), "<directory>")
    variables = stack.lease.variables()
    values = {name: variables[name] for name in own_names(variables) if variables[name]}
    for name, value in sorted(values.items(), key=lambda item: len(item[1]), reverse=True):
        if name not in {"STACKYARD_ENVIRONMENT", "STACKYARD_JWT_ISSUER"}:
            text = text.replace(value, f"<{name}>")
    return text
