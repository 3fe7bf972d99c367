"""What all copies of a project share has to be there before a copy starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stackyard.errors import UsageError
from stackyard.stacks.copies import shared_resources

if TYPE_CHECKING:
    from fake_engine import FakeEngine

    from stackyard.docker import Engine

SHARED = {"name": "shop_there", "external": True}
OWN = {"name": "shop_own"}


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"networks": None, "volumes": {"own": OWN}},
        {"networks": {"there": SHARED, "own": OWN}, "volumes": {"there": SHARED, "own": {**OWN, "external": False}}},
    ],
)
def test_what_a_copy_makes_itself_need_not_be_there(
    fake_engine: FakeEngine, engine: Engine, model: dict[str, Any]
) -> None:
    fake_engine.network("shop_there", "")
    fake_engine.volume("shop_there", "")

    shared_resources.check(engine, model)


def test_all_that_is_shared_and_not_there_is_named_at_once(fake_engine: FakeEngine, engine: Engine) -> None:
    fake_engine.network("shop_there", "")
    fake_engine.volume("shop_net", "")  # of the other kind
    gone = {"name": "shop_net", "external": True}

    with pytest.raises(UsageError) as caught:
        shared_resources.check(engine, {"networks": {"there": SHARED, "net": gone}, "volumes": {"there": SHARED}})

    missing = "network shop_net (share.networks: net), volume shop_there (share.volumes: there)"
    assert str(caught.value).startswith(f"shared by the configuration but missing: {missing}; ")
