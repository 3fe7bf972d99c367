"""
Reading a configuration file into msgspec records, with an error that names the key, the value and the rule.

The description of an annotated type is its rule, and begins with "must be". msgspec's own errors name no key of a
mapping, so a file that does not fit is walked once more to find the first mistake.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from stackyard.errors import ConfigError
from stackyard.project.environments.rules import below, mapping

T = TypeVar("T")
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def text(pattern: str, rule: str, **json: Any) -> Meta:
    """Return the rule of a text; *json* is what an editor's JSON Schema has besides."""
    # Python's "$" alone would accept a line end after the value
    return Meta(pattern=rf"^(?:{pattern})(?!\n)$", description=f"must be {rule}", extra_json_schema=json)


def convert(file: str, node: object, kind: type[T], *, path: str = "") -> T:
    """
    Return *node*, the content of *file* or of its part at the dotted *path*, as a record of *kind*.

    Raises:
        ConfigError: If it has another shape; names the first key that is wrong, its value and the rule.
    """
    try:
        return msgspec.convert(node, kind)
    except msgspec.ValidationError as error:
        _explain(file, path, node, kind)
        raise ConfigError(file, path or "file", node, str(error)) from None


def _explain(file: str, path: str, node: Any, kind: Any) -> None:
    """Raise the error of the first mistake in *node*."""
    base, rule = _parts(kind)
    if isinstance(base, type) and issubclass(base, Struct):
        fields = {field.name: field for field in msgspec.structs.fields(base)}
        optional = {name for name, field in fields.items() if not field.required}
        for key, value in mapping(file, path, node, fields, optional=optional).items():
            _explain(file, below(path, key), value, fields[key].type)
    elif get_origin(base) is dict:
        _explain_members(file, path, node, *get_args(base))
    elif get_origin(base) is list and isinstance(node, list):
        for index, item in enumerate(node):
            _explain(file, f"{path}[{index}]", item, get_args(base)[0])
    elif base is str and isinstance(node, (list, dict)):
        raise ConfigError(file, path, node, "must be a single value")
    try:
        msgspec.convert(node, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(file, path or "file", node, rule or str(error)) from None


def _explain_members(file: str, path: str, node: Any, name: Any, value: Any) -> None:
    for key, member in mapping(file, path, node).items():
        try:
            msgspec.convert(key, name)
        except msgspec.ValidationError:
            raise ConfigError(file, path, key, f"a name {_parts(name)[1]}") from None
        _explain(file, below(path, key), member, value)


def _parts(kind: Any) -> tuple[Any, str]:
    """Return the type below a type's annotations, and its rule or an empty text."""
    if get_origin(kind) is not Annotated:
        return kind, ""
    return kind.__origin__, next((meta.description or "" for meta in kind.__metadata__ if isinstance(meta, Meta)), "")


def schema(kind: type[Struct]) -> dict[str, Any]:
    """Return the JSON Schema of a file that holds a record of *kind*."""
    return {"$schema": DIALECT, **msgspec.json.schema(kind)}


def written(content: object) -> str:
    """Return *content* as the text of a JSON file."""
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n"
