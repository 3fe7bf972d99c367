"""Invoke's program with stackyard's own parser, its own help, and exit code 2 for wrong arguments."""

from __future__ import annotations

import invoke.main
from invoke.exceptions import Exit, ParseError
from invoke.parser.context import ParserContext
from invoke.parser.parser import ParseResult
from invoke.program import Program as InvokeProgram

from stackyard.cli.common import failing_cleanly
from stackyard.cli.parser import HelpWantedError, read
from stackyard.cli.task import Command
from stackyard.errors import UsageError


class Program(InvokeProgram):
    """`invoke` as this project has it; overrides the steps that Invoke documents for subclasses."""

    @failing_cleanly
    def parse_tasks(self) -> None:
        """Read the tasks and their options."""
        self.parser = self._make_parser()
        self.core_via_tasks = ParserContext()  # options of `invoke` itself stand before the first task
        try:
            self.tasks = ParseResult(self._typed())
        except HelpWantedError as wanted:
            self.print_task_help(str(wanted))
            raise Exit from None

    @failing_cleanly
    def parse_cleanup(self) -> None:
        """Answer ``--help TASK``, ``--list`` and the like."""
        try:
            super().parse_cleanup()
        except ParseError as error:
            raise UsageError(str(error)) from None

    def print_task_help(self, name: str) -> None:
        """Print the help of one task."""
        found = self.collection[name]
        if isinstance(found, Command):
            print(found.usage(name, self.binary_names[0] if self.namespace else "invoke"))
        else:
            super().print_task_help(name)

    def _typed(self) -> list[ParserContext]:
        """Return the tasks that were typed; none of them runs where `invoke` itself is asked for help."""
        if self.args.help.value:
            return []
        return read(self.core.unparsed, self._after(), self.parser.contexts, self.collection)

    def _after(self) -> list[str]:
        """Return the words after ``--``, which Invoke joins into one text."""
        return self.argv[self.argv.index("--") + 1 :] if "--" in self.argv else []

    @classmethod
    def take_over(cls) -> None:
        """
        Let the `invoke` that is reading tasks.py right now go on as this class.

        The console script of Invoke makes a program of Invoke's own class, and offers tasks.py no way to name another.
        Does nothing where tasks.py is imported by anything else.
        """
        running = invoke.main.program
        if running.argv:
            running.__class__ = cls
