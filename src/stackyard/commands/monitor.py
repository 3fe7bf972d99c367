"""`invoke monitor.*`: watch stacks in a table, and export what is seen to Prometheus."""

from __future__ import annotations

import contextlib
import json as jsonlib
import os
import sys
import threading
from time import sleep
from typing import TYPE_CHECKING, Final

from invoke.collection import Collection
from invoke.tasks import task

from stackyard.commands.common import failing_cleanly

if TYPE_CHECKING:
    from collections.abc import Iterator

    from invoke.context import Context

    from stackyard.monitor import Snapshot, Watcher

LEASE_HELP = "Lease id or parallel id; all stacks of this host without it."
SPAN: Final = 0.5  # seconds between the two looks that one CPU figure takes


@task(
    help={
        "lease": LEASE_HELP,
        "once": "Look once and end, as it also does where there is no terminal.",
        "every": "Seconds between two looks.",
        "json": "Print JSON: one line for each look, until interrupted; with --once the one look.",
    }
)
@failing_cleanly
def stats(_c: Context, lease: str | None = None, once: bool = False, every: str = "1", json: bool = False) -> None:
    """Show what each service uses and how it is, until interrupted."""
    from stackyard.leases.names import check_seconds  # noqa: PLC0415 - keeps `invoke -l` quick

    pause = check_seconds("--every", every)
    with _watching(lease) as watcher, contextlib.suppress(KeyboardInterrupt):
        if json and not once:
            _stream(watcher, pause)
        elif once or not sys.stdout.isatty():
            _show(_measured(watcher), as_json=json)
        else:
            _live(watcher, pause)


@task(
    help={
        "listen": "Loopback address and port to serve the metrics on.",
        "once": "Print the metrics instead and end.",
        "json": "With --once, print the same as JSON.",
    }
)
@failing_cleanly
def export(_c: Context, listen: str = "127.0.0.1:9464", once: bool = False, json: bool = False) -> None:
    """Export metrics of all stacks and leases of this host in Prometheus's text format."""
    from stackyard.errors import UsageError  # noqa: PLC0415 - keeps `invoke -l` quick
    from stackyard.monitor import exports  # noqa: PLC0415 - as above
    from stackyard.monitor.metrics import StackCollector  # noqa: PLC0415 - as above

    exports.parse_listen(listen)  # a wrong one is refused even where it is not used
    if json and not once:
        raise UsageError("--json needs --once: what is served is always Prometheus's text format")
    with _watching(None) as watcher:
        collector = StackCollector(watcher)
        if once:
            print(jsonlib.dumps(exports.values(collector), indent=2) if json else exports.text(collector).rstrip())
            return
        with exports.serving(collector, listen) as url, contextlib.suppress(KeyboardInterrupt):
            print(f"serving {url}; Ctrl-C ends it", flush=True)
            _wait_for_ever()


def _wait_for_ever() -> None:
    threading.Event().wait()


@contextlib.contextmanager
def _watching(lease: str | None) -> Iterator[Watcher]:
    from stackyard.engine import Engine  # noqa: PLC0415 - as above
    from stackyard.monitor import Watcher  # noqa: PLC0415 - as above
    from stackyard.survey import open_book  # noqa: PLC0415 - as above

    with Engine() as engine:
        book = open_book(None, engine)
        yield Watcher(book, engine, book.find(lease) if lease else None)


def _measured(watcher: Watcher) -> Snapshot:
    """Look twice, because CPU use is what happens between two looks."""
    if not watcher.look().services:
        return watcher.look()
    sleep(SPAN)
    return watcher.look()


def _show(snapshot: Snapshot, *, as_json: bool) -> None:
    from stackyard.monitor import tables  # noqa: PLC0415 - as above
    from stackyard.report import table  # noqa: PLC0415 - as above

    if as_json:
        print(jsonlib.dumps(snapshot.to_json(), indent=2))
    elif snapshot.services:
        align = ["right" if name in tables.NUMBERS else "left" for name in tables.HEAD]
        print(table(tables.rows(snapshot), tables.HEAD, align=align))
    else:
        print("no stack is up; 'invoke env.up' starts one")


def _stream(watcher: Watcher, pause: float) -> None:
    """Print a line for each look until the reader has gone (`| head -3`)."""
    try:
        while True:
            print(jsonlib.dumps(watcher.look().to_json()), flush=True)
            sleep(pause)
    except BrokenPipeError:
        # what is still buffered would raise again when the interpreter ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _live(watcher: Watcher, pause: float) -> None:
    """Redraw the table; an engine that is away for a while is told below it."""
    from rich.console import Console  # noqa: PLC0415 - as above
    from rich.live import Live  # noqa: PLC0415 - as above

    from stackyard.errors import BookError, EngineError  # noqa: PLC0415 - as above
    from stackyard.monitor import tables  # noqa: PLC0415 - as above

    last: Snapshot | None = None
    # a console of its own: rich's global one remembers what standard output was when somebody first asked for it
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
    stacks = len({each.lease for each in services})
    return f"{len(services)} services of {stacks} stacks" if services else "no stack is up; 'invoke env.up' starts one"


collection = Collection("monitor", stats, export)
