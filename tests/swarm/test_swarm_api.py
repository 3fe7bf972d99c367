from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stackyard.docker import Engine
from stackyard.docker.swarm import Swarm
from stackyard.errors import EngineError

if TYPE_CHECKING:
    from tests.swarm.nodes import Node

pytestmark = pytest.mark.timeout(300)  # the first one makes the nodes, and images that have changed


def test_three_machines_are_one_swarm_whose_nodes_have_addresses_of_their_own(site: Swarm) -> None:
    found = site.nodes()

    assert sorted(node.name for node in found) == ["n1", "n2", "n3"]
    assert {node.state for node in found} == {"ready"}
    assert len({node.address for node in found}) == 3


def test_of_two_configs_of_one_name_the_second_is_not_made(site: Swarm) -> None:
    made, again = site.create_config("once", b"a", {"k": "v"}), site.create_config("once", b"b", {"k": "v"})
    item, content = site.content("once")
    site.remove(item)

    assert (bool(made), again, content) == (True, None, b"a")
    assert site.labelled("config", "k=v") == []


def test_of_two_writers_that_read_one_version_one_is_refused(site: Swarm) -> None:
    site.create_config("pair", b"1", {"k": "1"})
    item, _ = site.content("pair")
    written = [site.relabel(item, {"k": "2"}), site.relabel(item, {"k": "3"})]
    after, _ = site.content("pair")
    site.remove(after)

    assert written == [True, False]
    assert after.labels == {"k": "2"}


def test_an_engine_that_manages_no_swarm_is_refused(machines: list[Node], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", machines[1].host)

    with Engine() as engine, pytest.raises(EngineError, match="manages no Swarm"):
        Swarm(engine).now()
