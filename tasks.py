"""The daily tools: `invoke -l` lists them, `invoke GROUP.TASK --help` explains one."""

from __future__ import annotations

import sys

from invoke.collection import Collection

from stackyard._util import bytecode, streams

try:
    with bytecode.kept():
        from stackyard.cli import bench, cleanup, doctor, env, images, monitor, ports, project, reaper, verify
        from stackyard.cli.program import Program
except KeyboardInterrupt:
    sys.exit(130)  # Invoke would end with 1

streams.guard()

ns = Collection(
    project.collection,
    ports.collection,
    env.collection,
    cleanup.collection,
    images.collection,
    doctor.doctor,
    verify.collection,
    bench.collection,
    monitor.collection,
    reaper.collection,
)
Program.take_over()
