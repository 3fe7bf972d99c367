"""One container during the wait for its project, and the message about it if the wait fails."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from stackyard.docker import inspection
from stackyard.docker.records import Resource
from stackyard.errors import EngineError
from stackyard.probes.container_readiness import CUT_OFF
from stackyard.probes.readiness_rules import conditions
from stackyard.project.model import copies_of
from stackyard.stacks.diagnostics import LONGER, collect, plain_error, redact

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence
    from typing import Any

    from stackyard.docker import ContainerState, Engine
    from stackyard.docker.inspection import Seen
    from stackyard.probes.container_readiness import Proof
    from stackyard.probes.readiness_rules import Rule
    from stackyard.stacks.diagnostics import ServiceEvidence

RECOVERY: Final = 10.0  # seconds that an unhealthy container gets at least


class Watched:
    """
    One container while it is waited for.

    Args:
        seen: What the list of containers says of it.
        rule: Its service's rule.

    Attributes:
        proof: What proves it; None before it runs.
        task: The task that runs the proof.
        how: What it has shown; None before it is ready.
        finished: Whether it has ended as it should.
        settled: Its restarts when all others were ready.
        trouble: What is wrong with it; empty if nothing is.
        unhealthy_since: Monotonic seconds at which the engine first called it unhealthy; None if it does not.
    """

    def __init__(self, seen: Seen, rule: Rule) -> None:
        self.seen = seen
        self.rule = rule
        self.proof: Proof | None = None
        self.task: asyncio.Task[str] | None = None
        self.how: str | None = None
        self.finished = False
        self.settled: int | None = None
        self.trouble = ""
        self.unhealthy_since: float | None = None

    @property
    def last(self) -> str:
        """The last answer, for a person."""
        if self.trouble:
            return self.trouble
        if self.proof:
            return self.proof.last
        return "not started yet" if self.seen.status == "created" else f"still {self.seen.status}"

    @property
    def begun(self) -> bool:
        """Whether it has ever run."""
        return self.proof is not None or self.seen.status != "created"

    @property
    def silent_since(self) -> float | None:
        """Since when it has been silent, as `Proof.silent_since`; None as well without a proof."""
        return self.proof.silent_since if self.proof else None

    def is_given_up(self, began: float) -> bool:
        """
        Say whether its health check can only fail, or by its own interval and retries has failed for too long.

        A busy host is slower than its author's, so it has as long again as it took to become unhealthy.

        Args:
            began: Monotonic seconds at which the start began.
        """
        if self.proof and self.proof.hopeless:
            return self.how is None
        if not self.seen.unhealthy or self.how is not None or self.rule.kind != "health check":
            self.unhealthy_since = None
            return False
        now = time.monotonic()
        self.unhealthy_since = self.unhealthy_since or now
        return now - self.unhealthy_since >= max(RECOVERY, self.unhealthy_since - began)

    def stop(self) -> None:
        """End its proof."""
        if self.task is not None:
            self.task.cancel()

    def forget(self) -> None:
        """Take back what it has proved: its next run has to prove it again."""
        self.stop()
        self.task = self.how = None

    def note_end_of_proof(self) -> None:
        """Take over what its proof has shown, if it is through."""
        if self.task and self.task.done() and not self.task.cancelled() and self.how is None:
            self.how = self.task.result()

    def give_up(self) -> None:
        """Count it as ready although nothing listens: it never will."""
        if self.proof:
            self.how = self.proof.give_up()
        self.stop()


class Failure:
    """
    The text of a wait that failed.

    Args:
        engine: Where the containers are.
        model: Their project's model.
        rules: The readiness rules of its services.
        found: The containers.
        missing: Services that are not ready.
        secrets: Values that it must not show.
    """

    def __init__(
        self, engine: Engine, model: Mapping[str, Any], rules: Mapping[str, Rule], found: Sequence[Watched],
        missing: Sequence[str], secrets: Sequence[str],
    ) -> None:  # fmt: skip
        self.engine = engine
        self.model = model
        self.rules = rules
        self.found = found
        self.missing = missing
        self.secrets = [secret for secret in secrets if secret]

    def text(self, reason: str) -> str:
        """Return *reason*, each service to blame with its state, rule and log, and who else is not ready."""
        for one in self.found:
            if one.seen.status == "created" and (error := self._start_error(one)):
                one.trouble = f"could not be started: {plain_error(error)}"
        broken = [one for one in self.found if one.trouble]
        blamed = broken or [one for one in self.found if one.how is None and one.proof]
        evidence = collect(self.engine, [_resource(one) for one in blamed], secrets=self.secrets)
        lines = [reason]
        for one in sorted(blamed, key=lambda one: one.seen.service):
            lines += self._block(one, next((item for item in evidence if item.state.id == one.seen.id), None))
        others = [name for name in self.missing if name not in {one.seen.service for one in blamed}]
        lines += [f"  {name}: {last}" for name in others if (last := self.last(name))]
        return redact("\n".join(lines), self.secrets)

    def longer(self) -> str:
        """Say what gives a start more time, and each health check that was cut off."""
        waiting = [one for one in self.found if one.how is None and one.rule.kind == "health check"]
        cut = sorted({one.seen.service for one in waiting if one.last.startswith(CUT_OFF)})
        keys = ", ".join(f"services.{name}.healthcheck.timeout" for name in cut)
        return f"{LONGER}; for one check: {keys} in the Compose file" if cut else LONGER

    def begun(self) -> list[str]:
        """Return the services that are not ready and have begun."""
        own = {one.seen.service for one in self.found if one.begun and one.how is None}
        return [name for name in self.missing if name in own]

    def causes(self) -> str:
        """Return the services of `begun`, or if there are none all that are not ready, each with its last answer."""
        return ", ".join(f"{name} ({self.last(name)})" for name in self.begun() or self.missing)

    def last(self, name: str) -> str:
        """Return the last answer of a service that is not ready, or which services it waits for."""
        own = [one for one in self.found if one.seen.service == name and (one.how is None or one.trouble)]
        if own and (own[0].begun or own[0].trouble):
            return own[0].last
        awaited = [other for other, waiting in conditions(self.model).items() if name in waiting]
        held = [other for other in awaited if other in self.missing]
        why = own[0].last if own else self._absent(name)
        return f"{why}, because it waits for {', '.join(held)}" if held else why

    def _absent(self, name: str) -> str:
        there, wanted = sum(one.seen.service == name for one in self.found), copies_of(self.model["services"][name])
        return f"has {there} of {wanted} containers" if there else "has no container yet"

    def _block(self, one: Watched, evidence: ServiceEvidence | None) -> list[str]:
        name = one.seen.service
        alone = sum(other.seen.service == name for other in self.found) == 1
        lines = [f"  {name if alone else one.seen.name}: {one.last}", f"    rule: {self.rules[name].why}"]
        if awaiting := waits_for(self.model, name):
            lines.append(f"    waits for it: {', '.join(awaiting)}")
        if one.rule.kind in {"http", "tcp"} and not (one.rule.hinted or one.trouble):
            lines.append(f"    {other_rule(name)}")
        if evidence:
            state, rest = evidence.state, str(evidence).splitlines()
            known = {"running", f"exited, exit code {state.exit_code}"}
            facts = rest[0].partition(": ")[2]
            lines += [] if facts in known else [f"    container: {facts}"]
            lines += [f"  {line}" for line in rest[1:]]
        return lines

    def _start_error(self, one: Watched) -> str:
        try:
            return inspection.place(self.engine, one.seen.id).state.error
        except EngineError:
            return ""


def other_rule(service: str) -> str:
    """Say how a user chooses another rule than the one that was found."""
    key = f'"{service}"' if "." in service else service
    return f'to choose what counts, write services.{key}.ready = "running", or another rule, to stackyard.toml'


def waits_for(model: Mapping[str, Any], name: str) -> list[str]:
    """Return the services that wait for *name*, directly or through others, by `depends_on`."""
    waiting, found = conditions(model), list[str]()
    new = [name]
    while new:
        new = [other for one in new for other in waiting.get(one, {}) if other not in found and other != name]
        new = list(dict.fromkeys(new))
        found += new
    return found


def end_of(state: ContainerState) -> str:
    """Say how a container ended."""
    parts = [f"ended with exit code {state.exit_code}"]
    parts += ["killed at its memory limit"] if state.oom_killed else []
    parts += [f"restarted {state.restarts} times"] if state.restarts else []
    parts += [state.error] if state.error else []
    return ", ".join(parts)


def _resource(one: Watched) -> Resource:
    return Resource(kind="container", id=one.seen.id, name=one.seen.name, labels={})
