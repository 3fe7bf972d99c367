"""Verifying Dockerfiles, images, the Compose model and running stacks: each check a small object with an id."""

from __future__ import annotations

from stackyard.checks.catalogue import CHECKS
from stackyard.checks.records import Check, Finding, Outcome, Spot
from stackyard.checks.runs import Report, Verifier

__all__ = ["CHECKS", "Check", "Finding", "Outcome", "Report", "Spot", "Verifier"]
