"""A stack for as long as a block runs: ``with running() as stack: ...``."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, overload

from stackyard._util import keywords
from stackyard._util.advice import Action, how
from stackyard._util.durations import seconds
from stackyard._util.event_loops import outside_any_loop
from stackyard.cleanup import removal
from stackyard.docker import Engine
from stackyard.docker.lease_book import open_book
from stackyard.errors import UsageError
from stackyard.project import Project
from stackyard.project.environments import Environment
from stackyard.project.environments.roots import ENVIRONMENTS, has_environments
from stackyard.running.stack import Stack
from stackyard.sites import Site
from stackyard.stacks.copies import lifecycle
from stackyard.stacks.environments.launch import launch
from stackyard.stacks.starts.request import CopyRequest, EnvironmentRequest, no_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from stackyard.stacks.environments.stack import Stack as PlatformStack

__all__ = ["Stack", "running"]


@overload
def running(
    environment: str,
    *,
    progress: Callable[[str], None] | None = None,
    timeout: float | None = None,
    wait: float | None = None,
    force: bool = False,
) -> AbstractContextManager[PlatformStack]: ...


@overload
def running(
    environment: None = None,
    *,
    folder: Path | str | None = None,
    files: Sequence[Path | str] = (),
    profiles: Sequence[str] = (),
    env_files: Sequence[Path | str] = (),
    variables: Mapping[str, str] | None = None,
    progress: Callable[[str], None] | None = None,
    timeout: float | None = None,
    wait: float | None = None,
    resettable: bool = False,
    site: str = "",
) -> AbstractContextManager[Stack]: ...


def running(environment: str | None = None, **options: Any) -> AbstractContextManager[Any]:
    """
    Run a stack for this block alone: a copy of the Compose project in the current folder, or one that you name.

    Before a copy starts, the stacks of processes that were killed are removed.

    Args:
        environment: An environment of `envs/docker_environments.yaml`, for a project that has this file; not one that
            keeps its data. It takes a warm stack if there is one. None means the Compose project.
        options: What the two signatures above name:

            - folder: Where Compose looks for the project, as it does for `docker compose`: there and in the folders
              above. By default the current folder.
            - files: Compose files, instead of those that Compose finds.
            - profiles: Profiles to enable.
            - env_files: Env files, instead of `.env`.
            - variables: Win over the variables of this process when Compose reads the files.
            - progress: Called with each line for the user; by default nothing is shown.
            - timeout: Seconds until the start has failed; by default the configuration's, else 120, or an environment's
              budget.
            - wait: Seconds to queue for a place; None does not wait. On a Swarm services may wait so much longer for a
              node with room for them.
            - resettable: Keep the state of the copy's data, for `stack.reset()`; the configuration may ask for it. An
              environment's stack can always be reset, a copy on a Swarm never.
            - site: Where a copy runs: `local`, `context:NAME` or `swarm`; by default what STACKYARD_SITE says. Blocks
              of a process that run at the same time have the same site.
            - force: Start an environment even if the host has too little memory.

    Raises:
        UsageError: If an option is unknown or wrong.
        StackyardError: If it cannot start; nothing that the start made is left. After the block, `LeftoversError` if
            something could not be removed.
    """
    if environment is None:
        keywords.check("a copy", options, _at_site, _found, meant={"queue_timeout": "wait"})
        return _at_site(**options)
    keywords.check("an environment", options, _platform, meant={"queue_timeout": "wait"})
    return _platform(environment, **options)


@contextlib.contextmanager
def _at_site(
    *,
    site: str = "",
    progress: Callable[[str], None] | None = None,
    timeout: float | None = None,
    wait: float | None = None,
    resettable: bool = False,
    **chosen: Any,
) -> Iterator[Stack]:
    where = Site.find(site)
    with where.used(), contextlib.ExitStack() as stack:
        timeout, wait = _time("timeout", timeout), _time("wait", wait)
        project, tell = _found(**chosen), progress or no_progress
        engine = stack.enter_context(Engine())
        if where.kind == "swarm":
            from stackyard.running.swarm_stack import on_swarm

            made: Stack = on_swarm(project, engine, timeout, wait, tell)
        else:
            made = _on_engine(project, engine, timeout, wait, resettable=resettable, tell=tell)
        stack.enter_context(_removed_after(made))
        yield made


def _found(
    *,
    folder: Path | str | None = None,
    files: Sequence[Path | str] = (),
    profiles: Sequence[str] = (),
    env_files: Sequence[Path | str] = (),
    variables: Mapping[str, str] | None = None,
) -> Project:
    for name, value in (("files", files), ("profiles", profiles), ("env_files", env_files)):
        if isinstance(value, str | os.PathLike):  # a text is a list of letters, too
            raise UsageError(f"{name} must be a list, got {str(value)!r}; write [{str(value)!r}]")
    place, caller = Path(folder or Path.cwd()).absolute(), {**os.environ, **(variables or {})}
    if not files and not caller.get("COMPOSE_FILE") and has_environments(place):
        raise UsageError(f"{place} has environments; name one of {ENVIRONMENTS}, for example running('test')")
    return Project.find(
        place, files=[*map(str, files)], profiles=profiles, env_files=[*map(str, env_files)],
        environment=caller,
    )  # fmt: skip


def _on_engine(
    project: Project, engine: Engine, timeout: float | None, wait: float | None, *, resettable: bool,
    tell: Callable[[str], None],
) -> Stack:  # fmt: skip
    book = open_book(None, engine)
    for item in removal.sweep(book, engine).left:
        tell(f"left by a run that was killed: {item}")
    asked = CopyRequest(deadline=timeout, wait=wait, resettable=resettable, progress=tell)
    return Stack(outside_any_loop(lambda: lifecycle.start(project, book, engine, asked)))


@contextlib.contextmanager
def _platform(
    environment: str,
    *,
    progress: Callable[[str], None] | None = None,
    timeout: float | None = None,
    wait: float | None = None,
    force: bool = False,
) -> Iterator[PlatformStack]:
    wanted = Environment.load(environment)
    if wanted.data == "volume":
        raise UsageError(
            f"environment {environment} keeps its data, so a block cannot have it alone; "
            f"{how(Action.START, environment=environment)}"
        )
    timeout, wait = _time("timeout", timeout), _time("wait", wait)
    with Engine() as engine:
        book = open_book(None, engine)
        asked = EnvironmentRequest(progress=progress or no_progress, wait=wait, force=force, deadline=timeout)
        stack, _ = outside_any_loop(lambda: launch(wanted, book, engine, asked))
        with _removed_after(stack):
            yield stack


def _time(name: str, value: float | None) -> float | None:
    return None if value is None else seconds(name, value)


@contextlib.contextmanager
def _removed_after(stack: Stack | PlatformStack) -> Iterator[None]:
    pid = os.getpid()
    try:
        yield
    finally:
        # a fork inside the block leaves it too, and must not remove its parent's stack
        if os.getpid() == pid:
            stack.down().check()


class _Callable(ModuleType):
    """This module; its name in the package is that of its function, so `stackyard.running()` calls the module."""

    def __call__(self, *words: Any, **options: Any) -> AbstractContextManager[Any]:
        return running(*words, **options)


sys.modules[__name__].__class__ = _Callable
