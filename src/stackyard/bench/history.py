"""The history of benchmark runs: ``reports/history.jsonl``, a run on each line, only ever added to."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stackyard._util.advice import Action, how
from stackyard.bench.records import Run
from stackyard.errors import UsageError
from stackyard.project.environments import project_root

if TYPE_CHECKING:
    from pathlib import Path

FILE: Final = "reports/history.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The runs in one file, which need not exist."""

    file: Path

    @classmethod
    def of_project(cls, root: Path | None = None) -> History:
        """
        Return the history of the project at *root*, by default the one found from here.

        Raises:
            UsageError: If there is no project.
        """
        return cls(file=(root or project_root()) / FILE)

    def append(self, run: Run) -> None:
        """
        Add *run* as one whole line or not at all, even if other processes add lines at the same time.

        Raises:
            OSError: If the file cannot be written.
        """
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a+b") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX)
            opened.seek(0)
            end = opened.read().rfind(b"\n") + 1  # a process that was killed while it wrote left half a line
            opened.truncate(end)
            try:
                opened.write(json.dumps(run.to_json()).encode() + b"\n")
                opened.flush()
                os.fsync(opened.fileno())
            except OSError:
                opened.truncate(end)  # a full disk leaves no half of a line
                raise

    def runs(self) -> list[Run]:
        """
        Return all runs, oldest first; none where there is no file.

        Raises:
            UsageError: If a line is no run; names the line.
        """
        try:
            lines = self.file.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{self.file.name} cannot be read ({error}); set it aside and measure again") from None
        return [self._run(number, line) for number, line in enumerate(lines, 1) if line.strip()]

    def _run(self, number: int, line: str) -> Run:
        try:
            return Run.read(line)
        except UsageError as error:
            raise UsageError(f"{self.file.name}: line {number} is no benchmark run ({error}); remove it") from None

    def find(self, name: str, commit: str | None = None) -> Run:
        """
        Return the newest run whose id or commit begins with *name*, or whose commit is *commit*, what git makes of it.

        Raises:
            UsageError: If there is none; says which there are.
        """
        runs = self.runs()
        for run in reversed(runs):
            if run.id.startswith(name) or (run.commit or "").startswith(commit or name):
                return run
        known = ", ".join(f"{run.id} ({run.source})" for run in runs[-5:]) or "none"
        raise UsageError(f"no benchmark run of {name[:60]!r}; newest: {known}; {how(Action.BENCH_STARTS)}")
