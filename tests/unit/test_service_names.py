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
    "probes/url_probes.py": "the scheme of a URL",
    "bench/services.py": "the scheme of a URL",
    "stacks/data/drivers.py": "a driver",
    "stacks/data/snapshot.py": "a driver",
    "stacks/data/records.py": "a driver",
    "stacks/data/resetting.py": "a driver",
    "checks/detection.py": "the scheme of a URL",
    "probes/guessed_databases.py": "what software is, whatever a service is called",
    "project/service_kinds.py": "what software is, whatever a service is called",
    "probes/known_databases.py": "what software is, whatever a service is called",
    "stacks/environments/databases.py": "the database of PostgreSQL that always exists",
}


def naming() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sorted(FOLDER.rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if NAME.search(SCHEME.sub("", line)):
                found.setdefault(str(path.relative_to(FOLDER)), []).append(f"{number}: {line.strip()}")
    return found


def test_no_line_of_the_library_names_a_service_of_the_platform() -> None:
    assert {name: lines for name, lines in naming().items() if name not in SOFTWARE} == {}


def test_what_is_excepted_is_there() -> None:
    assert SOFTWARE.keys() == naming().keys()
