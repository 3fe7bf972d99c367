"""
The shape of `envs/docker_environments.yaml`: its keys, and what each value looks like.

msgspec checks a file against these records and makes the JSON Schema for editors from them. Every value stays the text
that it is in the file; the description of its type is the rule that an error states. What no pattern can say, such as
that two environments share no port, is checked in `environment`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from msgspec import Meta, Struct

from stackyard.project import validation
from stackyard.project.environments import rules
from stackyard.project.environments.services import SERVICE, SERVICE_RULE

if TYPE_CHECKING:
    from stackyard.project.environments.yaml_tree import Node

FILE: Final = "envs/environments.schema.json"  # editors find it through the first line of the YAML


Version = Annotated[str, validation.text("1", "1, the only format there is", minimum=1, maximum=1)]
Name = Annotated[str, validation.text(rules.NAME, rules.NAME_RULE)]
Sentence = Annotated[str, validation.text(r"(?=.*\S).{1,200}", rules.SENTENCE_RULE)]
Path = Annotated[
    str,
    validation.text(
        r"(?!(?:.*/)?\.\.(?:/|$))[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*",
        "a path relative to the project's root, made of letters, digits and . _ - /",
    ),
]
Port = Annotated[str, validation.text(rules.WHOLE, rules.PORT_RULE, minimum=rules.PORTS[0], maximum=rules.PORTS[-1])]
Subnet = Annotated[str, validation.text(r"[0-9.]+/[0-9.]+", "an IPv4 network such as 10.213.255.0/28")]
Seconds = Annotated[
    str,
    validation.text(
        f"{rules.WHOLE}(?:ms|s|m)", "a duration above 0: a whole number with its unit, such as 250ms, 30s or 2m"
    ),
]
Megabytes = Annotated[
    str,
    validation.text(f"{rules.WHOLE}(?:MB|GB)", "a size above 0: a whole number with its unit, such as 200MB or 2GB"),
]
Service = Annotated[str, validation.text(SERVICE, SERVICE_RULE)]
Url = Annotated[
    str,
    validation.text(
        r"(?:postgresql|redis|http|ws)://[!-~]{1,500}",
        "a URL such as http://{shop}, which begins with postgresql://, redis://, http:// or ws://",
    ),
]
Variable = Annotated[
    str, validation.text("STACKYARD_[A-Z0-9_]{1,60}", "a variable that begins with STACKYARD_, of A-Z, 0-9 and _")
]
Value = Annotated[
    str, validation.text(r"[^'\x00-\x1f\x7f]{0,500}", "one line of at most 500 characters without quotes")
]
Retries = Annotated[str, validation.text("[1-9][0-9]?|100", "a whole number from 1 to 100", minimum=1, maximum=100)]


class Budget(Struct, frozen=True, forbid_unknown_fields=True):
    """The limits of one run."""

    startup: Seconds
    memory: Megabytes
    cleanup: Seconds
    image: Megabytes


class Health(Struct, frozen=True, forbid_unknown_fields=True):
    """Times of the containers' own health checks."""

    interval: Seconds
    timeout: Seconds
    retries: Retries
    start_period: Seconds
    start_interval: Seconds


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """One environment."""

    description: Sentence
    profile: Name
    env_file: Path
    flavour: Annotated[rules.Flavour, Meta(description="must be debian or alpine")]
    data: Annotated[rules.Data, Meta(description="must be tmpfs or volume")]
    ports: Annotated[
        dict[Service, Port],
        Meta(min_length=1, description="must have a host port for each service that answers on its own"),
    ]
    subnet: Subnet
    budget: Budget
    health: Health


class Environments(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    version: Version
    compose_file: Path
    environments: Annotated[dict[Name, Entry], Meta(min_length=1, description="must hold at least one environment")]
    services: Annotated[dict[Service, Url], Meta(min_length=1, description="must hold at least one service")]
    variables: Annotated[dict[Variable, Value], Meta(description="must be variables and their values")] = {}


def read(file: str, node: Node) -> Environments:
    """
    Return the content of *file* as records.

    Raises:
        ConfigError: If it has another shape; names the first key that is wrong, its value and the rule.
    """
    return validation.convert(file, node, Environments)


def for_editors() -> str:
    """Return the JSON Schema of the file, as JSON."""
    return validation.written(_seen(validation.schema(Environments)))


def _seen(node: Any) -> Any:
    """Return a part of the schema for an editor, which reads a number that is not quoted as a number."""
    if isinstance(node, list):
        return [_seen(item) for item in node]
    if not isinstance(node, dict):
        return node
    number = {"type": ["integer", "string"]} if "minimum" in node else {}
    return {key: _seen(value) for key, value in node.items()} | number
