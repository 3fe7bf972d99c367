"""
The requests that Compose would send to the engine, made from Compose's own rendered model.

`translation` turns a model into a `Blueprint`, and `building` sends it to the engine. If stackyard does not fully
understand a model, there is no blueprint, and Compose starts the stack itself.
"""

from stackyard.docker.fast_start.building import build
from stackyard.docker.fast_start.records import Blueprint, ContainerPlan, FilePlan, NetworkPlan, Source, VolumePlan
from stackyard.docker.fast_start.translation import translate

__all__ = ["Blueprint", "ContainerPlan", "FilePlan", "NetworkPlan", "Source", "VolumePlan", "build", "translate"]
