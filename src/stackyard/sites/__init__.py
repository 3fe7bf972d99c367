"""Where copies run: this host's engine, another engine through its Docker context, or a Docker Swarm."""

from stackyard.sites.site import Site

__all__ = ["Site"]
