"""The records of verifying: a check, what it found and where, and the outcome of one check of one target."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeVar

from stackyard._util.advice import Action, typed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Severity = Literal["error", "warning", "info"]
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "info")  # gravest first
S = TypeVar("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """One thing a check met, its line in the file looked at, and its severity where that is not the check's own."""

    found: str
    line: int | None = None
    severity: Severity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Generic[S]):
    """
    One rule.

    Attributes:
        id: Its name in reports and waivers; begins with what it looks at.
        title: What should be, in a few words.
        severity: Of what it finds; an error fails the run.
        why: The reason for the rule.
        advice: How to fix what it finds.
        action: What helps with that.
        look: Yields what breaks the rule: a Spot, or its text alone.
        rewrite: Returns a file's text without what it finds; None if only a person can fix that.
    """

    id: str
    title: str
    severity: Severity
    why: str
    advice: str
    look: Callable[[S], Iterable[Spot | str]] = field(repr=False)
    rewrite: Callable[[str], str] | None = field(default=None, repr=False)
    action: Action | None = None

    @property
    def fix(self) -> str:
        """How to fix what it finds, with the command line that helps."""
        return f"{self.advice}: {typed(self.action)}" if self.action else self.advice

    @property
    def subject(self) -> str:
        """What it looks at: dockerfile, image, compose, stack or detection."""
        return self.id.partition("-")[0]

    def findings(self, subject: S, target: str) -> list[Finding]:
        """Look at *subject*, which reports call *target*."""
        return [self._finding(spot, target) for spot in self.look(subject)]

    def _finding(self, spot: Spot | str, target: str) -> Finding:
        seen = spot if isinstance(spot, Spot) else Spot(found=spot)
        return Finding(
            check=self.id, target=target, severity=seen.severity or self.severity, found=seen.found, fix=self.fix,
            line=seen.line,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    What one check found in one place.

    Attributes:
        target: What was looked at: a file below the project's root, an image, an environment, a stack.
        severity: An error fails the run.
        found: What is there, with its unit.
        line: Line in the file; None where the target is no file.
        waived: Why it may stay; empty when nothing excuses it.
    """

    check: str
    target: str
    severity: Severity
    found: str
    fix: str
    line: int | None = None
    waived: str = ""

    @property
    def fails(self) -> bool:
        """True if it must be fixed or waived."""
        return self.severity == "error" and not self.waived


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One look of one check at one target; no findings mean that all is well."""

    check: str
    target: str
    findings: tuple[Finding, ...] = ()


def check(
    identity: str,
    title: str,
    *,
    fix: str,
    severity: Severity = "error",
    rewrite: Callable[[str], str] | None = None,
    action: Action | None = None,
) -> Callable[[Callable[[S], Iterable[Spot | str]]], Check[S]]:
    """Make a Check of a function; its docstring is the reason for the rule."""

    def make(look: Callable[[S], Iterable[Spot | str]]) -> Check[S]:
        why = " ".join((look.__doc__ or "").split())
        return Check(
            id=identity, title=title, severity=severity, why=why, advice=fix, look=look, rewrite=rewrite, action=action
        )

    return make


def examine(checks: Iterable[Check[S]], subject: S, target: str) -> list[Outcome]:
    """Let every one of *checks* look at *subject*."""
    return [
        Outcome(check=each.id, target=target, findings=tuple(each.findings(subject, target))) for each in checks
    ]  # fmt: skip
