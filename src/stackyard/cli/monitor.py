"""`invoke monitor.*`: watch stacks in a table, and export what is seen to Prometheus."""

from __future__ import annotations

import contextlib
import json as jsonlib
import sys
import threading
from time import sleep
from typing import TYPE_CHECKING, Final

from invoke.collection import Collection

from stackyard._util import streams
from stackyard._util.tables import format_count
from stackyard.cli import options
from stackyard.cli.common import answer, opened
from stackyard.cli.options import Option
from stackyard.cli.task import command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackyard.monitor import Snapshot, Watcher

NONE_UP: Final = "no stack is up; 'invoke env.up' starts one"
SPAN: Final = 0.5  # seconds between the two looks that one CPU figure takes


@command(
    words=["name"],
    options={
        "name": options.NAME.but(help="Only the stack of the lease with this name or id; all stacks without it."),
        "once": Option(help="Print once and end; this is always so if the output is not a terminal.", short="o"),
        "json": options.JSON.but(help="Print JSON: one line for each update until Ctrl-C; with --once only one line."),
    },
)
def stats(name: str = "", once: bool = False, interval: float | None = None, json: bool = False) -> None:
    """Show the state of each service and what it uses, until Ctrl-C."""
    pause = interval or 1.0
    with _watching(name) as watcher, contextlib.suppress(KeyboardInterrupt):
        if json and not once:
            _stream(watcher, pause)
        elif once or not sys.stdout.isatty():
            _show(_measured(watcher), as_json=json)
        else:
            _live(watcher, pause)


@command(
    options={
        "listen": Option(
            help="Loopback address and port to serve the metrics on (default: 127.0.0.1:9464).",
            value="ADDRESS:PORT", short="l",
        ),
        "once": Option(help="Print the metrics once and end.", short="o"),
        "json": options.JSON.but(help="With --once: print the same as JSON."),
    },
)  # fmt: skip
def export(listen: str = "127.0.0.1:9464", once: bool = False, json: bool = False) -> None:
    """Export metrics of all stacks and leases of this host to Prometheus."""
    from stackyard.errors import UsageError
    from stackyard.monitor import exports
    from stackyard.monitor.metrics import StackCollector

    exports.parse_listen(listen)  # a wrong one is refused even where it is not used
    if json and not once:
        raise UsageError("--json needs --once: what is served is always Prometheus's text format")
    with _watching("") as watcher:
        collector = StackCollector(watcher)
        if once:
            answer(exports.values(collector), exports.text(collector).rstrip(), as_json=json)
            return
        with exports.serving(collector, listen) as url, contextlib.suppress(KeyboardInterrupt):
            print(f"serving {url}; Ctrl-C ends it", flush=True)
            _wait_without_end()


def _wait_without_end() -> None:
    threading.Event().wait()


@contextlib.contextmanager
def _watching(name: str) -> Iterator[Watcher]:
    from stackyard.monitor import Watcher

    with opened() as (book, engine):
        yield Watcher(book, engine, book.find(name) if name else None)


def _measured(watcher: Watcher) -> Snapshot:
    """Look twice, because CPU use is what happens between two looks."""
    if not watcher.look().services:
        return watcher.look()
    sleep(SPAN)
    return watcher.look()


def _show(snapshot: Snapshot, *, as_json: bool) -> None:
    from stackyard.monitor import tables

    text = tables.text(snapshot) if snapshot.services else NONE_UP
    answer(snapshot.to_json(), text, as_json=as_json)


def _stream(watcher: Watcher, pause: float) -> None:
    """Print a line for each look until the reader has gone (`| head -3`)."""
    with streams.endless():
        while True:
            print(jsonlib.dumps(watcher.look().to_json()), flush=True)
            sleep(pause)


def _live(watcher: Watcher, pause: float) -> None:
    """Redraw the table; if the engine does not answer, a line below it says so."""
    from rich.console import Console
    from rich.live import Live

    from stackyard.errors import BookError, EngineError
    from stackyard.monitor import tables

    last: Snapshot | None = None
    # a console of its own: rich's global one keeps the standard output that was there at its first use
    with Live(tables.live(None, "looking"), console=Console(), auto_refresh=False) as view:
        while True:
            try:
                last, note = watcher.look(), ""
            except (EngineError, BookError) as error:
                note = str(error)
            view.update(tables.live(last, note or _count(last)), refresh=True)
            sleep(pause)


def _count(snapshot: Snapshot | None) -> str:
    services = snapshot.services if snapshot else ()
    if not services:
        return NONE_UP
    stacks = len({each.lease for each in services})
    return f"{format_count(len(services), 'service')} of {format_count(stacks, 'stack')}"


collection = Collection("monitor", stats, export)
