"""The console program `stackyard`: copies of whatever Compose project the current folder holds."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from stackyard._util import actions, streams
from stackyard._util.actions import Action

if TYPE_CHECKING:
    from invoke.parser.context import ParserContext

try:
    from invoke.collection import Collection

    from stackyard import __version__
    from stackyard.cli import cleanup, copies, doctor, project
    from stackyard.cli.parser import read
    from stackyard.cli.program import Program
    from stackyard.errors import UsageError
except KeyboardInterrupt:
    sys.exit(130)

NAME = "stackyard"
COMMANDS: Final = {
    Action.CHECK_HOST: f"{NAME} doctor",
    Action.CLEAN_UP: f"{NAME} cleanup",
    Action.LEASES: f"{NAME} ps --all",
    Action.MEND_HOST: f"{NAME} doctor --fix",
}


class Console(Program):
    """Invoke's program with one command in each call, whose name stands first."""

    def _typed(self) -> list[ParserContext]:
        if self.args.help.value:
            return []
        words = list(self.core.unparsed)
        # a service may have the name of a command
        known = {words[0]: self.parser.contexts[words[0]]} if words and words[0] in self.parser.contexts else None
        try:
            return read(words, self._after(), known or self.parser.contexts, self.collection)
        except UsageError as error:
            raise UsageError(str(error).replace("'invoke ", f"'{NAME} ").replace("invoke has", f"{NAME} has")) from None


def namespace() -> Collection:
    """Return the commands."""
    found = Collection()
    found.add_task(project.check, name="check")
    found.add_task(project.explain, name="explain")
    for name, body in copies.every_task().items():
        found.add_task(body, name=name)
    found.add_task(cleanup.stale, name="cleanup")
    found.add_task(doctor.doctor, name="doctor", default=False)
    return found


def program() -> Console:
    """Return the program."""
    return Console(version=__version__, namespace=namespace(), name=NAME, binary=NAME, binary_names=[NAME])


def main() -> None:
    """Run the command that was typed."""
    streams.guard()
    actions.offer(COMMANDS)
    program().run()
