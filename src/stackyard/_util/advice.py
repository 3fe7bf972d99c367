"""
What a person can do next. The library names an action; the front end knows the command line for it.

Without a front end, in somebody else's test session for example, a text names the action in plain words only.
"""

from __future__ import annotations

import shlex
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class Action(Enum):
    """An action; its value says it in plain words."""

    BENCH = "run the benchmarks"
    BENCH_FULL = "run all benchmarks at full depth"
    BENCH_STARTS = "measure the start-up"
    BUILD = "build the images"
    BUILD_FLAVOUR = "build the images of this flavour"
    CHECK_HOST = "check this machine"
    CLEAN_UP = "remove stale stacks"
    CLEAN_UP_ALL = "remove every stack"
    CLEAN_UP_IMAGES = "remove images that nothing needs"
    END = "end the copy"
    EXECUTE = "run a command inside a service"
    EXTEND = "let it stay longer"
    INSTALL = "install Docker Engine, Compose and buildx, about 93 MB"
    INSTALL_BROWSER = "install a browser"
    KEEP = "start it again and keep it"
    LEASES = "list all leases"
    LOGS = "read the services' logs"
    MEND_HOST = "let stackyard install it"
    REMOVE = "remove it"
    RUN_REGISTRY = "run a registry on the Swarm"
    START = "start it for several commands"
    START_ONE = "start a stack"
    STATUS = "look at the stack"
    TEST = "run the platform's tests"
    TRUST_REGISTRY = "see how a node trusts the registry's certificate"
    VERIFY = "verify the platform"
    WAIT = "ask the services themselves"


WITH_SITE: Final = frozenset({  # those whose commands have the option --site
    Action.CLEAN_UP, Action.CLEAN_UP_IMAGES, Action.END, Action.LEASES, Action.RUN_REGISTRY, Action.TRUST_REGISTRY,
})  # fmt: skip
_commands: dict[Action, str] = {}
_site: list[str] = []  # the option that the user's own command named, as words


def offer(commands: Mapping[Action, str]) -> None:
    """Let texts name these *commands* and no others; `typed` fills in the parts in braces, such as `{name}`."""
    _commands.clear()
    _commands.update(commands)


def typed(action: Action, **facts: str) -> str:
    """Return the command line that does *action*, or the action in plain words where no front end offers one."""
    if action not in _commands:
        return action.value
    line = _commands[action].format(**facts)
    return at_site(line) if action in WITH_SITE else line


def how(action: Action, **facts: str) -> str:
    """Return the action in plain words, and in brackets its command line where a front end offers one."""
    return f"{action.value} ('{typed(action, **facts)}')" if action in _commands else action.value


def end_and_start(lease: str) -> str:
    """Return what to do with a copy that cannot be used any more, by its lease."""
    return f"{how(Action.END, name=lease)} and start it again"


def choose_site(site: str) -> None:
    """Let the command lines of texts have the option `--site` that the user's own command has; none if empty."""
    _site[:] = ["--site", shlex.quote(site)] if site else []


def at_site(line: str) -> str:
    """Return a command line with the user's own option `--site`, before the words of a command that runs inside."""
    head, dashes, inside = line.partition(" -- ")
    return f"{' '.join([head, *_site])}{dashes}{inside}"
