from __future__ import annotations

import pytest

from stackyard._util import advice
from stackyard._util.advice import Action, how, typed


@pytest.fixture(autouse=True)
def no_front_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "_commands", {})


@pytest.mark.parametrize(
    ("site", "line", "typed_there"),
    [
        ("", "yard exec web -- ls /", "yard exec web -- ls /"),
        ("swarm", "yard up", "yard up --site swarm"),
        ("context:two", "yard exec web -- ls /", "yard exec web --site context:two -- ls /"),
        ("context:it's", "yard up", """yard up --site 'context:it'"'"'s'"""),
    ],
)
def test_a_line_names_the_site_that_the_user_s_own_command_named(site: str, line: str, typed_there: str) -> None:
    advice.choose_site(site)

    assert advice.at_site(line) == typed_there


def test_an_action_is_done_at_the_user_s_site_if_its_command_can_be() -> None:
    advice.offer({Action.CLEAN_UP: "yard tidy", Action.CHECK_HOST: "yard look"})
    advice.choose_site("swarm")

    assert typed(Action.CLEAN_UP) == "yard tidy --site swarm"
    assert typed(Action.CHECK_HOST) == "yard look"


def test_without_a_front_end_an_action_is_plain_words() -> None:
    assert how(Action.REMOVE, name="x") == typed(Action.REMOVE, name="x") == "remove it"


def test_a_front_end_says_how_to_type_it() -> None:
    advice.offer({Action.LEASES: "yard list --of {who}"})

    assert typed(Action.LEASES, who="me") == "yard list --of me"
    assert how(Action.LEASES, who="me") == "list all leases ('yard list --of me')"
    assert how(Action.STATUS) == "look at the stack"
