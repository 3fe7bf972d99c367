"""Checks of Dockerfiles: hadolint's rules, and those of this project that hadolint does not have."""

from __future__ import annotations

import functools
import io
import json
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stackyard._util import optional_packages, process
from stackyard.checks.patterns import is_secret_name
from stackyard.checks.records import Spot, check
from stackyard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from stackyard.checks.records import Severity

LINT_DEADLINE: Final = 180.0  # seconds for hadolint over all Dockerfiles
LEVELS: Final[dict[str, Severity]] = {"error": "error", "warning": "error", "info": "warning", "style": "warning"}
SYNTAX_LINE: Final = re.compile(r"^#\s*syntax\s*=.*\n?", re.IGNORECASE | re.MULTILINE)
BUILD_TOOLS: Final = re.compile(
    r"\b(build-essential|build-base|gcc|g\+\+|clang|cmake|cargo|rustc|golang|make|musl-tools|[\w.+-]+-dev)\b"
)
INSTALLS: Final = re.compile(r"\b(apt-get|apt|apk|pip3?|dnf|yum)\s+(-\S+\s+)*(install|add)\b")
APT_LISTS: Final = re.compile(r"rm\s+-\S*r\S*\s[^&;|]*/var/lib/apt/lists")
SHELL: Final = frozenset("$&|;<>*?`()~#{}\\'\"!=")  # a command with one of these needs its shell
NUMBER: Final = re.compile(r"\d+(:\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction: its name in capitals, its value with continued lines joined, and its first line, from 1."""

    name: str
    value: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """
    One Dockerfile as the checks see it.

    Attributes:
        path: The file, below the project's root.
        instructions: In order, comments left out.
        lint: What hadolint says of it.
        base: Whether its image only serves to build others and never runs.
    """

    path: str
    text: str
    instructions: Sequence[Instruction]
    lint: Sequence[Spot] = ()
    base: bool = False

    @classmethod
    def parse(cls, path: str, text: str, *, lint: Sequence[Spot] = (), base: bool = False) -> Dockerfile:
        """Read *text*; never touches the file."""
        from dockerfile_parse import DockerfileParser  # type: ignore[import-untyped]

        rows: list[dict[str, Any]] = DockerfileParser(fileobj=io.BytesIO(text.encode())).structure
        found = [
            Instruction(name=row["instruction"], value=row["value"], line=row["startline"] + 1)
            for row in rows
            if row["instruction"] != "COMMENT"
        ]
        return cls(path=path, text=text, instructions=found, lint=lint, base=base)

    @property
    def final(self) -> Sequence[Instruction]:
        """The last stage: what the image is made of."""
        starts = [index for index, item in enumerate(self.instructions) if item.name == "FROM"]
        return self.instructions[starts[-1] if starts else 0 :]

    def last(self, name: str) -> Instruction | None:
        """Return the last instruction *name* of the last stage; an earlier one has no effect."""
        return next((item for item in reversed(self.final) if item.name == name), None)


def read_all(root: Path, files: Sequence[Path] | None = None) -> list[Dockerfile]:
    """
    Read *files*, or every Dockerfile below `compose/`, and let hadolint look at them.

    Raises:
        UsageError: If one cannot be read, or hadolint is missing.
        CommandError: If hadolint fails.
    """
    paths = sorted((root / "compose").rglob("Dockerfile*")) if files is None else list(files)
    lint = _hadolint(root, paths)
    return [_read(root, path, lint.get(str(path), [])) for path in paths]


def fixed(dockerfile: Dockerfile) -> str:
    """Return the text without everything that a check finds and can fix."""
    return functools.reduce(lambda text, each: each.rewrite(text) if each.rewrite else text, CHECKS, dockerfile.text)


def _read(root: Path, path: Path, lint: Sequence[Spot]) -> Dockerfile:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as a Dockerfile: {error}") from None
    name = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
    return Dockerfile.parse(name, text, lint=lint, base=path.parent.name == "base")


def _hadolint(root: Path, paths: Sequence[Path]) -> dict[str, list[Spot]]:
    if not paths:
        return {}
    words = [optional_packages.program("hadolint"), "--format", "json", "--no-fail", *map(str, paths)]
    done = process.run(words, deadline=LINT_DEADLINE, cwd=root)
    found: dict[str, list[Spot]] = {}
    for row in json.loads(done.stdout or "[]"):
        spot = Spot(found=f"{row['code']}: {row['message']}", line=row["line"], severity=LEVELS.get(row["level"]))
        found.setdefault(row["file"], []).append(spot)
    return found


@check(
    "dockerfile-lint", "hadolint finds nothing", fix="follow the rule, or write `# hadolint ignore=RULE` above the line"
)
def lint(file: Dockerfile) -> Iterator[Spot]:
    """Common mistakes in Dockerfiles, and in the shell code in them, are known to hadolint."""
    yield from file.lint


@check(
    "dockerfile-syntax", "no `# syntax=` line", fix="remove the line; --fix does it",
    rewrite=lambda text: SYNTAX_LINE.sub("", text),
)  # fmt: skip
def syntax(file: Dockerfile) -> Iterator[Spot]:
    """The line makes each build download a frontend image first; without a container registry the build fails."""
    for match in SYNTAX_LINE.finditer(file.text):
        yield Spot(found=match.group().strip(), line=file.text.count("\n", 0, match.start()) + 1)


@check(
    "dockerfile-base",
    "every base image is a build argument, a stage or scratch",
    fix="write ARG BASE=… above the first FROM and FROM ${BASE}",
)
def base(file: Dockerfile) -> Iterator[Spot]:
    """The same Dockerfile then works with official images and with bases built from packages."""
    stages: set[str] = {"scratch"}
    for item in file.instructions:
        if item.name != "FROM":
            continue
        words = [word for word in item.value.split() if not word.startswith("--")]
        if words and words[0].lower() not in stages and not words[0].startswith("$"):
            yield Spot(found=f"FROM {words[0]}", line=item.line)
        stages |= {word.lower() for word in words[2:]}


@check(
    "dockerfile-user",
    "the image runs as a numeric user that is not root",
    fix="end the last stage with USER 10001:10001",
)
def user(file: Dockerfile) -> Iterator[Spot | str]:
    """A bug in a service must not give anyone root. A number works in every image, a name needs a user table."""
    if file.base:
        return
    item = file.last("USER")
    if item is None:
        yield "no USER in the last stage, so it is the base's, perhaps root"
    elif not NUMBER.fullmatch(item.value) or item.value.partition(":")[0].strip("0") == "":
        yield Spot(found=f"USER {item.value}", line=item.line)


def _exec_form(text: str) -> str:
    return re.sub(r"^(ENTRYPOINT|CMD)[ \t]+(?!\[)([^\n\\]+)$", _as_words, text, flags=re.MULTILINE)


def _as_words(match: re.Match[str]) -> str:
    if SHELL & set(match[2]):
        return match[0]
    return f"{match[1]} {json.dumps(shlex.split(match[2]))}"


@check(
    "dockerfile-exec-form",
    "ENTRYPOINT and CMD are lists of words",
    fix='write CMD ["program", "argument"]; --fix does it where no shell is needed',
    rewrite=_exec_form,
)
def exec_form(file: Dockerfile) -> Iterator[Spot]:
    """A shell between the engine and the service swallows SIGTERM, so each stop waits for the whole grace period."""
    for item in file.instructions:
        if item.name in {"ENTRYPOINT", "CMD"} and not item.value.lstrip().startswith("["):
            yield Spot(found=f"{item.name} {item.value}", line=item.line)


def _uncached(text: str) -> str:
    text = re.sub(r"\bapk((?:\s+-(?!-no-cache)\S+)*)\s+add(?![^&;|\n]*--no-cache)", r"apk\1 add --no-cache", text)
    return re.sub(r"\b(pip3?)\s+install(?![^&;|\n]*--no-cache-dir)", r"\1 install --no-cache-dir", text)


@check(
    "dockerfile-cache",
    "installing packages leaves no package cache",
    fix="apk add --no-cache, pip install --no-cache-dir (--fix does both), or rm -rf /var/lib/apt/lists/*",
    rewrite=_uncached,
)
def cache(file: Dockerfile) -> Iterator[Spot]:
    """Caches and lists take tens of MB that no run reads. A later RUN cannot remove them from the layer."""
    for item in file.final:
        if item.name != "RUN":
            continue
        if re.search(r"\bapt(-get)?\b.*\binstall\b", item.value) and not APT_LISTS.search(item.value):
            yield Spot(found="apt's lists stay in the layer", line=item.line)
        if _uncached(item.value) != item.value:
            yield Spot(found="a package cache stays in the layer", line=item.line)


@check(
    "dockerfile-build-tools",
    "the last stage installs no build tools",
    fix="build in a separate stage and COPY --from it",
)
def build_tools(file: Dockerfile) -> Iterator[Spot]:
    """Compilers and headers are often most of an image's size, and they help an intruder."""
    for item in file.final:
        if item.name == "RUN" and (installing := INSTALLS.search(item.value)):
            found = sorted({match.group() for match in BUILD_TOOLS.finditer(item.value, installing.end())})
            if found:
                yield Spot(found=f"installs {', '.join(found)}", line=item.line)


@check(
    "dockerfile-health",
    "the image has a health check",
    fix='write HEALTHCHECK … CMD ["program"] into the last stage',
)  # fmt: skip
def health(file: Dockerfile) -> Iterator[str]:
    """Without it, `up --wait` and `depends_on: service_healthy` cannot tell whether the service works."""
    item = file.last("HEALTHCHECK")
    if not file.base and (item is None or item.value.strip().upper() == "NONE"):
        yield "no HEALTHCHECK in the last stage"


@check(
    "dockerfile-secret",
    "no build argument or variable holds a secret",
    fix="mount it: RUN --mount=type=secret, or a file at run time",
)
def secret(file: Dockerfile) -> Iterator[Spot]:
    """Both stay in the image's history, and everyone who has the image can read them."""
    for item in file.instructions:
        if item.name not in {"ARG", "ENV"}:
            continue
        for word in item.value.split():
            name = word.partition("=")[0]
            if is_secret_name(name):
                yield Spot(found=f"{item.name} {name}", line=item.line)


CHECKS: Final = (lint, syntax, base, user, exec_form, cache, build_tools, health, secret)
