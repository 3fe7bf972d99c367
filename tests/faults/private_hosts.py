"""A host for fault tests with an engine of its own, a live stack and look-alikes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.faults.fault_host import Yard
from tests.faults.private_engine import PrivateEngine

from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outpost(Yard):
    """
    A host whose engine may be killed.

    Attributes:
        private: That engine.
    """

    private: PrivateEngine

    def start_engine(self) -> None:
        """Start the engine again; connections to the one before are of no use."""
        self.engine.close()
        self.private.start()

    def up(self, name: str) -> str:
        """Start a stack that stays, by the command line; return its lease's id."""
        code, out, _ = self.invoke("env.up", "--name", name, "--json")
        assert code == 0, out
        return self.book.find(name).id

    def containers(self, name: str) -> list[dict[str, Any]]:
        """Return what the engine tells of the containers of the lease *name*."""
        found = self.engine.containers([f"stackyard.lease={self.book.find(name).id}"])
        return [self.engine.api.inspect_container(item.id) for item in found]


@contextlib.contextmanager
def outpost(main: Yard, state: Path, *options: str) -> Iterator[Outpost]:
    """Set up an engine with *options*, bring the images, and start the stack that must stay as it is."""
    with tempfile.TemporaryDirectory(prefix="sy-") as short, contextlib.ExitStack() as undo:
        private = PrivateEngine(Path(short) / "e", options)
        undo.callback(private.close)
        private.lay_out()
        private.start()
        private.load(main.engine, main.references.values())
        patch = undo.enter_context(pytest.MonkeyPatch.context())
        for name, value in {"STACKYARD_STATE_DIR": str(state), "DOCKER_HOST": private.address}.items():
            patch.setenv(name, value)
        made = Outpost(
            root=main.root, state=state, host=Settings.load().host, engine=private.engine(),
            references=main.references, around=tuple(private.inside()), namespace=private.children["holder"].pid,
            private=private,
        )  # fmt: skip
        undo.callback(made.engine.close)
        _lay_out_untouchable(made)
        yield made


def _lay_out_untouchable(made: Outpost) -> None:
    """Put a live stack, and things that only look like ours, for the fault tests; they go with the engine."""
    made.spared.add(made.up("control"))
    for item in made.engine.everything([f"stackyard.host={made.host}"]):
        made.untouchable.append((item.kind, item.id))
    api = made.engine.api
    another = {"stackyard.lease": "0badcafe", "stackyard.host": "not-this-book"}
    for name, labels in (("stackyard-test-plain", {}), ("stackyard-test-labelled", another)):
        api.create_container(
            made.references["STACKYARD_IMAGE_REDIS"], name=name, labels=labels, entrypoint=["sleep", "infinity"]
        )  # fmt: skip
        api.start(name)
        api.create_network(name, labels=labels)
        api.create_volume(name, labels=labels)
        made.untouchable.extend((kind, name) for kind in ("container", "network", "volume"))


def age_boot(state: Path) -> None:
    """Make every lease of the book one of an earlier boot, as it is after a restart of the machine."""
    import sqlite3

    from stackyard.leases.owners import boot_id

    with contextlib.closing(sqlite3.connect(state / "book.sqlite3")) as db, db:
        db.execute("UPDATE leases SET owner = replace(owner, ?, ?)", (boot_id(), "0" * 8 + boot_id()[8:]))


def ids(facts: dict[str, Any]) -> str:
    """Tell only which things there are: a power cut stops what it does not remove."""
    return json.dumps({name: fact[0] for name, fact in facts.items()}, sort_keys=True)


def signal_all(pids: list[int], number: int) -> None:
    """Signal processes that may have ended."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
