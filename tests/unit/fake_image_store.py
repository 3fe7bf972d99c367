"""The images of a made-up engine: by name and by id, with what an inspection and a list say of them."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

SIZE = 30_000_000


def moment(ago: float = 0.0) -> str:
    """Return the time *ago* seconds before now, as the engine writes it."""
    return datetime.fromtimestamp(time.time() - ago, UTC).isoformat()


def labelled(labels: Mapping[str, str]) -> set[str]:
    """Return what a filter may ask of *labels*: each key alone, and with its value."""
    return {*labels, *(f"{key}={value}" for key, value in labels.items())}


class ImageStore(dict[str, dict[str, Any]]):
    """What an inspection says, by each name and id; one without an id is only known by its name."""

    def put(
        self, identity: str, *names: str, labels: Mapping[str, str] | None = None, used: float = 0.0, age: float = 0.0
    ) -> dict[str, Any]:
        """Add an image that was built *age* seconds ago and got a name *used* seconds ago."""
        row = self[identity] = {
            "Id": identity, "RepoTags": [], "Config": {"Labels": {**(labels or {})}}, "Created": time.time() - age,
        }  # fmt: skip
        for name in names:
            self.tag(identity, name)
        row["Metadata"] = {"LastTagTime": moment(used)}
        return row

    def tag(self, identity: str, name: str) -> None:
        """Give a name, and take it from another image."""
        if name in self:
            self[name]["RepoTags"].remove(name)
        self[name] = self[identity]
        self[name]["RepoTags"].append(name)
        self[name]["Metadata"] = {"LastTagTime": moment()}

    def untag(self, name: str, in_use: Collection[str]) -> tuple[int, Any]:
        """Take a name away, and the image along with its last one, as an engine does."""
        row = self.get(name)
        if row is None:
            return 404, {"message": f"No such image: {name}"}
        if len(row["RepoTags"]) <= 1:
            if row["Id"] in in_use:
                return 409, {"message": f"conflict: unable to remove {name}: container c is using its referenced image"}
            del self[row["Id"]]
        if name in row["RepoTags"]:
            row["RepoTags"].remove(name)
            del self[name]
        return 200, []

    def rows(self, query: Mapping[str, list[str]], in_use: Collection[str] = ()) -> list[dict[str, Any]]:
        """List the images that have the labels asked for; *in_use* holds the ids of those that containers use."""
        wanted = json.loads(query.get("filters", ["{}"])[0]).get("label", [])
        wanted = [wanted] if isinstance(wanted, str) else wanted
        found = {row["Id"]: row for row in self.values() if "Id" in row}
        return [
            {"Id": row["Id"], "RepoTags": row["RepoTags"], "Labels": row["Config"]["Labels"], "Size": SIZE,
             "Created": int(row["Created"]), "SharedSize": 0, "Containers": int(row["Id"] in in_use)}
            for row in found.values()
            if labelled(row["Config"]["Labels"]).issuperset(wanted)
        ]  # fmt: skip

    def answer(
        self, method: str, path: list[str], query: Mapping[str, list[str]], in_use: Collection[str]
    ) -> tuple[int, Any]:
        """Answer a request below /images."""
        *words, last = path
        name = unquote("/".join(words))
        if method == "GET" and path == ["json"]:
            return 200, self.rows(query)
        if method == "GET" and last == "json" and name in self:
            return 200, self[name]
        if method == "POST" and last == "tag" and name in self:
            self.tag(name, f"{query['repo'][0]}:{query['tag'][0]}")
            return 201, None
        if method == "DELETE":
            return self.untag(unquote("/".join(path)), in_use)
        return 404, {"message": f"No such image: {name}"}
