"""`invoke` as a user types it, run inside the test's own process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tasks
from invoke.program import Program

if TYPE_CHECKING:
    import pytest


@dataclass
class Shell:
    """What `invoke` prints and returns."""

    capture: pytest.CaptureFixture[str]

    def run(self, *words: str) -> tuple[int, str, str]:
        """Run one command; return its exit code, what it printed, and its complaints."""
        self.capture.readouterr()
        code = 0
        try:
            Program(namespace=tasks.ns, version="0").run(["invoke", *words])
        except SystemExit as ending:
            code = int(ending.code or 0)
        out, err = self.capture.readouterr()
        return code, out, err.strip()

    def json(self, *words: str) -> Any:
        """Run one command with ``--json``; return what it printed, read."""
        return json.loads(self.run(*words, "--json")[1])
