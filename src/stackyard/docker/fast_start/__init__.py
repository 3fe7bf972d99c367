"""
The requests that Compose would send to the engine, made from Compose's own rendered model.

`templates` renders the model, `translation` turns it into a `Blueprint`, and `building` sends it to the engine. If
stackyard does not fully understand a model, there is no blueprint, and Compose starts the stack itself.
"""

from stackyard.docker.fast_start.building import build
from stackyard.docker.fast_start.records import Blueprint, ContainerPlan, NetworkPlan, VolumePlan
from stackyard.docker.fast_start.templates import render
from stackyard.docker.fast_start.translation import translate

__all__ = ["Blueprint", "ContainerPlan", "NetworkPlan", "VolumePlan", "build", "render", "translate"]
