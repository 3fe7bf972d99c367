"""What is right for each project here whose verdict is "copies"."""

from __future__ import annotations

import os
from typing import Final

from tests import places

COPIES: Final[dict[str, tuple[int, set[str]]]] = {
    # project: (ports that a copy leases, kinds of what is changed)
    "two-fixed-ports": (3, {"port"}),
    "override-adds-a-port": (2, {"port"}),
    "literal-container-name": (0, {"name"}),
    "container-name-of-the-project": (0, set()),
    "fixed-project-name": (1, {"port"}),
    "port-ranges": (5, {"port"}),
    "udp-and-tcp": (3, {"port"}),
    "ports-in-long-form": (3, {"port"}),
    "port-named-elsewhere": (1, {"port"}),
    "port-from-a-variable": (1, {"port"}),
    "replicas": (3, {"port"}),
    "static-addresses": (0, {"network", "address"}),
    "external-network": (0, {"network"}),
    "named-volumes": (0, {"volume"}),
    "database-folder": (0, {"volume"}),
    "relative-paths/my shop": (0, set()),
    "one-build-tag": (0, set()),
    "one-shots": (0, set()),
    "env-files": (0, set()),
    "include": (1, {"port", "name"}),
    "profiles": (0, set()),
    "extends-and-anchors": (1, {"port", "name", "restart"}),
    "secrets-and-configs": (0, set()),
    "joins-a-named-container": (1, {"port", "name"}),
    "the-engine-s-socket": (1, {"port"}),
    "five-services": (3, {"port"}),
    "slow-health-checks": (1, {"port"}),
    "many-keys": (2, {"port", "restart"}),
}
# the caller's environment decides as it does with plain Compose, so these tests have one of their own
PLACES: Final = places.PATIENT | places.own(24000, 190)
BARE: Final = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | PLACES
