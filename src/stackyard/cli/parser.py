"""
What a user typed after `invoke` or `stackyard`, read into tasks and their options.

Neither Invoke's parser nor argparse does this. After a task that takes a word, Invoke's takes anything as that word,
``--help`` and misspelt options too, and it joins the words after ``--`` into one text. argparse reads one task only,
accepts an empty value, takes an option with a space in it for a word, and for a wrong letter blames the letter before
it. This parser follows the rules of GNU's getopt: options and words in any order, ``--name VALUE``, ``--name=VALUE``,
``-n VALUE``, ``-nVALUE``, several letters after one dash, and ``--`` ends the options.
"""

from __future__ import annotations

import copy
import difflib
import sys
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from stackyard.cli.task import Command, dashed
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from invoke.collection import Collection
    from invoke.parser.argument import Argument
    from invoke.parser.context import ParserContext

HELP: Final = ("--help", "-h")
WIDTH: Final = 60  # columns of a wrong word that a message shows
NEAR: Final = 0.6  # how like a command a word must be to be taken for it, as difflib measures it
ALMOST: Final = 0.85  # the same for a command that removes something: 'restart' must not lead to 'reset'


class HelpWantedError(Exception):
    """The user asks for the help of a task; the text is the task's name."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """
    The program that reads, as its messages name it.

    Attributes:
        program: Its name.
        noun: What it calls a task.
        listing: The command line that shows all of them.
        meant: Words that other programs have for its commands, such as `stop`, each with the command.
        instead: Words of other programs for what it does not do, each with what does it.
        needless: Options of other programs that a command does without, by ``COMMAND OPTION``, each with the reason.
        removing: Commands that remove something: proposed only for a word that is almost the same.
        several: Whether one call may name several.
    """

    program: str = "invoke"
    noun: str = "task"
    listing: str = "invoke --list"
    meant: Mapping[str, str] = field(default_factory=dict)
    instead: Mapping[str, str] = field(default_factory=dict)
    needless: Mapping[str, str] = field(default_factory=dict)
    removing: frozenset[str] = frozenset()
    several: bool = True


INVOKE: Final = Speaker()


def read(
    words: Iterable[str],
    after: Sequence[str],
    contexts: Mapping[str, ParserContext],
    collection: Collection,
    speaker: Speaker = INVOKE,
) -> list[ParserContext]:
    """
    Return the tasks that *words* name, each with the values given to it.

    Args:
        words: What was typed, up to ``--``.
        after: What was typed after ``--``; it belongs to the last task.
        contexts: The tasks' options as Invoke keeps them, by the tasks' names.
        collection: Where the tasks are.
        speaker: Who reads, for messages.

    Raises:
        UsageError: If a word, an option or a value is not known, or missing.
        HelpWantedError: If ``--help`` is among the options of a task.
    """
    queue, found = deque(words), list[_Typed]()
    while queue:
        name = queue.popleft()
        if name not in contexts:
            raise UsageError(_no_task(name, contexts, speaker))
        typed = _Typed(name, collection[name], copy.deepcopy(contexts[name]), speaker)
        while queue and not (speaker.several and queue[0] in contexts):
            typed.take(queue.popleft(), queue)
        found.append(typed)
    if after:
        _last(found, speaker).take_rest(after)
    return [typed.context for typed in found]


@dataclass(slots=True)
class _Typed:
    """One task as it was typed."""

    name: str
    command: Command
    context: ParserContext
    speaker: Speaker
    words: list[str] = field(default_factory=list)

    def take(self, word: str, following: deque[str]) -> None:
        if word in HELP:
            raise HelpWantedError(self.name)
        if word.startswith("--"):
            self._long(word, following)
        elif word.startswith("-") and word != "-":
            self._letters(word, following)
        else:
            self._word(word)

    def take_rest(self, words: Sequence[str]) -> None:
        if not self.command.rest:
            raise UsageError(f"{self.name} takes no words after '--', got {_shown(' '.join(words))}")
        for word in words:
            self.context.args[self.command.rest].value = word

    def _long(self, word: str, following: deque[str]) -> None:
        flag, given, value = word.partition("=")
        argument = self._argument(flag)
        if argument.takes_value:
            argument.value = self._filled(flag, argument, value if given else self._next(flag, argument, following))
        elif given:
            raise UsageError(f"{flag} of {self.name} takes no value, got {_shown(value)}")
        else:
            argument.set_value(True)

    def _letters(self, word: str, following: deque[str]) -> None:
        letters = word[1:]
        while letters:
            flag, letters = f"-{letters[0]}", letters[1:]
            argument = self._argument(flag)
            if argument.takes_value:
                value = letters.removeprefix("=") if letters else self._next(flag, argument, following)
                argument.value = self._filled(flag, argument, value)
                return
            argument.set_value(True)

    def _word(self, word: str) -> None:
        if not word:
            raise UsageError(f"{self.name} got an empty word; is a variable in the command empty?")
        for name in self.command.words:
            argument = self.context.args[dashed(name)]
            if argument.kind is list or not argument.got_value:
                argument.value = word
                self.words.append(word)
                return
        most = f"at most {len(self.words)} {'word' if len(self.words) == 1 else 'words'}" if self.words else "no words"
        line = " ".join([self.speaker.program, self.name, *self.words, "--", word[:WIDTH], "..."])
        rest = f"; a command follows '--', as in '{line}'" if self.command.rest else ""
        raise UsageError(
            f"{self.name} takes {most}, got {_shown(word)}{rest}; its options: {', '.join(self.command.flags())}"
        )

    def _argument(self, flag: str) -> Argument:
        name = self.command.option(flag)
        if not name:
            if reason := self.speaker.needless.get(f"{self.name} {flag}"):
                raise UsageError(f"{self.name} needs no option {flag}: {reason}")
            near = self.command.nearest(flag[:WIDTH])
            meant = f"did you mean {near}? " if near else ""
            known = ", ".join(self.command.flags())
            raise UsageError(f"{self.name} has no option {_shown(flag)}; {meant}its options: {known}")
        if flag.removeprefix("-").removeprefix("-") in self.command.options[name].old:
            print(f"note: {flag} is now --{dashed(name)}; the old name goes with the next release", file=sys.stderr)
        found: Argument = self.context.args[dashed(name)]
        return found

    def _next(self, flag: str, argument: Argument, following: deque[str]) -> str:
        if following and following[0] not in HELP and not self.command.option(following[0].partition("=")[0]):
            return following.popleft()
        raise UsageError(f"{flag} of {self.name} needs a value: {self._described(flag, argument)}")

    def _filled(self, flag: str, argument: Argument, value: str) -> str:
        # an empty variable of a script must not mean "the only stack there is"
        if not value:
            raise UsageError(f"{flag} of {self.name} got an empty value: {self._described(flag, argument)}")
        return value

    def _described(self, flag: str, argument: Argument) -> str:
        return f"{flag} {self.command.options[self.command.option(flag)].value}: {argument.help}"


def _last(found: Sequence[_Typed], speaker: Speaker) -> _Typed:
    if not found:
        raise UsageError(f"name a {speaker.noun} before '--'; '{speaker.listing}' shows all {speaker.noun}s")
    return found[-1]


def _no_task(name: str, contexts: Mapping[str, ParserContext], speaker: Speaker) -> str:
    program, noun = speaker.program, speaker.noun
    if name.startswith("-"):
        meant = "did you mean --version? " if name in {"-v", "-V"} else ""
        known = f"options of a {noun} follow its name; see '{program} --help'"
        return f"{program} has no option {_shown(name)}; {meant}{known}"
    members = [known for known in contexts if known.startswith(f"{name}.")]
    if members:
        return f"{name} is a group of tasks, name one of them: {', '.join(members)}"
    if name in speaker.instead:
        return f"{program} has no {noun} {_shown(name)}; {speaker.instead[name]}"
    near = [speaker.meant[name]] if name in speaker.meant else _near(name[:WIDTH], contexts, speaker)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"no {noun} {_shown(name)}; {meant}'{speaker.listing}' shows all {noun}s"


def _near(word: str, contexts: Iterable[str], speaker: Speaker) -> list[str]:
    safe = [known for known in contexts if known not in speaker.removing]
    almost = difflib.get_close_matches(word, speaker.removing.intersection(contexts), n=1, cutoff=ALMOST)
    return almost or difflib.get_close_matches(word, safe, n=1, cutoff=NEAR)


def _shown(word: str) -> str:
    return repr(word) if len(word) <= WIDTH else f"{word[:WIDTH]!r}..."
