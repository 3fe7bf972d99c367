"""The one door to the Docker Engine API: list, inspect, measure and remove by label, with a deadline on every call."""

from stackyard.engine.client import Engine
from stackyard.engine.records import ContainerState, MemoryUse, Resource

__all__ = ["ContainerState", "Engine", "MemoryUse", "Resource"]
