"""
Suite projects: any Compose projects, started and removed by whole commands, compared with plain Compose.

The projects are folders of this repository's tests. Each round starts and removes each project once by `stackyard up`
and `stackyard down`, and once by `docker compose up --detach --wait` and `docker compose down --volumes`, in an order
that changes with each round. The first round warms up and does not count. Every third round also starts ten copies of
each project at once, and compares the processor time of one of them with that of a copy that starts alone.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import process
from stackyard.bench import configuration, copies_at_once
from stackyard.bench.copies_at_once import COPIES
from stackyard.bench.outcomes import STAY, new_name, one_line, result_of, share, start_and_remove
from stackyard.bench.records import Findings
from stackyard.errors import LeftoversError, StackyardError, UsageError
from stackyard.project.environments import Environment, project_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stackyard.bench.options import Depth, Plan
    from stackyard.bench.outcomes import Outcome
    from stackyard.bench.records import Result

    Round = dict[str, float]  # seconds by row

ROUNDS: Final[dict[Depth, int]] = {"quick": 3, "default": 7, "full": 7}
COMMAND_TIMEOUT_S: Final = 180.0  # seconds that one command may take
FOLDER: Final = "tests/projects"
BOX: Final = "stackyard-bench/box"  # the one image of the projects
# project: the share of plain Compose's time that its removal may take; less where its processes ignore SIGTERM
PROJECTS: Final = {"five-services": 0.05, "slow-health-checks": 0.6, "static-addresses": 0.05, "replicas": 0.05}
START: Final = 0.33  # the share that a start may take
COST: Final = 1.3  # what one of many copies may cost, as a share of one alone
EVERY: Final = 3  # rounds from one start of many copies to the next
WHAT: Final = {"up": "start, the whole command", "down": "removal, the whole command"}
SUBJECTS: Final = {
    "": {"up": "stackyard up", "down": "stackyard down"},
    "compose-": {"up": "docker compose up -d --wait", "down": "docker compose down -v"},
}  # fmt: skip


def measure(plan: Plan) -> Findings:
    """
    Time both ways for each project.

    Raises:
        StackyardError: If there is no engine or no image, or no description of one. A command that fails counts.
    """
    _build_box(plan)
    rounds = plan.rounds or ROUNDS[plan.depth]
    taken: dict[str, list[Outcome]] = defaultdict(list)
    paths: dict[str, Counter[str]] = defaultdict(Counter)
    for number in range(rounds + 1):
        for name in PROJECTS:
            ways = (_by_stackyard, _by_compose) if number % 2 else (_by_compose, _by_stackyard)
            for way in ways:
                for row, outcome in _attempt(way, name, paths[name]).items():
                    plan.say(f"round {number} of {rounds}: {row} of {name}: {one_line(outcome)}")
                    if number:
                        taken[f"{name}-{row}"].append(outcome)
            if number % EVERY == 1:
                _many(name, taken, plan)
    results = [_result(name, prefix, what, taken[f"{name}-{prefix}{what}"], plan)
               for name in PROJECTS for what in WHAT for prefix in SUBJECTS]  # fmt: skip
    notes = tuple(f"{name}: {next(reversed(found), 'no start succeeded')}" for name, found in paths.items())
    return Findings(results=(*results, *_ratios(results), *_costs(taken, plan)), notes=notes)


def _build_box(plan: Plan) -> None:
    from stackyard.stacks.environments.launch import prepare_images

    box = configuration.read(project_root()).box
    if box is None:
        raise UsageError(f"{configuration.FILE} names no box, so there is no image for the containers of {FOLDER}")
    base = prepare_images(Environment.load(box.environment), plan.say)[f"STACKYARD_IMAGE_{box.service.upper()}"]
    words = ["docker", "build", "--quiet", "--build-arg", f"BASE={base}", "--tag", BOX]
    process.run([*words, str(project_root() / FOLDER / "box")], deadline=COMMAND_TIMEOUT_S)


def _attempt(way: Callable[[Path, Counter[str]], Round], name: str, path: Counter[str]) -> dict[str, Outcome]:
    prefix = "" if way is _by_stackyard else "compose-"
    try:
        with _copied(name) as folder:
            return {f"{prefix}{row}": seconds for row, seconds in way(folder, path).items()}
    except StackyardError as error:
        return {f"{prefix}{row}": error for row in WHAT}


@contextmanager
def _copied(name: str) -> Iterator[Path]:
    """Yield a copy of a project's folder that names the image which is here."""
    with tempfile.TemporaryDirectory(prefix="stackyard-bench-") as made:
        folder = Path(made, name)
        shutil.copytree(project_root() / FOLDER / name, folder)
        for file in folder.glob("*.yaml"):
            file.write_text(file.read_text().replace("image: box", f"image: {BOX}"))
        yield folder


def _by_stackyard(folder: Path, path: Counter[str]) -> Round:
    name, program = new_name(), [sys.executable, "-m", "stackyard"]
    up = [*program, "up", "--name", name, "--ttl", STAY, "--json"]
    started, removed = start_and_remove(up, [*program, "down", "--name", name], folder, COMMAND_TIMEOUT_S)
    path[_shown(json.loads(started.stdout))] += 1
    return {"up": started.seconds, "down": removed.seconds}


def _shown(startup: dict[str, Any]) -> str:
    """Say which way was used, and what held the start up: each service of its critical path and when it was ready."""
    ready = {one["service"]: one["seconds"] for one in startup["ready"]}
    steps = [f"{service} {ready[service]:.1f} s" for service in startup["critical_path"]]
    own = {service: ready[service] - startup["started"].get(service, 0.0) for service in startup["critical_path"]}
    held = max(own, key=lambda service: own[service]) if own else "nothing"
    return f"by {startup['by']}; {' -> '.join(steps)}; {held} held it up"


def _by_compose(folder: Path, _path: Counter[str]) -> Round:
    project = new_name()
    compose = ["docker", "compose", "--project-name", project]
    up, down = [*compose, "up", "--detach", "--wait"], [*compose, "down", "--volumes"]
    started, removed = start_and_remove(up, down, folder, COMMAND_TIMEOUT_S)
    listed = ["docker", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={project}"]
    if left := process.run(listed, deadline=COMMAND_TIMEOUT_S).stdout.split():
        raise LeftoversError(f"docker compose down left {len(left)} containers")
    return {"up": started.seconds, "down": removed.seconds}


def _many(name: str, taken: dict[str, list[Outcome]], plan: Plan) -> None:
    """Start one copy and many at once; note the seconds of the many, and the processor time of one of either."""
    try:
        with _copied(name) as folder:
            _, alone = copies_at_once.start(folder, 1)
            seconds, each = copies_at_once.start(folder, COPIES)
    except StackyardError as error:
        taken[f"{name}-many"].append(error)
        plan.say(f"{COPIES} copies of {name}: {one_line(error)}")
        return
    for row, value in (("many", seconds), ("cpu", alone), ("many-cpu", each), ("cost", each / alone)):
        taken[f"{name}-{row}"].append(value)
    costs = f"CPU time of each {one_line(each)}, alone {one_line(alone)}"
    plan.say(f"{COPIES} copies of {name}: {one_line(seconds)}; {costs}")


def _result(name: str, prefix: str, what: str, outcomes: Sequence[Outcome], plan: Plan) -> Result:
    return result_of(
        outcomes, plan, suite="projects", row=f"{name}-{prefix}{what}", subject=f"{SUBJECTS[prefix][what]}, {name}",
        what=WHAT[what], unit="s",
    )  # fmt: skip


def _ratios(results: Sequence[Result]) -> Iterator[Result]:
    """Compare each command with plain Compose's."""
    found = {result.row: result for result in results}
    for name, removal in PROJECTS.items():
        for what, target in (("up", START), ("down", removal)):
            yield from share(
                found[f"{name}-{what}"], found[f"{name}-compose-{what}"], row=f"ratio-{name}-{what}", target=target,
                what=f"as a share of {SUBJECTS['compose-'][what]}",
            )  # fmt: skip


def _costs(taken: dict[str, list[Outcome]], plan: Plan) -> Iterator[Result]:
    """Return what many copies at once take, and one of them costs."""
    many = f"stackyard up, {COPIES} at once"
    rows = {
        "many": (many, "until the last is ready", "s"),
        "cpu": ("stackyard up, alone", "CPU time of the host", "s"),
        "many-cpu": (many, "CPU time of the host for each", "s"),
        "cost": (many, "CPU time of each as a share of one's", "x"),
    }
    for name in PROJECTS:
        for row, (subject, what, unit) in rows.items():
            if outcomes := taken[f"{name}-{row}"]:
                yield result_of(
                    outcomes, plan, suite="projects", row=f"{name}-{row}", subject=f"{subject}, {name}", what=what,
                    unit=unit, target=COST if row == "cost" else None,
                )  # fmt: skip
