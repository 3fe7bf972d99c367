"""
The requests that Compose would send to the engine, made from Compose's own rendered model.

`templates` renders the model, `translation` turns it into a `Blueprint`, and `building` sends it to the engine. If
stackyard does not fully understand a model, there is no blueprint, and Compose starts the stack itself.
"""

from stackyard.blueprints.building import build
from stackyard.blueprints.records import Blueprint, ContainerPlan, NetworkPlan, VolumePlan
from stackyard.blueprints.templates import render
from stackyard.blueprints.translation import translate

__all__ = ["Blueprint", "ContainerPlan", "NetworkPlan", "VolumePlan", "build", "render", "translate"]
