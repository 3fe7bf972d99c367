"""
YAML as plain trees, built from the parser's events.

Every scalar stays a text, because the schema knows each key's type; so `yes`, `08` and `1e3` do not change. The tree is
built from events and not by a loader, so that duplicate keys, tags, anchors and depth are refused while reading, in
time linear in the file's size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

import yaml

from stackyard.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

Event: TypeAlias = Any  # the stubs know neither an event's anchor nor its tag
Node: TypeAlias = "str | list[Node] | dict[str, Node]"

MAX_DEPTH: Final = 16


def parse_yaml(text: str, shown: str, *, aliases: bool = False) -> Node:
    """
    Return the one document in *text*; an alias shares its anchor's node, a merge key `<<` stays an ordinary key.

    Args:
        text: The YAML.
        shown: The file's name in messages.
        aliases: Accept anchors and aliases instead of refusing them.

    Raises:
        ConfigError: If the text is not YAML, is nested too deeply, or holds no or several documents, tags, or
            duplicate keys.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Builder(yaml.parse(text, Loader=loader), shown, aliases=aliases).document()
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "text"
        rule = getattr(error, "problem", None) or "not readable"
        raise ConfigError(shown, where, _line(text, mark.line if mark else 0), f"must be YAML ({rule})") from None


def _line(text: str, number: int) -> str:
    lines = text.splitlines()
    return lines[number].strip() if number < len(lines) else "end of file"


class _Builder:
    def __init__(self, events: Iterator[Event], shown: str, *, aliases: bool) -> None:
        self._events = events
        self._shown = shown
        self._aliases = aliases
        self._anchors: dict[str, Node] = {}

    def document(self) -> Node:
        roots: list[Node] = []
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if roots:
                    self._refuse(event, "---", "the file must hold one document")
                roots.append(self._node(next(self._events), 0))
        if not roots:
            raise ConfigError(self._shown, "text", "", "the file must not be empty")
        return roots[0]

    def _node(self, event: Event, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        self._check(event, depth)
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = str(event.value)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = [self._node(item, depth + 1) for item in iter(self._next_item, None)]
        else:
            node = self._mapping(depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _next_item(self) -> Event | None:
        event = next(self._events)
        return None if isinstance(event, yaml.CollectionEndEvent) else event

    def _mapping(self, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for event in iter(self._next_item, None):
            key = self._node(event, depth + 1)
            if not isinstance(key, str):
                self._refuse(event, key, "a key must be plain text")
            if key in found:
                self._refuse(event, key, "a key may occur only once")
            found[key] = self._node(next(self._events), depth + 1)
        return found

    def _check(self, event: Event, depth: int) -> None:
        if depth > MAX_DEPTH:
            self._refuse(event, depth, f"nesting must not be deeper than {MAX_DEPTH}")
        if event.tag is not None:
            self._refuse(event, event.tag, "tags are not allowed")
        if event.anchor is not None and not self._aliases:
            self._refuse(event, f"&{event.anchor}", "anchors and aliases are not allowed, write the value out")

    def _alias(self, event: Event) -> Node:
        if not self._aliases:
            self._refuse(event, f"*{event.anchor}", "anchors and aliases are not allowed, write the value out")
        if event.anchor not in self._anchors:
            self._refuse(event, f"*{event.anchor}", "an alias must follow its anchor")
        return self._anchors[event.anchor]

    def _refuse(self, event: Event, value: object, rule: str) -> NoReturn:
        raise ConfigError(self._shown, f"line {event.start_mark.line + 1}", value, rule)
