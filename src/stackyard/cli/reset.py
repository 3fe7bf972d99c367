"""`stackyard reset`: a copy's data as it was right after the start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stackyard._util.tables import format_seconds, table
from stackyard.cli import options
from stackyard.cli.common import answer
from stackyard.cli.copy_choice import chosen
from stackyard.cli.copy_output import identified
from stackyard.cli.on_swarm import NO_RESET, named
from stackyard.cli.options import Option
from stackyard.cli.site import opened_at
from stackyard.cli.task import command
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackyard.stacks.data.records import Reset

RESETTABLE: Final = Option(
    help="Keep the state of the data once the copy is ready, so that reset can go back to it (or: reset = true in the "
    "configuration)."
)  # fmt: skip


@command(
    words=["service"],
    options={
        "service": options.SERVICE.but(
            help="Only this service, and those that share volumes with it; can be repeated."
        ),
        "name": options.COPY_NAME,
        "timeout": options.TIMEOUT.but(
            help="Give up if the services are not ready again after this time (default: 2m).", short=""
        ),
        "site": options.COPY_SITE,
    },
)
def reset(
    service: Sequence[str] = (), name: str = "", timeout: float | None = None, site: str = "", json: bool = False
) -> None:
    """Bring the data of a copy back to its state right after the start; prints each driver and how long it took."""
    from stackyard.stacks.copies.lifecycle import DEADLINE, Copy

    if named(site):
        raise UsageError(NO_RESET)
    with opened_at(site) as (book, engine):
        copy = Copy(chosen(book, name), book, engine)
        done = copy.reset(*service, deadline=timeout or DEADLINE)
        answer({**identified(copy.lease), **done.to_json()}, _text(copy.lease.title, done), as_json=json)


def _text(title: str, done: Reset) -> str:
    rows = [
        [one.service, one.driver, "-" if one.driver == "none" else format_seconds(one.seconds), one.what]
        for one in done.services
    ]
    head = ["service", "driver", "took", "what was done"]
    return f"{table(rows, head)}\n\n{title} is as after its start; the reset took {done.seconds:.2f} s"
