"""What commands say of a copy, wherever it runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from stackyard._util import advice
from stackyard.cleanup.outcome import Leftover, Removal
from stackyard.cli import copy_output
from stackyard.plan import Address
from stackyard.probes.readiness_rules import Rule
from stackyard.stacks.readiness.waiting import ServiceReady, StackReady
from stackyard.stacks.starts.times import STANDING, Startup

if TYPE_CHECKING:
    from collections.abc import Sequence

WEB = Address(service="web", target=80, protocol="tcp", host="192.0.2.7", port=9500, scheme="http", published="8080:80")
DB = Address(service="db", target=5432, protocol="tcp", host="192.0.2.7", port=9501)
READY = ServiceReady(
    service="web", rule=Rule(service="web", kind="tcp", why="it publishes a port"), seconds=1.5, how="listens"
)


def shown(
    capsys: pytest.CaptureFixture[str], startup: Startup, site: str, found: Sequence[Address] = (WEB,)
) -> list[str]:  # fmt: skip
    advice.choose_site(site)
    copy_output.show_up({}, "mine", found, startup, "stays until 18:00 (1h)", as_json=False)
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("site", ["", "context:build", "swarm"])
def test_up_says_where_a_copy_answers_how_it_became_ready_and_what_removes_it_there(
    capsys: pytest.CaptureFixture[str], site: str
) -> None:
    startup = Startup(seconds=2.5, by="compose: proxies", ready=StackReady(services=(READY,), seconds=1.5))

    assert [line for line in shown(capsys, startup, site) if not line.startswith("-")] == [
        "service in the file in a browser for programs",
        "web 8080:80 http://192.0.2.7:9500 http://192.0.2.7:9500",
        "",
        "service ready after it showed rule",
        "web 1.50 s listens it publishes a port",
        "",
        "made by compose: proxies",
        "ready after 2.50 s; stays until 18:00 (1h)",
        f"'stackyard down --name mine{f' --site {site}' if site else ''}' removes it",
    ]


def test_a_copy_that_was_running_and_publishes_nothing_has_no_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, STANDING, "", found=())[0] == "it was running already; stays until 18:00 (1h)"
    assert shown(capsys, STANDING, "", found=(DB,))[0] == "service in the file for programs"


@pytest.mark.parametrize(
    ("titles", "says"), [([], "no copies are up; 0 removed"), (["a", "b"], "a, b: 2 removed in 1.00 s")]
)
def test_down_counts_what_it_removed(capsys: pytest.CaptureFixture[str], titles: list[str], says: str) -> None:
    left = [Leftover(kind="network", name="n", lease="l", reason="in use")]
    done = [Removal(removed=["container a"], left=left), Removal(removed=["network b"])] if titles else []

    copy_output.show_removed(titles, [{"lease": "l"}] * len(titles), done, 1.0, as_json=False)
    assert capsys.readouterr().out.startswith(says)
    copy_output.show_removed(titles, [{"lease": "l"}] * len(titles), done, 1.0, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (len(told["leases"]), [one["removed"] for one in told["removals"]]) == (
        len(titles), [["container a"], ["network b"]] if titles else []
    )  # fmt: skip
