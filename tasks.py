"""The daily tools: `invoke -l` lists them, `invoke GROUP.TASK --help` explains one."""

from __future__ import annotations

import sys

from invoke.collection import Collection

from stackyard._util import streams

# Invoke forbids Python to keep what it compiles; each command would compile its imports again, which takes 0.4 s
sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
try:
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
