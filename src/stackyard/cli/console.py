"""The console program `stackyard`: copies of the Compose project in the current folder."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import advice, optional_packages, streams
from stackyard._util.advice import Action, at_site

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from invoke.parser.context import ParserContext
    from invoke.tasks import Task

try:
    from invoke.collection import Collection

    from stackyard import __version__
    from stackyard.cli import cleanup, copies, doctor, project, site
    from stackyard.cli.common import current_folder
    from stackyard.cli.parser import Speaker, read
    from stackyard.cli.program import Program
    from stackyard.cli.task import columns, entry
    from stackyard.project.environments.roots import has_environments
except KeyboardInterrupt:
    sys.exit(130)
except ModuleNotFoundError as error:
    if (missing := optional_packages.explained(error)) is None:
        raise
    print(missing, file=sys.stderr)
    sys.exit(missing.exit_code)

NAME = "stackyard"
COLUMN: Final = 18  # columns for the names of commands
COMMANDS: Final = {
    Action.CHECK_HOST: f"{NAME} doctor",
    Action.CLEAN_UP: f"{NAME} cleanup",
    Action.CLEAN_UP_IMAGES: f"{NAME} cleanup-images",
    Action.END: f"{NAME} down --name {{name}}",
    Action.INSTALL: f"{NAME} doctor --fix",
    Action.LEASES: f"{NAME} ps --all",
    Action.MEND_HOST: f"{NAME} doctor --fix",
    Action.RUN_REGISTRY: f"{NAME} site registry",
    Action.TRUST_REGISTRY: f"{NAME} site registry",
}
OF_ENVIRONMENTS: Final = {  # where the same word may be another command
    Action.EXECUTE: f"{NAME} exec redis -- redis-cli ping",
    Action.EXTEND: f"{NAME} renew --name {{name}} --ttl 4h",
    Action.KEEP: f"{NAME} up --environment {{environment}} --keep",
    Action.LEASES: f"{NAME} ports",
    Action.LOGS: f"{NAME} logs",
    Action.REMOVE: f"{NAME} down --name {{name}}",
    Action.START_ONE: f"{NAME} up",
    Action.STATUS: f"{NAME} ps",
    Action.WAIT: f"{NAME} wait",
}


# what docker compose does with a project's name alone; with its files it would take a copy for the project itself
BY_PROJECT: Final = (
    "attach", "commit", "cp", "events", "export", "kill", "pause", "restart", "stats", "stop", "top", "unpause", "wait",
)  # fmt: skip
# options of docker compose that many people type
NEEDLESS: Final = {
    "up": {
        "-d --detach": "a copy always runs in the background",
        "--wait": "it always waits until every service is ready",
        "--wait-timeout": "give the time with --timeout",
        "--build": "it builds what is missing or has changed",
        "--pull": "the service's 'pull_policy' in the Compose file decides",
        "--scale": "write 'scale: N' to the service in the Compose file",
        "--remove-orphans": "a copy has no other containers than its own",
        "--force-recreate": f"'{NAME} down' and '{NAME} up' make all containers again",
    },
    "down": {
        "-v --volumes": "a copy's volumes always go with it",
        "--remove-orphans": "all containers of the copy always go",
        "-t --timeout": "containers are killed at once; --graceful gives them the file's 'stop_grace_period'",
        "--rmi": f"'{NAME} cleanup-images' removes images that nothing needs",
    },
    "run": {
        "--rm": "it always removes the copy at the end",
        "-d --detach": f"'{NAME} up' leaves a copy running",
        "--build": "it builds what is missing or has changed",
    },
    "exec": {
        "-i -t --interactive --tty -T --no-tty": "it takes this terminal if there is one",
    },
}  # fmt: skip
SPEAKER: Final = Speaker(
    program=NAME, noun="command", listing=f"{NAME} --help",
    meant={
        "config": "explain", "convert": "explain", "list": "ps", "ls": "ps", "port": "ports", "rm": "down",
        "start": "up", "status": "ps",
    },
    instead={
        word: f"'{{docker}} compose -p PROJECT {word} SERVICE' does that; {{prints}}" for word in BY_PROJECT
    } | {
        word: f"'docker compose {word}' does that, with the project itself" for word in ("bridge", "publish")
    } | {
        "build": f"'{NAME} up' builds what is missing or has changed",
        "create": f"'{NAME} up' creates and starts a copy in one step",
        "images": f"'{NAME} check' names images that are not here, '{NAME} cleanup-images' removes unused ones",
        "pull": "'{docker} compose pull' does that, for all copies",
        "push": "'{docker} compose push' does that, with the images of the project itself",
        "scale": "write 'scale: N' to the service in the Compose file before a copy is started",
        "version": f"'{NAME} --version' prints it",
        "volumes": "'{docker} volume ls --filter label=com.docker.compose.project=PROJECT' does that; {prints}",
        "watch": "a copy takes changed files with its next start; 'docker compose watch' is for the project itself",
    },
    needless={
        f"{command} {flag}": reason
        for command, options in NEEDLESS.items() for flags, reason in options.items() for flag in flags.split()
    },
    removing=frozenset({"cleanup", "cleanup-images", "down", "reset"}), several=False,
)  # fmt: skip


class Console(Program):
    """Invoke's program with one command in each call, whose name stands first."""

    def print_help(self) -> None:
        """Print what each command does. None of Invoke's own options is of use here."""
        lines = [f"Usage: {NAME} COMMAND [options]", "", "Commands:"]
        for name, command in self.collection.tasks.items():
            lines += entry(name, command.summary().partition(";")[0].rstrip("."), columns(), COLUMN)
        print("\n".join([*lines, "", f"'{NAME} COMMAND --help' shows a command's options."]))

    def _typed(self) -> list[ParserContext]:
        words = list(self.core.unparsed)
        if words[:1] == ["help"]:
            words = [*words[1:], "--help"]
        if self.args.help.value or words == ["--help"]:
            return []  # without a command Invoke prints the help
        # a service may have the name of a command
        known = {words[0]: self.parser.contexts[words[0]]} if words and words[0] in self.parser.contexts else None
        speaker = SPEAKER if known or not words else replace(SPEAKER, instead=self._instead(words))
        return read(words, self._after(), known or self.parser.contexts, self.collection, speaker)

    def _instead(self, words: Sequence[str]) -> dict[str, str]:
        """Return what does the unknown command that was typed, at the site that the other words name."""
        if (text := SPEAKER.instead.get(words[0])) is None:
            return {}
        place = site.named(words)
        if "PROJECT" in text and place.kind == "swarm":
            return {words[0]: "docker compose knows no copy on a Swarm; 'docker service ls' lists its services"}
        prints = at_site(f"{NAME} env") if "env" in self.parser.contexts else "docker compose ls"
        docker = " ".join(place.docker)
        return {words[0]: text.format(docker=docker, prints=f"'{prints}' prints the PROJECT of a copy")}


def commands(folder: Path | None = None) -> dict[Action, str]:
    """Return the command lines that texts advise in a *folder*: it has them, whether it has environments or not."""
    return {**COMMANDS, **(OF_ENVIRONMENTS if folder and has_environments(folder) else {})}


def namespace(folder: Path | None = None) -> Collection:
    """Return the commands of copies; for a *folder* with environments theirs, as `invoke` has them."""
    found = Collection()
    tasks = _of_environments() if folder and has_environments(folder) else copies.every_task()
    before = {"check": project.check, "explain": project.explain}
    after = {"cleanup": cleanup.stale, "cleanup-images": cleanup.images, "doctor": doctor.doctor, "site": site.site}
    for name, body in {**before, **tasks, **after}.items():
        found.add_task(body, name=name, default=False)
    return found


def _of_environments() -> Mapping[str, Task[Any]]:
    from stackyard.cli import env, ports, up

    return {
        "up": up.up, "down": up.down, "ps": env.status, "ports": ports.show, "logs": env.logs, "exec": env.exec_,
        "wait": env.wait, "renew": ports.renew, "reset": env.reset,
    }  # fmt: skip


def program() -> Console:
    """Return the program."""
    return Console(
        version=__version__, namespace=namespace(current_folder()), name=NAME, binary=NAME, binary_names=[NAME]
    )


def main() -> None:
    """Run the command that was typed."""
    streams.guard()
    advice.offer(commands(current_folder()))
    program().run()
