"""
What Compose would ask of the engine, worked out from Compose's own rendered model.

`templates` renders the model, `translation` turns it into a `Blueprint`, `building` has the engine make it. A model
with anything in it that is not fully understood has no blueprint; Compose starts such a stack itself.
"""

from stackyard.blueprints.building import build
from stackyard.blueprints.records import Blueprint, ContainerPlan, NetworkPlan, VolumePlan
from stackyard.blueprints.templates import render
from stackyard.blueprints.translation import translate

__all__ = ["Blueprint", "ContainerPlan", "NetworkPlan", "VolumePlan", "build", "render", "translate"]
