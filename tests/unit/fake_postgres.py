"""A fake PostgreSQL made of a few dictionaries: databases, their sessions, and the statements stackyard sends."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import asyncpg  # type: ignore[import-untyped] # it ships no types


@dataclass(kw_only=True)
class FakeDatabase:
    """
    One database.

    Attributes:
        tables: What is in it.
        open: Whether it accepts connections.
        sessions: Role of each session, and how many more requests to end it ignores.
    """

    tables: set[str] = field(default_factory=set)
    open: bool = True
    sessions: list[tuple[str, int]] = field(default_factory=list)


@dataclass(kw_only=True)
class FakePostgres:
    """
    One server.

    Attributes:
        databases: By name.
        refusals: What the next connections meet, in order.
        breaks: What each statement meets; None for nothing.
        said: Every statement.
        settings: What `ALTER ROLE app SET` has left.
        password: Of role app.
        links: How many connections were opened and closed again.
    """

    databases: dict[str, FakeDatabase] = field(default_factory=dict)
    refusals: list[Exception] = field(default_factory=list)
    breaks: Exception | None = None
    said: list[str] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    password: str = "pw"
    links: dict[str, int] = field(default_factory=lambda: {"opened": 0, "closed": 0})

    async def connect(self, **options: Any) -> FakeLink:
        if self.refusals:
            raise self.refusals.pop(0)
        assert (options["user"], options["password"], options["database"]) == ("app", self.password, "postgres")
        self.links["opened"] += 1
        return FakeLink(self)


class FakeLink:
    """One connection."""

    def __init__(self, server: FakePostgres) -> None:
        self.server = server

    async def execute(self, text: str) -> None:
        self.server.said.append(text)
        if self.server.breaks:
            raise self.server.breaks
        for statement in text.split("; "):
            self._execute(statement)

    def _execute(self, statement: str) -> None:
        words = [word.strip('"') for word in statement.split()]
        databases = self.server.databases
        match words:
            case ["CREATE", "DATABASE", name, "TEMPLATE", template, "STRATEGY", "file_copy"]:
                if name in databases:
                    raise asyncpg.DuplicateDatabaseError(f'database "{name}" already exists')
                databases[name] = FakeDatabase(tables=set(databases[template].tables))
            case ["DROP", "DATABASE", "IF", "EXISTS", name]:
                assert databases[name].sessions == []
                del databases[name]
            case ["ALTER", "DATABASE", name, "ALLOW_CONNECTIONS", answer]:
                if name not in databases:
                    raise asyncpg.InvalidCatalogNameError(f'database "{name}" does not exist')
                databases[name].open = answer == "true"
            case ["ALTER", "DATABASE", name, "RENAME", "TO", other]:
                assert databases[name].sessions == []
                databases[other] = databases.pop(name)
            case ["ALTER", "ROLE", "CURRENT_USER", "RESET", "ALL"]:
                self.server.settings.clear()
            case _:
                raise AssertionError(statement)

    async def fetch(self, query: str, value: Any) -> list[dict[str, Any]]:
        if re.search("FROM pg_database", query):
            return [{"datname": name} for name in value if name in self.server.databases]
        database = self.server.databases[value]
        found = [{"usename": role} for role, _ in database.sessions]
        database.sessions = [
            (role, left - (role == "app")) for role, left in database.sessions if left or role != "app"
        ]
        return found

    async def close(self, timeout: float) -> None:  # noqa: ASYNC109 - asyncpg's signature
        assert timeout > 0
        self.server.links["closed"] += 1

    def terminate(self) -> None:
        """End at once; may be called twice."""
