"""What a start prints while it runs: which services are ready, and which ones it waits for and why."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from stackyard._util.durations import said
from stackyard._util.tables import format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stackyard.probes.readiness_rules import Rule
    from stackyard.stacks.readiness.waiting import ServiceReady

SHORT: Final = 2.0  # seconds; of a start that takes no longer only the result is shown
PAUSE: Final = 0.5  # seconds between two looks at the reasons
CHANGE: Final = 4.0  # seconds between two lines about what is waited for, if the reasons change
REMINDER: Final = 10.0  # the same if nothing changes


class Reasons(NamedTuple):
    """
    What a start waits for.

    Attributes:
        why: The last answer of each service that is not ready.
        later: Services that have not begun, because they wait for others.
    """

    why: Mapping[str, str]
    later: Sequence[str] = ()


class Narration:
    """
    The lines about one wait. A wait that ends within `SHORT` seconds has none.

    Args:
        tell: Gets the lines.
        began: When the start began, in monotonic seconds.
        deadline: When it fails.
    """

    def __init__(self, tell: Callable[[str], None], began: float, deadline: float) -> None:
        self._tell = tell
        self._began = began
        self._limit = said(round(deadline - began))
        self._ready: list[ServiceReady] = []
        self._reasons = Reasons({})
        self._next = self._looked = began
        self._known = set[str]()

    def ready(self, one: ServiceReady) -> None:
        """Note a service that is ready."""
        self._ready.append(one)

    def waits(self, look: Callable[[], Reasons], rules: Mapping[str, Rule]) -> None:
        """
        Tell what has changed, or what is still waited for, if it is time for that.

        Args:
            look: Returns what is waited for.
            rules: The readiness rules of all services.
        """
        now = time.monotonic()
        if now < self._began + SHORT or (now < self._looked + PAUSE and not self._ready):
            return
        self._looked = now
        for one in self._ready:
            self._tell(f"{one.service} is ready after {format_seconds(one.seconds)} ({one.rule.kind}): {one.how}")
        fewer, reasons, self._ready = bool(self._ready), look(), []
        changed = (fewer or reasons != self._reasons) and now >= self._next - REMINDER + CHANGE
        if (reasons.why or reasons.later) and (changed or now >= self._next):
            self._tell_waiting(reasons, rules, now)

    def _tell_waiting(self, reasons: Reasons, rules: Mapping[str, Rule], now: float) -> None:
        texts = {name: f"{why}{self._rule(name, rules)}" for name, why in reasons.why.items()}
        names = ", ".join(texts) or f"the start of {', '.join(reasons.later)}"
        head = f"waiting for {names}, {now - self._began:.0f} s of at most {self._limit}"
        lines = [f"  {name}: {text}" for name, text in texts.items()] if len(texts) > 1 else []
        lines += [f"  also waiting for {', '.join(reasons.later)}"] if texts and reasons.later else []
        only = f": {texts[names]}" if len(texts) == 1 else ":" if lines else ""
        self._tell("\n".join([f"{head}{only}", *lines]))
        self._reasons, self._next = reasons, now + REMINDER

    def _rule(self, name: str, rules: Mapping[str, Rule]) -> str:
        """Return the rule of a service, the first time that it is waited for."""
        if name in self._known or name not in rules:
            return ""
        self._known.add(name)
        return f" ({rules[name].why})"


@contextlib.contextmanager
def reminding(tell: Callable[[str], None], what: str) -> Iterator[None]:
    """Tell that *what* goes on, and how long already, each `REMINDER` seconds during a `with` block."""
    began, over = time.monotonic(), threading.Event()

    def remind() -> None:
        while not over.wait(REMINDER):
            tell(f"still {what}, {time.monotonic() - began:.0f} s so far")

    thread = threading.Thread(target=remind, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
