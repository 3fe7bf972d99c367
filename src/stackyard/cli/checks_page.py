"""docs/checks.md: every check, what it is for, and how to fix what it finds."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final

from stackyard.checks.catalogue import CHECKS

if TYPE_CHECKING:
    from stackyard.checks.records import Check

WIDTH: Final = 120
TITLES: Final = {
    "dockerfile": "Dockerfiles",
    "image": "Images",
    "compose": "The Compose model",
    "stack": "Running stacks",
    "detection": "Detection of faults",
}
HEAD: Final = """\
# Checks

Every check of the sample platform's Dockerfiles, images, Compose model and running stacks, and how to accept a finding.

`./noxw -s verify` runs every check here on both flavours; `invoke verify.dockerfiles`, `images`, `compose`, `stack`,
`detection` run one group, `invoke verify.all` all of them. An error ends with exit code 9; warnings and infos are only
reported. `--json` prints the findings and how soon each fault was seen; `reports/verify.json` has the same. `reports/`
also gets `verify.sarif` (2.1.0), `junit-verify.xml` and, for each image, a CycloneDX list of what is in it
(`sbom-SERVICE-FLAVOUR.json`): the system's packages ("unavailable" if the image keeps no list of them), Python's
packages, and by SHA-256 every program and library that belongs to neither.

`scripts/verify_alpine_containers.py --fix` fixes what a program can fix:
{fixable}.
It prints what it changed; a person has to fix the rest.

To accept a finding, waive it in `envs/waivers.yaml`, by check and target, with a reason and a last day. A waiver that
has expired, matches no finding, or names no check is an error:

```yaml
waivers:
  - check: image-size
    target: stackyard/postgres:debian
    reason: the ICU data of all locales, wanted by the collation tests
    until: 2027-03-31
```

This page is written by `invoke verify.docs`; a test keeps it true.
"""


def page() -> str:
    """Return docs/checks.md."""
    fixable = ", ".join(f"`{each.id}`" for each in CHECKS if each.rewrite)
    parts = [HEAD.format(fixable=fixable), f"{len(CHECKS)} checks.\n"]
    for subject, title in TITLES.items():
        parts.append(f"## {title}\n")
        parts += [_entry(each) for each in CHECKS if each.subject == subject]
    return "\n".join(parts)


def _entry(each: Check[Any]) -> str:
    text = f"**{each.title}** ({each.severity}). {each.why} To fix it: {each.fix}."
    wrapped = textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)
    return f"### {each.id}\n\n{wrapped}\n"
