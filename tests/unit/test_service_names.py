"""The library knows PostgreSQL and Redis as software, but no service of the platform by its name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import stackyard

FOLDER: Final = Path(stackyard.__file__).parent
NAME: Final = re.compile(r"""(['"`])(?:postgres|redis)\1|\b(?:auth|backend)\b|STACKYARD_IMAGE_(?:AUTH|BACKEND)""")
SCHEME: Final = re.compile(r"""(?:parse\(url, |url_of\()"redis"\)""")

# where a name means the software, or the scheme of a URL
SOFTWARE: Final = {
    "plan/volumes.py": "folders that images store their data in",
    "probes/kinds.py": "the scheme of a URL",
    "stacks/data/choice.py": "a driver",
    "stacks/data/keeping.py": "a driver",
    "stacks/data/records.py": "a driver",
    "stacks/data/resetting.py": "a driver",
    "checks/detection.py": "the scheme of a URL",
    "probes/products.py": "what software is, whatever a service is called",
    "stacks/databases.py": "the database of PostgreSQL that always exists",
}
# what is left of the platform: how many lines, and why; a change may only take lines away
LEFT: Final = {
    "bench/loads.py": (1, "logs in to the platform"),
    "bench/peers.py": (3, "other tools start the platform's services one by one"),
    "bench/projects.py": (1, "an image with Python in it"),
    "bench/services.py": (8, "figures of the platform's services"),
    "cli/ports.py": (1, "an address of the platform that another service answers"),
    "leases/columns.py": (2, "the usual ports of an environment"),
    "leases/files.py": (9, "the URLs of an environment"),
    "leases/records.py": (1, "the ports of an environment, by offset"),
    "project/environments/rules.py": (1, "the services of an environment"),
    "project/environments/schema.py": (2, "the ports of an environment"),
}


def naming() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sorted(FOLDER.rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if NAME.search(SCHEME.sub("", line)):
                found.setdefault(str(path.relative_to(FOLDER)), []).append(f"{number}: {line.strip()}")
    return found


def test_no_more_lines_of_the_library_name_a_service_of_the_platform() -> None:
    found = {name: lines for name, lines in naming().items() if name not in SOFTWARE}

    assert {name: lines for name, lines in found.items() if len(lines) > LEFT.get(name, (0,))[0]} == {}
    counts = {name: count for name, (count, _) in LEFT.items()}
    assert {name: len(lines) for name, lines in found.items()} == counts, "a line has gone: take it off the list"


def test_what_is_excepted_is_there() -> None:
    assert SOFTWARE.keys() | LEFT.keys() == naming().keys()
