"""A database for one test in a copy's PostgreSQL: a copy of the configured database as it was right after the start."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from stackyard._util.advice import end_and_start
from stackyard.docker import container_commands
from stackyard.docker.ownership import Holdings, numbered
from stackyard.errors import StackyardError, UsageError
from stackyard.stacks import project_images
from stackyard.stacks.data import scripts
from stackyard.stacks.data.records import Note
from stackyard.stacks.data.snapshot import LONGEST, client_words, last_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stackyard.stacks.copies.lifecycle import Copy


@contextlib.contextmanager
def database(copy: Copy, service: str, url: str) -> Iterator[str]:
    """
    Give the URL of a new database to a `with` block; drop it in the end, even if somebody is connected to it.

    Args:
        copy: The copy; it keeps the state of its data.
        service: A PostgreSQL of it.
        url: Where it answers.

    Raises:
        UsageError: If the copy keeps no state, or the service is no PostgreSQL that keeps it.
        StackyardError: If PostgreSQL refuses.
        EngineError: If the engine does not answer.
    """
    servers = [one for one in Note.read(copy.lease).containers if one.driver == "postgresql"]
    kept = [one for one in servers if one.service == service]
    if not kept:
        able = ", ".join(sorted({one.service for one in servers})) or "none"
        raise UsageError(f"service {service!r} cannot make databases; services of this copy that can: {able}")
    name = f"stackyard_test_{os.urandom(6).hex()}"
    images = project_images.facts(copy.engine, copy.model, {service})

    there = numbered(Holdings.of(copy.book.host, copy.lease).containers(copy.engine))
    if kept[0].key not in there:
        raise UsageError(f"copy {copy.lease.title}: the container of {service} is gone; {end_and_start(copy.lease.id)}")

    def ask(script: str) -> None:
        words = (*client_words(script, copy.model["services"][service], images.get(service)), name)
        code, text = container_commands.output(copy.engine, there[kept[0].key].name, *words, deadline=LONGEST)
        if code:
            raise StackyardError(f"service {service}: {last_line(text) or f'exit code {code}'}")

    ask(scripts.POSTGRES_CREATE)
    try:
        yield urlsplit(url)._replace(path=f"/{name}").geturl()
    finally:
        ask(scripts.POSTGRES_DROP)
