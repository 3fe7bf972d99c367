"""The only package that calls the Docker Engine: list, inspect, measure and remove by label, each with a deadline."""

from stackyard.docker.engine import Engine
from stackyard.docker.records import ContainerState, MemoryUse, Resource

__all__ = ["ContainerState", "Engine", "MemoryUse", "Resource"]
