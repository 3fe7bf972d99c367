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

ns = Collection(doctor.doctor)
for module in (project, ports, env, cleanup, images, verify, bench, monitor, reaper):
    ns.add_collection(module.collection)
Program.take_over()
