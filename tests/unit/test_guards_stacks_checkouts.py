"""Which checkout or book has an environment's stack, data and fixed ports: a quick test for each guard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from stackyard.docker.ownership import ENVIRONMENT_LABEL, HOST_LABEL
from stackyard.errors import LeaseNotFoundError
from stackyard.leases.port_format import ports_text
from stackyard.leases.records import stable_id
from stackyard.project.environments import Environment
from stackyard.stacks.environments import checkouts

if TYPE_CHECKING:
    from fake_engine import FakeEngine

    from stackyard.docker import Engine

ROOT = Path("/srv/shop")
OWN = stable_id("dev", "h1", ROOT)


@pytest.fixture
def environment() -> Environment:
    return replace(Environment.load("dev"), root=ROOT)


def book_of(*leases: Any, root: Path | None = ROOT) -> Any:
    return SimpleNamespace(host="h1", settings=SimpleNamespace(root=root), leases=lambda: list(leases))


def lease(
    name: str, *, environment: str = "dev", keeps: bool = True, slot: int | None = None, checkout: str = ""
) -> Any:
    return SimpleNamespace(id=name, environment=environment, keeps_data=keeps, slot=slot, checkout=checkout)


def test_the_lease_of_a_checkout_is_distinguished_from_those_of_others() -> None:
    mine, old, other = lease(OWN), lease("dev"), lease("dev-000001")
    strange = [lease(OWN, environment="ci"), lease("0a1b2c3d", keeps=False)]

    assert checkouts.leases_of(book_of(*strange, other, old, mine), "dev") == (mine, [other, old])
    assert checkouts.leases_of(book_of(*strange, other, old), "dev") == (old, [other])
    assert checkouts.leases_of(book_of(*strange, other), "dev") == (None, [other])


def test_without_such_a_lease_no_project_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stackyard.project.environments.project_root", lambda: pytest.fail("it was looked for"))

    assert checkouts.leases_of(book_of(lease("0a1b2c3d", keeps=False), root=None), "dev") == (None, [])


def test_another_checkouts_lease_is_named_and_never_returned_as_ones_own() -> None:
    mine, other = lease(OWN), lease("dev-000001", checkout="/srv/other")

    assert checkouts.own_lease(book_of(other, mine), "dev") is mine
    assert checkouts.own_lease(book_of(mine), "dev") is mine
    assert checkouts.own_lease(book_of(), "dev") is None
    with pytest.raises(LeaseNotFoundError, match=r"other checkouts have: /srv/other \(dev-000001\); give"):
        checkouts.own_lease(book_of(other), "dev")


@pytest.mark.parametrize(
    ("found", "holder"),
    [
        (lease("dev-000001", checkout="/srv/other"), "/srv/other (dev-000001)"),
        (lease("dev"), "a stack of an earlier version (dev)"),
        (lease(OWN), ""),
        (lease("dev-000001", slot=3), ""),
        (lease("dev-000001", environment="ci"), ""),
    ],
)
def test_another_checkouts_stack_on_the_fixed_ports_is_named(
    environment: Environment, engine: Engine, found: Any, holder: str
) -> None:
    assert checkouts.holder(environment, book_of(found), engine) == holder


@pytest.mark.parametrize(
    ("host", "ports", "named"),
    [
        ("h2", "own", True), ("h1", "own", False), (checkouts.PLAIN, "own", False), (None, "own", False),
        ("h2", "one", True), ("h2", "other", False), ("h2", "damaged", False),
    ],
)  # fmt: skip
def test_another_books_stack_on_one_of_the_fixed_ports_is_named(
    environment: Environment, engine: Engine, fake_engine: FakeEngine, host: str | None, ports: str, named: bool
) -> None:
    first, *rest = environment.ports
    given = {
        "own": dict(environment.ports), "one": dict.fromkeys(rest, 1) | {first: environment.ports[first]},
        "other": {name: port + 1000 for name, port in environment.ports.items()},
    }  # fmt: skip
    labels = fake_engine.container("redis", "dev-000001")["labels"]
    labels |= {
        ENVIRONMENT_LABEL: "dev", HOST_LABEL: host or "", checkouts.CHECKOUT_LABEL: "/home/eve",
        checkouts.PORTS_LABEL: ports_text(given[ports], ()) if ports in given else "x",
    }  # fmt: skip
    if host is None:
        del labels[HOST_LABEL]

    found = checkouts.holder(environment, book_of(), engine)

    assert found == ("/home/eve (dev-000001 of another user or state directory)" if named else "")


def data(fake_engine: FakeEngine, name: str, owner: str, *, environment: str = "dev") -> None:
    fake_engine.host = "h1"
    fake_engine.volume(name, owner)
    fake_engine.volumes[name]["Labels"][ENVIRONMENT_LABEL] = environment


def test_only_data_that_no_lease_has_is_named(
    environment: Environment, engine: Engine, fake_engine: FakeEngine
) -> None:
    data(fake_engine, "old", "dev")
    data(fake_engine, "moved", "dev-000001")
    data(fake_engine, "leased", "dev-000002")
    data(fake_engine, "strange", "ci-000003", environment="ci")

    told = checkouts.other_data(environment, book_of(lease("dev-000002")), engine)

    assert [line.partition(";")[0] for line in told] == [
        "volume old holds data of dev from an earlier version",
        "volume moved holds data of dev from another or a moved checkout",
    ]


def test_data_that_this_checkout_has_under_another_book_is_named(
    environment: Environment, engine: Engine, fake_engine: FakeEngine
) -> None:
    for host, root in (("h0", ROOT), ("h2", Path("/srv/other")), (checkouts.PLAIN, ROOT)):
        name = f"of-{host}"
        data(fake_engine, name, stable_id("dev", host, root) if host != checkouts.PLAIN else "plain")
        fake_engine.volumes[name]["Labels"][HOST_LABEL] = host

    (line,) = checkouts.other_data(environment, book_of(), engine)
    data(fake_engine, "own", OWN)

    assert line.startswith("volume of-h0 holds data of dev that this checkout had under another lease book: the host ")
    assert checkouts.other_data(environment, book_of(), engine) == []


def test_a_checkout_with_data_of_its_own_names_no_other(
    environment: Environment, engine: Engine, fake_engine: FakeEngine
) -> None:
    data(fake_engine, "old", "dev")
    data(fake_engine, "own", OWN)

    assert checkouts.other_data(environment, book_of(), engine) == []
