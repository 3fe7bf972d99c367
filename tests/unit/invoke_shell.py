"""`invoke` as a user types it, run inside the test's own process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped] # it ships no types
import tasks

from stackyard.cli import json_output
from stackyard.cli.program import Program

if TYPE_CHECKING:
    import pytest


def ended(*words: str) -> int:
    """Run one command and return its exit code; what it writes goes where this process writes."""
    try:
        Program(namespace=tasks.ns, version="0").run(["invoke", *words])
    except SystemExit as ending:
        return int(ending.code or 0)
    return 0


def shaped(task: str, answer: Any) -> Any:
    """Return what *task* answered in JSON, which must have the documented shape."""
    jsonschema.validate(answer, json_output.SHAPES[task])
    return answer


@dataclass
class Shell:
    """What `invoke` prints and returns."""

    capture: pytest.CaptureFixture[str]

    def run(self, *words: str) -> tuple[int, str, str]:
        """Run one command; return its exit code, what it printed, and its complaints."""
        self.capture.readouterr()
        code = ended(*words)
        out, err = self.capture.readouterr()
        return code, out, err.strip()

    def json(self, *words: str) -> Any:
        """Run one command with ``--json``; return what it printed, which must have the documented shape."""
        return shaped(words[0], json.loads(self.run(*words, "--json")[1]))
