"""A Compose project without Docker: a fake `docker` that renders a model, builds, and fills a fake engine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stackyard._util import process
from stackyard._util.process import Completed
from stackyard.errors import CommandError
from stackyard.project.service_ports import Port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pytest
    from fake_engine import FakeEngine

    from stackyard.plan import Address

SHOP: dict[str, Any] = {
    "services": {
        "web": {
            "image": "web", "networks": {"default": None}, "labels": {"own": "1"},
            "ports": [{"target": 80, "published": "8080", "protocol": "tcp"}],
        },
        "db": {"image": "db", "networks": {"default": None}, "volumes": [
            {"type": "volume", "source": "rows", "target": "/rows"},
        ]},
    },
    "networks": {"default": {"name": "shop_default"}},
    "volumes": {"rows": {"name": "shop_rows"}},
}  # fmt: skip


class FakeDocker:
    """
    Stands in for `process.run` and `process.run_async`.

    `model` is what Compose renders; `states` are the states of services that do not simply run; `failures` are what the
    next `up`s write before they fail, `pull_failures` what the next pulls do. A build gives a new image, which the
    engine then has.
    """

    def __init__(self, engine: FakeEngine, model: Mapping[str, Any] = SHOP) -> None:
        self.engine = engine
        engine.images |= {name: {} for name in ("web", "db", "db:2")}
        self.model = model
        self.states: dict[str, dict[str, Any]] = {}
        self.failures: list[str] = []
        self.pull_failures: list[str] = []
        self.calls: list[list[str]] = []
        self.started: list[dict[str, Any]] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Run no program but this from now on."""

        async def run_async(argv: Sequence[str], **options: Any) -> Completed:
            return self(argv, **options)

        monkeypatch.setattr(process, "run", self)
        monkeypatch.setattr(process, "run_async", run_async)

    def __call__(self, argv: Sequence[str], **options: Any) -> Completed:
        self.calls.append([*argv])
        out = ""
        if "config" in argv:
            project = options["env"].get("COMPOSE_PROJECT_NAME", "shop")
            named = {"name": project, **self.model}
            out = "\n".join(named["services"]) if "--services" in argv else json.dumps(named)
        elif "build" in argv:
            self._build(argv, json.loads(options["stdin"]))
        elif argv[1] == "pull" and self.pull_failures:
            raise CommandError(argv, 1, self.pull_failures.pop(0))
        elif "up" in argv:
            self._up(argv)
        return Completed(argv=tuple(argv), returncode=0, stdout=out, stderr="", seconds=0.0)

    def built(self) -> list[str]:
        """Return the ids of all images that were built, in order."""
        return [name for name, row in self.engine.images.items() if row.get("Id") == name]

    def builds(self) -> int:
        """Return how often `docker compose build` was called."""
        return len([call for call in self.calls if "build" in call])

    def _build(self, argv: Sequence[str], model: Mapping[str, Any]) -> None:
        if self.failures:
            raise CommandError(argv, 1, self.failures.pop(0))
        for name in argv[argv.index("--quiet") + 1 :]:
            service, number = model["services"][name], len(self.calls)
            self.engine.images.put(f"sha256:{number:02}{name}", labels=service["build"].get("labels"))
            self.engine.images.tag(f"sha256:{number:02}{name}", service["image"])

    def _up(self, argv: Sequence[str]) -> None:
        model = json.loads(Path(argv[argv.index("--file") + 1]).read_text())
        self.started.append(model)
        project = argv[argv.index("--project-name") + 1]
        for service, wanted in model["services"].items():
            row = self.engine.container(service, project, **self.states.get(service, {}))
            row["labels"] = {
                **wanted["labels"], "com.docker.compose.project": project, "com.docker.compose.service": service
            }  # fmt: skip
        for kind, found in (("networks", self.engine.networks), ("volumes", self.engine.volumes)):
            for item in (made for made in (model.get(kind) or {}).values() if not made.get("external")):
                found[item["name"]] = {
                    "Name": item["name"], "Id": item["name"], "Labels": item["labels"], "Containers": {}, "IPAM": None
                }  # fmt: skip
        if self.failures:
            raise CommandError(argv, 1, self.failures.pop(0))

    def things(self) -> list[str]:
        """Return the names of all that the engine holds."""
        return [*self.engine.containers, *self.engine.networks, *self.engine.volumes]


async def spoken(found: Sequence[Address], *_: object) -> list[Address]:
    """Stand in for `stackyard.probes.published_protocols.spoken`: whatever may speak HTTP does."""
    return [replace(one, scheme="http" if Port(one.target, one.protocol).may_be_http else "") for one in found]
