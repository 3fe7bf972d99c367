"""The class of every task: its options have one name each, its help is plain text, and its errors are one line."""

from __future__ import annotations

import difflib
import inspect
import shutil
import textwrap
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Final, cast

from invoke.tasks import Task

from stackyard._util import bytecode
from stackyard._util.durations import seconds
from stackyard.cli.common import failing_cleanly
from stackyard.cli.options import USUAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stackyard.cli.options import Option

COLUMN: Final = 32  # columns for the names of an option; longer ones get a line of their own
WIDEST: Final = 120  # columns of help, on a wider terminal too


class Command(Task[Any]):
    """
    A task whose options are declared, not guessed.

    Args:
        body: The function; each of its parameters is an option. One whose default is an empty tuple takes several
            values.
        options: What the parameters are, by their Python names; for others the names of `USUAL` say it.
        words: Parameters that a plain word fills, in this order; a list takes all that are left.
        rest: Parameter that takes the words after ``--``; empty if none may stand there.
        settings: What Invoke's own class takes: ``name``, ``default``, ``aliases``.
    """

    def __init__(
        self,
        body: Callable[..., Any],
        *,
        options: Mapping[str, Option] | None = None,
        words: Sequence[str] = (),
        rest: str = "",
        **settings: Any,
    ) -> None:
        known = USUAL | dict(options or {})
        parameters = inspect.signature(body).parameters.values()
        self.options = {each.name: known[each.name] for each in parameters}
        self.words = tuple(words)
        self.rest = rest
        self.many = frozenset(each.name for each in parameters if each.default == ())
        super().__init__(
            failing_cleanly(_in_context(body, self.options)), positional=list(words), iterable=self.many,
            auto_shortflags=False, **settings,
        )  # fmt: skip

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Run the task; Python keeps what it compiles for it."""
        with bytecode.kept():
            return super().__call__(*arguments, **options)

    def argspec(self, body: Callable[..., Any]) -> inspect.Signature:
        """Return the parameters that are options, which all of them are here; Invoke calls this."""
        return inspect.signature(body)

    def arg_opts(self, name: str, default: Any, taken_names: set[str]) -> dict[str, Any]:
        """Return what Invoke needs to know of one parameter; Invoke calls this."""
        option, usual = self.options[name], cast("str", None if name in self.many else default)
        found = super().arg_opts(name, usual, taken_names)
        found["names"] = (dashed(name), *((option.short,) if option.short else ()), *option.old)
        found["help"] = option.help
        return found

    def option(self, flag: str) -> str:
        """Return the parameter that *flag*, such as ``--name`` or ``-n``, belongs to; empty for none."""
        if not flag.startswith("-"):
            return ""
        bare = flag.removeprefix("-").removeprefix("-")
        for name, option in self.options.items():
            if not option.hidden and bare and bare in {dashed(name), option.short, *option.old}:
                return name
        return ""

    def flags(self) -> list[str]:
        """Return the long names of the options, old names left out."""
        return [f"--{dashed(name)}" for name, option in self.options.items() if not option.hidden]

    def nearest(self, flag: str) -> str:
        """Return the option that *flag* most resembles, old names counted; empty if none does."""
        names = {
            flagged(spelt): f"--{dashed(name)}"
            for name, option in self.options.items()
            if not option.hidden
            for spelt in (dashed(name), *option.old)
        }
        begun = [known for known in self.flags() if known.startswith(flag) and len(flag) > len("--")]
        near = difflib.get_close_matches(flag, names, n=1)
        return begun[0] if begun else names[near[0]] if near else ""

    def usage(self, called: str, program: str = "invoke") -> str:
        """Return the help of the task under the name *called* of *program*, as wide as the terminal."""
        width, usage = columns(), f"Usage: {program} {called}{self.pattern()} [options]"
        lines = [usage, "", *_wrapped(self.summary(), width), "", "Options:"]
        for name, option in self.options.items():
            if not option.hidden:
                lines += entry(_spelt(name, option), option.help, width)
        lines += entry("-h, --help", "Show this help.", width)
        if old := ", ".join(self._renamed()):
            lines += ["", *_wrapped(f"Old names, accepted until the next release: {old}.", width)]
        return "\n".join(lines)

    def summary(self) -> str:
        """Return what the task does, in one line."""
        return " ".join((self.__doc__ or "").split())

    def pattern(self) -> str:
        """Return the words that may follow the task's name, as its usage shows them."""
        words = (f"{self.options[name].value}{'...' if name in self.many else ''}" for name in self.words)
        return "".join(f" [{word}]" for word in words) + (f" -- {self.options[self.rest].value}" if self.rest else "")

    def _renamed(self) -> Iterator[str]:
        for name, option in self.options.items():
            if option.old:
                yield f"{', '.join(map(flagged, option.old))} for --{dashed(name)}"


def _in_context(body: Callable[..., Any], options: Mapping[str, Option]) -> Callable[..., Any]:
    """Return *body* as Invoke calls it: with its context first, which no task here needs, and with times as text."""

    @wraps(body)
    def called(_context: object, *arguments: Any, **given: Any) -> Any:
        texts = {name: text for name, text in given.items() if text and options[name].is_time}
        times = {name: seconds(f"--{dashed(name)}", text) for name, text in texts.items()}
        return body(*arguments, **given | times)

    return called


def command(**settings: Any) -> Callable[[Callable[..., Any]], Command]:
    """Make a function a task; *settings* are those of `Command`."""
    return partial(Command, **settings)


def columns() -> int:
    """Return how wide help is."""
    return min(shutil.get_terminal_size().columns, WIDEST)


def dashed(name: str) -> str:
    """Return a parameter's name as its option is typed, without the dashes in front."""
    return name.strip("_").replace("_", "-")


def flagged(name: str) -> str:
    """Return *name* with the dashes that it is typed with."""
    return f"-{name}" if len(name) == 1 else f"--{name}"


def _wrapped(text: str, width: int) -> list[str]:
    """Return the lines of *text*; an option's name stays whole."""
    return textwrap.wrap(text, width, break_on_hyphens=False)


def _spelt(name: str, option: Option) -> str:
    short = f"-{option.short}, " if option.short else "    "
    return f"{short}--{dashed(name)}{f' {option.value}' if option.value else ''}"


def entry(names: str, text: str, width: int, column: int = COLUMN) -> list[str]:
    """Return the lines of one option or command: its names, and from *column* on its text."""
    lines = _wrapped(text, max(width - column, 30)) or [""]
    head = f"  {names}"
    if len(head) < column - 1:
        return [f"{head:<{column}}{lines[0]}", *(" " * column + line for line in lines[1:])]
    return [head, *(" " * column + line for line in lines)]
