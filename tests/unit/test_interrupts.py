"""Ctrl-C while a command still imports its modules: no traceback, and the shell sees SIGINT."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from stackyard._util import process

ROOT = Path(__file__).parents[2]
INTERRUPTED = """
import sys

class Finder:
    @staticmethod
    def find_spec(name, *_):
        if name == "{module}":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Finder)
"""
STARTS = {
    "noxw": (["-m", "stackyard.cli.sessions", "--version"], "nox"),
    "invoke": (["-m", "invoke", "ports.list"], "stackyard.cli"),
    "allocate": (["scripts/allocate_test_ports.py", "--help"], "stackyard.cli"),
    "verify": (["scripts/verify_alpine_containers.py", "--help"], "stackyard.errors"),
    "benchmark": (["scripts/docker_validation_benchmark.py", "--help"], "stackyard.bench"),
}


@pytest.mark.parametrize("start", STARTS)
def test_ctrl_c_while_modules_are_imported_shows_no_traceback(tmp_path: Path, start: str) -> None:
    words, module = STARTS[start]
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTED.format(module=module))
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}

    done = process.run([sys.executable, *words], deadline=240, env=env, cwd=ROOT, check=False)

    assert (done.stdout, done.stderr) == ("", "")
    assert done.returncode in {-signal.SIGINT, 130}  # a shell shows both as 130
