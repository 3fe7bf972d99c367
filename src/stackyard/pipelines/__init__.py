"""The build servers' jobs: a matrix made from nox's own list of sessions, and the workflow files that run it."""

from __future__ import annotations

from stackyard.pipelines.files import FILES, render, write
from stackyard.pipelines.jobs import Job, jobs, matrix

__all__ = ["FILES", "Job", "jobs", "matrix", "render", "write"]
