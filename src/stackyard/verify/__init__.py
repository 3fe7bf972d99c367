"""Verifying Dockerfiles, images, the Compose model and running stacks: each check a small object with an id."""

from __future__ import annotations

from stackyard.verify.catalogue import CHECKS, page
from stackyard.verify.records import Check, Finding, Outcome, Spot
from stackyard.verify.runs import Report, Verifier

__all__ = ["CHECKS", "Check", "Finding", "Outcome", "Report", "Spot", "Verifier", "page"]
