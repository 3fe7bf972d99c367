"""
The shape of `envs/docker_environments.yaml`: its keys, and what each value looks like.

msgspec checks a file against these records and makes the JSON Schema for editors from them. Every value stays the text
that it is in the file; the description of its type is the rule that an error states. What no pattern can say, such as
that two environments share no port, is checked in `environment`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar, get_origin

import msgspec
from msgspec import Meta, Struct

from stackyard.errors import ConfigError
from stackyard.project.environments import rules
from stackyard.project.environments.rules import Data, Flavour, mapping

if TYPE_CHECKING:
    from stackyard.project.environments.yaml_tree import Node

T = TypeVar("T")

FILE: Final = "envs/environments.schema.json"  # editors find it through the first line of the YAML


def _rule(pattern: str, rule: str, **json: int) -> Meta:
    """Return the rule of a text; *json* are the limits of a number, for editors."""
    # Python's "$" alone would accept a line end after the value
    return Meta(pattern=rf"^(?:{pattern})(?!\n)$", description=f"must be {rule}", extra_json_schema=dict(json))


Version = Annotated[str, _rule("1", "1, the only format there is", minimum=1, maximum=1)]
Name = Annotated[str, _rule(rules.NAME, rules.NAME_RULE)]
Sentence = Annotated[str, _rule(r"(?=.*\S).{1,200}", rules.SENTENCE_RULE)]
Path = Annotated[
    str,
    _rule(
        r"(?!(?:.*/)?\.\.(?:/|$))[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*",
        "a path relative to the project's root, made of letters, digits and . _ - /",
    ),
]
Port = Annotated[str, _rule(rules.WHOLE, rules.PORT_RULE, minimum=rules.PORTS[0], maximum=rules.PORTS[-1])]
Subnet = Annotated[str, _rule(r"[0-9.]+/[0-9.]+", "an IPv4 network such as 10.213.255.0/28")]
Seconds = Annotated[
    str,
    _rule(f"{rules.WHOLE}(?:ms|s|m)", "a duration above 0: a whole number with its unit, such as 250ms, 30s or 2m"),
]
Megabytes = Annotated[
    str, _rule(f"{rules.WHOLE}(?:MB|GB)", "a size above 0: a whole number with its unit, such as 200MB or 2GB")
]
Retries = Annotated[str, _rule("[1-9][0-9]?|100", "a whole number from 1 to 100", minimum=1, maximum=100)]


class Ports(Struct, frozen=True, forbid_unknown_fields=True):
    """The fixed host port of each service."""

    postgres: Port
    redis: Port
    auth: Port
    backend: Port


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
    flavour: Annotated[Flavour, Meta(description="must be debian or alpine")]
    data: Annotated[Data, Meta(description="must be tmpfs or volume")]
    ports: Ports
    subnet: Subnet
    budget: Budget
    health: Health


class Environments(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    version: Version
    compose_file: Path
    environments: Annotated[dict[Name, Entry], Meta(min_length=1)]


def read(file: str, node: Node) -> Environments:
    """
    Return the content of *file* as records.

    Raises:
        ConfigError: If it has another shape; names the first key that is wrong, its value and the rule.
    """
    try:
        return msgspec.convert(node, Environments)
    except msgspec.ValidationError as error:
        _explain(file, "", node, Environments)
        raise ConfigError(file, "file", node, str(error)) from None


def _explain(file: str, path: str, node: Any, kind: Any) -> None:
    """Raise the error of the first mistake in *node*; msgspec's own names no key of a mapping and not our rules."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
        for key, value in mapping(file, path, node, fields).items():
            _explain(file, rules.below(path, key), value, fields[key])
    elif get_origin(kind.__origin__) is dict:
        _explain_names(file, path, node)
    elif not isinstance(node, str):
        raise ConfigError(file, path, node, "must be a single value")
    else:
        try:
            msgspec.convert(node, kind)
        except msgspec.ValidationError:
            raise ConfigError(file, path, node, kind.__metadata__[0].description) from None


def _explain_names(file: str, path: str, node: Any) -> None:
    for name, entry in mapping(file, path, node).items():
        try:
            msgspec.convert(name, Name)
        except msgspec.ValidationError:
            raise ConfigError(file, path, name, f"a name must be {rules.NAME_RULE}") from None
        _explain(file, rules.below(path, name), entry, Entry)
    if not node:
        raise ConfigError(file, path, {}, "must hold at least one environment")


def for_editors() -> str:
    """Return the JSON Schema of the file, as JSON."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Environments)}
    return msgspec.json.format(msgspec.json.encode(_seen(schema)), indent=2).decode() + "\n"


def _seen(node: Any) -> Any:
    """Return a part of the schema for an editor, which reads a number that is not quoted as a number."""
    if isinstance(node, list):
        return [_seen(item) for item in node]
    if not isinstance(node, dict):
        return node
    number = {"type": ["integer", "string"]} if "minimum" in node else {}
    return {key: _seen(value) for key, value in node.items()} | number
