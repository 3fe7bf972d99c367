"""
The shape of a project's configuration: the keys of `stackyard.toml`, and what each value looks like.

msgspec checks the configuration against these records and makes the JSON Schema for editors from them. The description
of a type is the rule that an error states. What no pattern can say is checked in `configuration`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta, Struct, field

from stackyard._util import durations
from stackyard.project import service_kinds, validation
from stackyard.project.readiness_hints import KINDS, RULE, RUNNING

SCHEMA: Final = "docs/reference/stackyard.schema.json"
_PORT: Final = {"type": "integer", "minimum": 1, "maximum": 65535}
_PATH: Final = {"type": "string", "pattern": "^([0-9]{1,5})?/[!-~]*$"}
_HINTS: Final = dict(
    zip(KINDS, (_PATH, _PATH, _PORT, {"type": "string", "format": "regex", "minLength": 1}, {"const": 0}), strict=True)
)

Name = Annotated[
    str, validation.text(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}", "letters, digits and . _ -, as in the Compose file")
]
Variable = Annotated[
    str, validation.text(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.[A-Za-z_][A-Za-z0-9_]*", "SERVICE.VARIABLE, such as web.API_URL")
]
File = Annotated[str, validation.text(r"[^\x00-\x1f]{1,500}", "a path, from the Compose file's folder")]
Time = Annotated[str, Meta(description=durations.RULE)]
Ready = Annotated[
    str | dict[str, Any],
    Meta(description=RULE, extra_json_schema={"oneOf": [
        {"const": RUNNING},
        {"type": "object", "properties": _HINTS, "minProperties": 1, "maxProperties": 1, "additionalProperties": False},
    ]}),
]  # fmt: skip

Kind = Annotated[
    str,
    Meta(
        pattern=f"^({'|'.join(service_kinds.KINDS)})$", description=service_kinds.RULE,
        extra_json_schema={"enum": [*service_kinds.KINDS]},
    ),
]  # fmt: skip
Names = list[Name]


class Share(Struct, frozen=True, forbid_unknown_fields=True):
    """What all copies use together; it exists before them and stays after them."""

    networks: Annotated[Names, Meta(description="must be a list of networks of the Compose file")] = []
    volumes: Annotated[Names, Meta(description="must be a list of volumes of the Compose file")] = []
    services: Annotated[Names, Meta(description="must be a list of services of the Compose file")] = []


class Service(Struct, frozen=True, forbid_unknown_fields=True):
    """One service."""

    ready: Ready = ""
    kind: Kind = ""


class Keys(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration."""

    profiles: Annotated[list[Name], Meta(description="must be a list of profiles of the Compose file")] = []
    env_files: Annotated[list[File], Meta(description="must be a list of paths, from the Compose file's folder")] = []
    timeout: Time = ""
    rewrite: Annotated[list[Variable], Meta(description="must be a list of variables, as SERVICE.VARIABLE")] = []
    reset: Annotated[bool, Meta(description="must be true or false")] = False
    share: Share = field(default_factory=Share)
    services: dict[Name, Service] = {}


def for_editors() -> str:
    """Return the JSON Schema of `stackyard.toml`, as JSON."""
    return validation.written(validation.schema(Keys))
