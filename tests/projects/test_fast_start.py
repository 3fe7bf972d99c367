"""What the fast start makes, and what `docker compose up` makes of the same plan: compared field by field."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.projects.expected import COPIES
from tests.projects.test_copies import forget_images, opened

from stackyard._util import process
from stackyard.cleanup import removal
from stackyard.docker.ownership import Holdings
from stackyard.docker.records import PROJECT_LABEL
from stackyard.leases.records import MODEL
from stackyard.stacks.copies import lifecycle
from stackyard.stacks.starts.request import CopyRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stackyard.docker import Engine
    from stackyard.leases import LeaseBook
    from stackyard.stacks.copies.lifecycle import Copy

# What may differ, and why; everything else must be equal.
TOLERATED: Final = {
    r"Config\.Labels\.com\.docker\.compose\.config-hash": "the fast start labels a container with a digest of its own",
    r"HostConfig\.PortBindings\..*\.HostPort": "each container of a service gets one port of its range, not the range",
}  # fmt: skip
# What differs between any two containers: moments, places on the disk, what is known only while one runs.
LIVES: Final = {
    "Id", "Created", "State", "ResolvConfPath", "HostnamePath", "HostsPath", "LogPath", "GraphDriver", "ExecIDs",
    "RestartCount", "AppArmorProfile", "ProcessLabel", "MountLabel",
}  # fmt: skip
RUNNING: Final = {"EndpointID", "NetworkID", "Gateway", "IPAddress", "IPPrefixLen", "IPv6Gateway",
                  "GlobalIPv6Address", "GlobalIPv6PrefixLen", "MacAddress", "DNSNames"}  # fmt: skip
UNORDERED: Final = {"Mounts", "Binds", "Env", "Ulimits", "ExtraHosts", "Links", "Devices"}
IDS: Final = re.compile(r"\b[0-9a-f]{64}\b")


def inspected(engine: Engine, copy: Copy) -> dict[str, Any]:
    """Return each field that the engine holds of a copy's things, by its path."""
    found: dict[str, Any] = {}
    for item in engine.everything([f"{PROJECT_LABEL}={copy.lease.project}"]):
        answer = getattr(engine.api, f"inspect_{item.kind}")(item.id)
        if item.kind == "container":
            answer["NetworkSettings"] = {
                name: {key: value for key, value in end.items() if key not in RUNNING}
                for name, end in answer["NetworkSettings"]["Networks"].items()
            }
            for end in answer["NetworkSettings"].values():  # the engine adds a part of the id once a container runs
                end["Aliases"] = [alias for alias in end["Aliases"] or () if alias != answer["Id"][:12]]
            if answer["HostConfig"]["NetworkMode"].startswith("container:"):  # the engine copies names at the start
                answer["Config"] |= {"Hostname": "", "Domainname": ""}
            answer["Config"].pop("MacAddress", None)  # the engine notes it here once a container runs
            answer["Config"]["Hostname"] = re.sub("[0-9a-f]{12}", "a part of an id", answer["Config"]["Hostname"])
        kept = {key: value for key, value in answer.items() if key not in LIVES | {"Containers", "CreatedAt"}}
        names = {named.id: named.name for named in engine.containers([f"{PROJECT_LABEL}={copy.lease.project}"])}
        found |= dict(fields(f"{item.kind} {item.name}", kept, names))
    return found


def fields(path: str, value: Any, names: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """Give each leaf of *value* with its path; ids are replaced by names, or by a word where they have none."""
    if isinstance(value, dict) and value:
        for name, part in value.items():
            yield from fields(f"{path}.{neutral(str(name), names)}", part, names)
    elif isinstance(value, list) and path.rpartition(".")[2] in UNORDERED:
        yield path, sorted(neutral(repr(part), names) for part in value)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, part in enumerate(value):
            yield from fields(f"{path}.{number}", part, names)
    elif isinstance(value, str) and path.endswith("compose.depends_on"):
        yield path, sorted(value.split(","))
    else:
        yield path, neutral(value, names) if isinstance(value, str) else value


def neutral(text: str, names: dict[str, str]) -> str:
    return IDS.sub(lambda found: names.get(found[0], "an id"), text)


def tolerated(path: str) -> bool:
    return any(re.search(pattern, path) for pattern in TOLERATED)


@pytest.mark.parametrize("name", COPIES)
def test_the_fast_start_makes_what_compose_makes(
    name: str, project: Callable[[str], Path], engine: Engine, book: LeaseBook
) -> None:
    found = opened(project(name), name)
    copy = lifecycle.start(found, book, engine, CopyRequest(until_ready=False))
    try:
        assert copy.startup.by == "engine"
        made = inspected(engine, copy)
        removal.remove(engine, Holdings.of(book.host, copy.lease))

        words = ["docker", "compose", "--project-name", copy.lease.project, "--project-directory", str(found.home),
                 "--file", str(copy.lease.directory / MODEL), "up", "--no-start", "--no-build"]  # fmt: skip
        process.run(words, deadline=280, env=found.environment, cwd=found.home)
        compared = inspected(engine, copy)
    finally:
        copy.down().check()
    forget_images(found)

    missing = object()
    differing = {
        path: (made.get(path, "nothing"), compared.get(path, "nothing"))
        for path in sorted(made | compared)
        if made.get(path, missing) != compared.get(path, missing) and not tolerated(path)
    }
    assert differing == {}
