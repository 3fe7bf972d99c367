"""The arguments of `./noxw`, checked before anything starts: a wrong one gives one line that names the right one."""

from __future__ import annotations

import ast
import difflib
import os
import shlex
from typing import TYPE_CHECKING, Final, NoReturn

from stackyard.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

FLAGS: Final = ("-s", "-e", "--session=", "--sessions=")  # options that hold a session's name in the same word
VARIABLE: Final = "NOXSESSION"
YES: Final = "--yes"
NO_ENGINE: Final = "--no-engine"
SETUP_ONLY: Final = "--setup-only"
OWN: Final = frozenset({YES, NO_ENGINE, SETUP_ONLY})  # noxw's options, which nox never sees
ENGINELESS: Final = frozenset({"lint", "types", "unit", "browser", "matrix"})  # sessions
QUIET: Final = ("help", "version", "list_sessions", "usage")  # nox runs no session with one of these


def split(words: Sequence[str]) -> tuple[frozenset[str], list[str]]:
    """Return the options of noxw itself among *words*, and the rest, which is nox's."""
    end = list(words).index("--") if "--" in words else len(words)
    own = frozenset(words[:end]) & OWN
    return own, [*(word for word in words[:end] if word not in OWN), *words[end:]]


def needs_engine(words: Sequence[str]) -> bool:
    """Tell whether a session that was named, or picked by tag or keyword, may need Docker; the default ones do not."""
    end = list(words).index("--") if "--" in words else len(words)
    given = vars(_parsed(words[:end])[0])
    if any(given.get(name) for name in QUIET):
        return False
    names = given.get("sessions") or os.environ.get(VARIABLE, "").replace(",", " ").split()
    picked = any(given.get(name) for name in ("tags", "keywords"))
    return picked or any(name not in ENGINELESS for name in names)


def checked(words: Sequence[str], noxfile: Path) -> list[str]:
    """
    Return nox's words with every session under the name that nox knows, `alpine-test` as `alpine_test` for example.

    Args:
        words: What nox gets, including -- and what follows.
        noxfile: The file that defines the sessions.

    Raises:
        UsageError: If a session or an option does not exist, or a word is in the wrong place.
    """
    end = list(words).index("--") if "--" in words else len(words)
    options, rest = list(words[:end]), list(words[end:])
    given, unknown = _parsed(options)
    if hasattr(given, "noxfile"):
        return list(words)
    known = names(noxfile)
    sessions = _spelt(options, known, getattr(given, "sessions", []))
    _check_sessions(sessions, known)
    if unknown:
        raise UsageError(_about_option(unknown, options, sessions))
    if given.posargs:
        raise UsageError(_about_word(given.posargs, known))
    if sessions and hasattr(given, "keywords"):
        own = ["-k", given.keywords]
        raise UsageError(
            f"-s and -k both pick sessions; if -k is for pytest, put -- before it: {_typed(sessions, own)}"
        )
    return options + rest


def names(noxfile: Path) -> list[str]:
    """Return the names of the sessions that *noxfile* defines, without running it."""
    body = ast.parse(noxfile.read_text(encoding="utf-8")).body
    return [each.name for each in body if isinstance(each, ast.FunctionDef) and each.decorator_list]


def _parsed(options: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return what nox's own parser makes of *options*, and the options it does not know."""
    from nox._options import options as model

    def refuse(message: str) -> NoReturn:
        raise UsageError(f"{message}; `./noxw --help` lists nox's options")

    parser = model.parser()
    parser.error = refuse  # type: ignore[method-assign]
    return parser.parse_known_args(list(options))


def _spelt(options: list[str], known: Sequence[str], sessions: Sequence[str]) -> list[str]:
    """Return the sessions that were asked for, hyphens corrected there, in *options*, and in NOXSESSION."""
    asked = list(sessions) or [name for name in os.environ.get(VARIABLE, "").split(",") if name]
    right = {name: name.replace("-", "_") for name in asked if name not in known and name.replace("-", "_") in known}
    for index, word in enumerate(options):
        head = next((flag for flag in FLAGS if word.startswith(flag) and word != flag), "")
        options[index] = head + right.get(word.removeprefix(head), word.removeprefix(head))
    corrected = [right.get(name, name) for name in asked]
    if VARIABLE in os.environ and not sessions:
        os.environ[VARIABLE] = ",".join(corrected)
    return corrected


def _check_sessions(sessions: Sequence[str], known: Sequence[str]) -> None:
    for index, name in enumerate(sessions):
        if name in known:
            continue
        near = difflib.get_close_matches(name, known, n=1)
        if near:
            raise UsageError(f"no session '{name}'; did you mean '{near[0]}'?")
        if index:
            raise UsageError(f"no session '{name}'; {_after(sessions[:index], sessions[index:])}")
        raise UsageError(f"no session '{name}'; there are {', '.join(known)}")


def _about_option(unknown: Sequence[str], options: Sequence[str], sessions: Sequence[str]) -> str:
    """Say what *unknown*, the options that nox does not know, should have been."""
    from nox._options import options as model

    first = unknown[0].partition("=")[0]
    known = [flag for action in model.parser()._actions for flag in action.option_strings]  # noqa: SLF001 - as above
    near = difflib.get_close_matches(first, known, n=1, cutoff=0.8)
    if near:
        return f"nox has no option {first}; did you mean {near[0]}?"
    if sessions:
        return f"nox has no option {first}; {_after(sessions, options[options.index(unknown[0]) :])}"
    return f"nox has no option {first}; `./noxw --help` lists nox's options"


def _about_word(words: Sequence[str], known: Sequence[str]) -> str:
    """Say how to type *words*, which stand where nox takes only options."""
    name = words[0].replace("-", "_")
    near = difflib.get_close_matches(name, known, n=1)
    if not near:
        return f"nox takes no word '{words[0]}' here; name a session after -s: ./noxw -s test"
    rest = [word for word in words[1:] if word.replace("-", "_") in known]
    own = list(words[1 + len(rest) :])
    return f"did you mean: {_typed([near[0], *rest], own)}"


def _after(sessions: Sequence[str], own: Sequence[str]) -> str:
    """Say that a session's own words, *own*, follow --."""
    return f"a session's own words follow --: {_typed(sessions, own)}"


def _typed(sessions: Sequence[str], own: Sequence[str]) -> str:
    return shlex.join(["./noxw", "-s", *sessions, *(["--", *own] if own else [])])
