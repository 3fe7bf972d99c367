"""Stackyard's commands for a project's own tasks.py: ``ns.add_collection(stackyard.invoke.collection())``."""

from __future__ import annotations

from invoke.collection import Collection

from stackyard._util import advice, bytecode

with bytecode.kept():
    from stackyard.cli import cleanup, console, copies, doctor, project
    from stackyard.cli.common import current_folder

__all__ = ["collection"]


def collection(name: str = "stack") -> Collection:
    """
    Return a collection of the commands of the program `stackyard`: up, down, ps, ports, env, logs, check and so on.

    `exec` and `run` are not in it, because Invoke gives tasks no words after ``--``.

    Args:
        name: Its name.
    """
    advice.offer(console.commands(current_folder()))  # this project has none of the tasks of stackyard's own tasks.py
    found = Collection(name)
    always = {"check": project.check, "explain": project.explain, "cleanup": cleanup.stale, "doctor": doctor.doctor}
    for word, body in {**copies.every_task(), **always}.items():
        if word not in {"exec", "run"}:
            found.add_task(body, name=word, default=False)
    return found
