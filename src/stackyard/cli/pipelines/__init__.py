"""The build servers' jobs, made from nox's list of sessions; their workflow files; the check of licences."""

from __future__ import annotations

from stackyard.cli.pipelines.files import FILES, render, write
from stackyard.cli.pipelines.jobs import Job, jobs, matrix

__all__ = ["FILES", "Job", "jobs", "matrix", "render", "write"]
