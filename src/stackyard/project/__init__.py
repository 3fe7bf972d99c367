"""A Compose project as Compose finds it: its files, its variables, its model. Only Compose parses Compose files."""

from stackyard.project.model import PublishedPort, copies_of, published_ports
from stackyard.project.project import Project

__all__ = ["Project", "PublishedPort", "copies_of", "published_ports"]
