"""The one door to the Docker Engine API: list, inspect, measure and remove by label, with a deadline on every call."""

from stackyard.docker.engine import Engine
from stackyard.docker.records import ContainerState, MemoryUse, Resource

__all__ = ["ContainerState", "Engine", "MemoryUse", "Resource"]
