from __future__ import annotations

import pytest

from stackyard._util import actions
from stackyard._util.actions import Action, how, typed


@pytest.fixture(autouse=True)
def no_front_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "_commands", {})


def test_without_a_front_end_an_action_is_plain_words() -> None:
    assert how(Action.REMOVE, name="x") == typed(Action.REMOVE, name="x") == "remove it when you have seen enough"


def test_a_front_end_says_how_to_type_it() -> None:
    actions.offer({Action.LEASES: "yard list --of {who}"})

    assert typed(Action.LEASES, who="me") == "yard list --of me"
    assert how(Action.LEASES, who="me") == "list all leases ('yard list --of me')"
    assert how(Action.STATUS) == "look at the stack"
