"""The daily tools: `invoke -l` lists them, `invoke GROUP.TASK --help` explains one."""

from __future__ import annotations

from invoke.collection import Collection

from stackyard import streams
from stackyard.commands import bench, cleanup, doctor, env, images, monitor, ports, project, verify, yard
from stackyard.commands.program import Program

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
    yard.collection,
)
Program.take_over()
