"""One run of verifying: which targets there are, the checks on each, and the report of it all."""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from stackyard._util.advice import Action, how
from stackyard._util.files import write_json, write_text
from stackyard._util.tables import MEGABYTE
from stackyard.checks import (
    archives,
    catalogue,
    composition,
    detection,
    dockerfiles,
    images,
    outputs,
    running_stacks,
    sboms,
    waivers,
)
from stackyard.checks.records import examine
from stackyard.errors import ImageError, UsageError, VerifyError
from stackyard.project.environments import Environment, load_all, project_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from stackyard.checks.detection import Detection
    from stackyard.checks.records import Finding, Outcome
    from stackyard.stacks.environments.stack import Stack
    from stackyard.stacks.starts.times import Startup

FLAVOURS: Final = ("debian", "alpine")  # the first is what the second is measured against


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one run found, in how many seconds; *files* were written below the project's root."""

    outcomes: Sequence[Outcome]
    seconds: float
    files: Sequence[str] = ()
    detections: Mapping[str, Sequence[Detection]] = field(default_factory=dict)

    @property
    def findings(self) -> list[Finding]:
        """All findings, waived ones too."""
        return [item for outcome in self.outcomes for item in outcome.findings]

    def count(self, severity: str) -> int:
        """Count the findings of a severity that nothing waives."""
        return sum(item.severity == severity and not item.waived for item in self.findings)

    def summary(self) -> str:
        """Return one line."""
        checks = len({outcome.check for outcome in self.outcomes})
        targets = len({outcome.target for outcome in self.outcomes})
        waived = sum(bool(item.waived) for item in self.findings)
        return (
            f"{checks} checks on {targets} targets in {self.seconds:.1f} s: {self.count('error')} errors, "
            f"{self.count('warning')} warnings, {self.count('info')} infos, {waived} waived"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {
            "seconds": round(self.seconds, 3),
            "looks": len(self.outcomes),
            "findings": [asdict(item) for item in self.findings],
            "detections": {name: [asdict(item) for item in found] for name, found in self.detections.items()},
            "files": list(self.files),
        }

    def check(self) -> None:
        """
        Complain about errors.

        Raises:
            VerifyError: If there is one that nothing waives.
        """
        failing = sorted({item.check for item in self.findings if item.fails})
        if failing:
            raise VerifyError(f"{self.count('error')} errors of {', '.join(failing)}; docs/checks.md explains each")


@dataclass(slots=True, kw_only=True)
class Verifier:
    """Gathers outcomes, group by group; `report` ends it. Unless it may *build*, a missing image is an error."""

    root: Path = field(default_factory=project_root)
    say: Callable[[str], None] = lambda _line: None
    build: bool = True
    _outcomes: list[Outcome] = field(default_factory=list)
    _files: list[str] = field(default_factory=list)
    _detections: dict[str, Sequence[Detection]] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)

    def dockerfiles(self) -> None:
        """
        Look at every Dockerfile of the project.

        Raises:
            UsageError: If one cannot be read.
            CommandError: If hadolint fails.
        """
        for item in dockerfiles.read_all(self.root):
            self._outcomes += examine(dockerfiles.CHECKS, item, item.path)

    def fix(self) -> list[str]:
        """
        Fix in the Dockerfiles what can be fixed automatically; return the paths changed.

        Raises:
            UsageError: If one cannot be read.
            CommandError: If hadolint fails.
        """
        changed = []
        for item in dockerfiles.read_all(self.root):
            text = dockerfiles.fixed(item)
            if text != item.text:
                (self.root / item.path).write_text(text, encoding="utf-8")  # keeps its mode
                changed.append(item.path)
        return changed

    def compose(self, names: Iterable[str] = ()) -> None:
        """
        Look at the Compose file, and at what it renders to for environments *names*, or all.

        Raises:
            CommandError: If Compose or compose-lint refuses the file.
            UsageError: If there is no such environment.
        """
        known = load_all(self.root)
        profiles = [each.profile for each in known.values()]
        chosen = [Environment.load(name, self.root) for name in names] or list(known.values())
        for file in sorted({each.compose_file for each in chosen}):
            alone = composition.Model(profiles=frozenset(), services={}, lint=composition.compose_lint(self.root, file))
            self._outcomes += examine(composition.FILE_CHECKS, alone, str(file.relative_to(self.root)))
        for each in chosen:
            model = composition.Model.render(each, profiles)
            self._outcomes += examine(composition.CHECKS, model, f"environment {each.name}")

    def images(self, flavours: Sequence[str] = FLAVOURS) -> None:
        """
        Look at the images of *flavours*, built first where they are missing, and list what is in each.

        Raises:
            ImageError: If one cannot be built or read.
            EngineError: If the engine does not answer.
            UsageError: If a flavour is unknown.
        """
        wrong = sorted(set(flavours) - set(FLAVOURS))
        if wrong:
            raise UsageError(f"flavour must be debian or alpine, got {wrong[0]!r}")
        sizes: dict[str, int] = {}
        for flavour in (each for each in FLAVOURS if each in flavours):
            for service, image in self._images(flavour):
                sizes.setdefault(service, image.size)
                twin = sizes[service] if flavour != FLAVOURS[0] and FLAVOURS[0] in flavours else None
                name = f"stackyard/{service}:{flavour}"
                self._outcomes += examine(images.CHECKS, replace(image, twin=twin), name)
                self._list(image, service)

    def _images(self, flavour: str) -> Iterator[tuple[str, archives.Image]]:
        from stackyard import images as yard
        from stackyard.docker import Engine
        from stackyard.docker.images import architecture, export
        from stackyard.settings import Settings

        budgets = [each.budget.image_mb for each in load_all(self.root).values() if each.flavour == flavour]
        source = Settings.load().image_source
        if self.build:
            found = yard.ensure(flavour, source=source, progress=self.say, root=self.root)
        else:
            found = _existing(yard.references(flavour, source, root=self.root), flavour)
        with Engine() as engine:
            processor = architecture(engine)
            for service, reference in found.items():
                self.say(f"reading {reference}")
                image = archives.read(export(engine, reference), reference, flavour)
                budget = min(budgets) * MEGABYTE if budgets else None
                yield service, replace(image, engine=processor, budget=budget)

    def _list(self, image: archives.Image, service: str) -> None:
        path = f"reports/sbom-{service}-{image.flavour}.json"
        write_text(self.root / path, sboms.document(image, f"stackyard/{service}"))
        self._files.append(path)

    def stack(self, stack: Stack) -> None:
        """
        Look at a running stack.

        Raises:
            EngineError: If the engine does not answer or a container ended in the meantime.
        """
        self._outcomes += examine(running_stacks.CHECKS, running_stacks.look(stack), f"stack {stack.environment.name}")

    def private_stack(self, name: str) -> None:
        """
        Start a stack of environment *name* for this run alone, look at it, remove it.

        Raises:
            StackyardError: If it does not start or something of it is left.
        """
        with throwaway(Environment.load(name, self.root), self.say) as (stack, _):
            self.stack(stack)

    def detection(self, name: str) -> None:
        """
        Start a stack of environment *name*; pause, freeze, starve and kill services of it; measure when that shows.

        Raises:
            StackyardError: If it does not start, a fault cannot be caused, or something of it is left.
        """
        with throwaway(Environment.load(name, self.root), self.say, detection.QUICK) as (stack, _):
            self.say("pausing, freezing, starving and killing its services")
            found = detection.detect(stack)
        self._detections[name] = found
        self._outcomes += examine(detection.CHECKS, found, f"faults of a stack of {name}")

    def report(self) -> Report:
        """
        Apply the waivers, write what was found to `reports/` (JSON, SARIF, JUnit), and return it.

        Raises:
            ConfigError: If a waiver is wrong.
        """
        outcomes = waivers.apply(waivers.load(self.root, catalogue.IDS), self._outcomes)
        write_json(self.root / "reports/verify.sarif", outputs.sarif(outcomes))
        write_text(self.root / "reports/junit-verify.xml", outputs.junit(outcomes))
        files = [*self._files, "reports/verify.json", "reports/verify.sarif", "reports/junit-verify.xml"]
        made = Report(
            outcomes=outcomes, seconds=time.monotonic() - self._began, files=files, detections=self._detections
        )  # fmt: skip
        write_json(self.root / "reports/verify.json", made.to_json())
        return made


@contextlib.contextmanager
def throwaway(
    environment: Environment, say: Callable[[str], None], variables: Mapping[str, str] | None = None
) -> Iterator[tuple[Stack, Startup]]:
    """
    Start a stack of *environment* for a block, and remove it at the end; *variables* are set besides its own.

    Raises:
        StackyardError: If it does not start or something of it is left.
    """
    from stackyard.docker import Engine
    from stackyard.docker.lease_book import open_book
    from stackyard.stacks.environments.launch import launch
    from stackyard.stacks.starts.request import EnvironmentRequest

    with Engine() as engine:
        say(f"starting a stack of {environment.name}")
        asked = EnvironmentRequest(progress=say, variables=variables or {})
        stack, startup = launch(environment, open_book(None, engine), engine, asked)
        try:
            yield stack, startup
        finally:
            removal = stack.down()
        removal.check()


def _existing(wanted: dict[str, str], flavour: str) -> dict[str, str]:
    """
    Return *wanted* if the engine has all of it.

    Raises:
        ImageError: If an image is missing.
    """
    from stackyard import images as yard

    missing = sorted(set(wanted.values()) - {image.reference for image in yard.listing()})
    if missing:
        raise ImageError(f"image {missing[0]} is missing; {how(Action.BUILD_FLAVOUR, flavour=flavour)}")
    return wanted
