"""
Readiness of a started Compose project, whatever services it has.

After a start, or while one goes on, call `wait`::

    ready = await waiting.wait(
        engine,
        [f"com.docker.compose.project={project}"],  # what all containers of the copy carry, and no others
        model,                                      # the model that they were made from
        deadline=60.0,
        hints={"web": Hint.parse({"http": "/healthz"})},  # stackyard.project.readiness_hints
        secrets=[password],                         # removed from every message
        ready=lambda one: print(one),               # called as each service becomes ready
    )
    for one in ready.services: one.service, one.rule.kind, one.rule.why, one.seconds, one.how

It starts nothing and changes nothing. To keep the conditions of `depends_on` in another start, run it in parallel
with that start, and start a service once `ready` has named each that it needs. Containers may appear and start while
it waits; those of `docker compose run` do not count. A container that ended before the call counts as ended, so call
it after such ones have been started again. Each container of a service must be ready. The wait ends at once with
`NotReadyError` when a container has ended that must not have, or keeps restarting although all others are ready. The
text names the service, its rule, its last answer, what waits for it, and its last log lines.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from stackyard._util.task_group import task_group
from stackyard.docker import inspection
from stackyard.errors import EngineError, NotReadyError, RefusedError
from stackyard.probes.container_readiness import SILENCE, Proof
from stackyard.probes.readiness_rules import ImageFacts, Rule, rules_for
from stackyard.project.model import copies_of
from stackyard.stacks.diagnostics import redact
from stackyard.stacks.readiness.progress_lines import Narration, Reasons
from stackyard.stacks.readiness.watched_container import Failure, Watched, end_of, other_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from stackyard.docker import Engine
    from stackyard.docker.inspection import Seen
    from stackyard.project.readiness_hints import Hint

T = TypeVar("T")
TICK: Final = 0.1  # seconds between two lists of the containers where the engine tells no changes
LONG_TICK: Final = 1.0  # the same where it does
LOOP: Final = 3  # restarts that make a loop, if the last two came after all others were ready
THREADS: Final = 4  # besides one for each container
NOTICED: Final = 5.0  # seconds of silence after which it is mentioned
GOES_ON: Final = f", and it {{}} nothing; {SILENCE:g} s after all else is ready the start goes on without that"
ENDED: Final = frozenset({"exited", "dead"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceReady:
    """
    One service that is ready.

    Attributes:
        service: Its name.
        rule: What proved it.
        seconds: From the start of the wait until its last container was ready.
        how: What its last container showed.
        warning: What the user should know where the proof is not whole; empty if it is.
    """

    service: str
    rule: Rule
    seconds: float
    how: str
    warning: str = ""

    def __str__(self) -> str:
        return f"{self.service} is ready after {self.seconds:.2f} s: {self.how} ({self.rule.why})"

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data."""
        rule = {"kind": self.rule.kind, "why": self.rule.why}
        return {
            "service": self.service, "rule": rule, "seconds": round(self.seconds, 3), "how": self.how,
            "warning": self.warning or None,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StackReady:
    """
    A project that is ready.

    Attributes:
        services: Each service with at least one container, in the order in which they became ready.
        seconds: Until the last of them was.
    """

    services: tuple[ServiceReady, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return {"seconds": round(self.seconds, 3), "services": [one.to_json() for one in self.services]}


async def wait(  # noqa: PLR0913 - each is a fact of one start
    engine: Engine,
    labels: Sequence[str],
    model: Mapping[str, Any],
    *,
    deadline: float,
    hints: Mapping[str, Hint] | None = None,
    secrets: Iterable[str] = (),
    ready: Callable[[ServiceReady], object] | None = None,
    began: float | None = None,
    progress: Callable[[str], None] = lambda _line: None,
) -> StackReady:
    """
    Wait until every service of *model* is ready.

    Args:
        engine: Where its containers are.
        labels: Labels that all its containers carry and no others, as ``key=value``.
        model: What `docker compose config --format json` made of the project.
        deadline: Seconds from now until giving up.
        hints: What the user's configuration says about services.
        secrets: Values that no message may show.
        ready: Called with each service as soon as it is ready.
        began: What the seconds of the result count from, as `time.monotonic` tells it; now unless given.
        progress: Called with lines about which services are ready and which are not, once the wait gets long.

    Raises:
        NotReadyError: If the deadline passed, a container ended that must not have, or one keeps restarting.
        EngineError: If the engine does not answer.
    """
    count = sum(copies_of(service) for service in (model.get("services") or {}).values())
    threads = ThreadPoolExecutor(max_workers=count + THREADS, thread_name_prefix="readiness")
    try:
        waiting = _Wait(engine, labels, model, threads, ready, time.monotonic() if began is None else began)
        waiting.hints, waiting.secrets = hints or {}, [*secrets]
        hidden = [secret for secret in waiting.secrets if secret]
        waiting.narration = Narration(
            lambda line: progress(redact(line, hidden)), waiting.began, time.monotonic() + deadline
        )
        return await waiting.run(deadline)
    finally:
        threads.shutdown(wait=False)


def never_will(silent: Sequence[float | None], settled: float, now: float) -> bool:
    """
    Say whether none of those that a start still waits for will ever listen.

    Args:
        silent: Monotonic time since when each has been silent; None for one that is not.
        settled: The same of when the last of all others became ready.
        now: The same of now.
    """
    since = [one for one in silent if one is not None]
    return 0 < len(since) == len(silent) and now - max(*since, settled) >= SILENCE


class _FailureError(Exception):
    """A container that makes further waiting useless."""


class _Wait:
    """One wait for all containers of a project."""

    def __init__(
        self,
        engine: Engine,
        labels: Sequence[str],
        model: Mapping[str, Any],
        threads: ThreadPoolExecutor,
        ready: Callable[[ServiceReady], object] | None,
        began: float,
    ) -> None:
        self.engine = engine
        self.labels = labels
        self.model = model
        self.hints: Mapping[str, Hint] = {}
        self.secrets: list[str] = []
        self.found: dict[str, Watched] = {}
        self.ready: dict[str, ServiceReady] = {}
        self.images: dict[str, ImageFacts] = {}
        self.rules = rules_for(model, {})
        self._threads = threads
        self._told = ready
        self.began = began
        self.narration = Narration(lambda _line: None, began, began)
        self._settled = began  # when the last container became ready
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._pause = TICK

    async def run(self, deadline: float) -> StackReady:
        limit = time.monotonic() - self.began + deadline
        more = ""
        try:
            async with asyncio.timeout(deadline):
                async with task_group() as group:
                    await self._watch(group)
        except TimeoutError:
            reason = f"not ready after {round(limit, 1):g} s: {self._failure().causes()}"
            more = f"\n{self._failure().longer()}"
        except _FailureError as error:
            reason = str(error)
        else:
            ordered = sorted(self.ready.values(), key=lambda one: one.seconds)
            return StackReady(services=tuple(ordered), seconds=max((one.seconds for one in ordered), default=0.0))
        raise NotReadyError(await self._call(lambda: self._failure().text(reason)) + more)

    async def _watch(self, group: asyncio.TaskGroup) -> None:
        """Look at all containers after each change until each is ready; start a proof for each that runs."""
        changes = inspection.Changes(self.engine, self.labels)
        listening = asyncio.get_running_loop().run_in_executor(self._threads, self._listen, changes)
        try:
            while self._missing():
                self._changed.clear()
                await self._look(group)
                self._note_ready()
                await self._wait_for_news()
        finally:
            changes.close()
            await asyncio.wait({listening})
            for one in self.found.values():
                one.stop()

    def _listen(self, changes: Iterable[None]) -> None:
        """Note each change, in a thread; without them there are more lists."""
        try:
            for _ in changes:
                self._pause = LONG_TICK
                self._loop.call_soon_threadsafe(self._changed.set)
        except EngineError:
            self._pause = TICK

    async def _wait_for_news(self) -> None:
        """Wait until a proof has ended, a container has changed, or some time has passed."""
        while self._missing() and not self._changed.is_set():
            proofs = [one.task for one in self.found.values() if one.task and not one.task.done()]
            changed = asyncio.create_task(self._changed.wait())
            try:
                done, _ = await asyncio.wait(
                    [*proofs, changed], timeout=self._pause, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                changed.cancel()
            self._note_ready()
            if not done:
                return

    async def _look(self, group: asyncio.TaskGroup) -> None:
        """Look at all containers once; all of them before any is judged, so that a failure can name each."""
        listed = await self._call(lambda: inspection.seen(self.engine, self.labels))
        own = [seen for seen in listed if seen.service in self.rules]
        for seen in own:
            if seen.id not in self.found:
                self.found[seen.id] = Watched(seen, await self._rule(seen))
            self.found[seen.id].seen = seen
        for gone in self.found.keys() - {seen.id for seen in own}:  # Compose has put another in its place
            self.found.pop(gone).stop()
        for one in [self.found[seen.id] for seen in own]:
            if one.is_given_up(self.began):
                raise _FailureError(f"not ready: {one.seen.service} is unhealthy: {one.last}")
            if one.seen.status == "running":
                self._prove(group, one)
            elif (one.seen.status in ENDED and not one.finished) or one.seen.status == "restarting":
                await self._judge(one)

    def _prove(self, group: asyncio.TaskGroup, one: Watched) -> None:
        one.trouble, one.finished = "", False
        if one.task is None and one.rule.kind != "exit 0":  # an end is seen in the list
            one.proof = Proof(self.engine, one.seen.id, one.rule, self._threads)
            one.task = group.create_task(one.proof.run())

    async def _rule(self, seen: Seen) -> Rule:
        """Return the rule of a container's service, now that its image is known."""
        if seen.service not in self.images:
            try:
                answer = await self._call(lambda: inspection.image(self.engine, seen.image))
                self.images[seen.service] = ImageFacts.from_inspect(answer)
            except RefusedError:  # an image may be removed while its containers run
                self.images[seen.service] = ImageFacts()
            self.rules = rules_for(self.model, self.images, self.hints)
        return self.rules[seen.service]

    async def _judge(self, one: Watched) -> None:
        """Decide what a container's end means."""
        try:
            state = (await self._call(lambda: inspection.place(self.engine, one.seen.id))).state
        except RefusedError:  # removed in the meantime, as the next list will show
            return
        if state.status == "running":  # started again in the meantime
            return
        if state.finished and one.rule.may_end:
            one.how, one.finished = "ended with exit code 0", True
            return
        one.forget()
        self.ready.pop(one.seen.service, None)
        one.trouble = end_of(state)
        if state.ended:
            raise _FailureError(f"not ready: {one.seen.service} {one.trouble}")
        self._judge_restarts(one, state.restarts)

    def _judge_restarts(self, one: Watched, restarts: int) -> None:
        """Give up a container that has failed twice more although nothing else is missing: nothing will help it."""
        others = [other for other in self.found.values() if other is not one]
        if one.settled is None and all(other.how or other.seen.status == "restarting" for other in others):
            one.settled = restarts if self._all_are_there() else None
        if one.settled is not None and restarts >= max(LOOP, one.settled + 2):
            raise _FailureError(f"not ready: {one.seen.service} keeps restarting: {one.trouble}")

    def _all_are_there(self) -> bool:
        return all(len(self._own(name)) >= copies_of(self.model["services"][name]) for name in self.rules)

    def _own(self, name: str) -> list[Watched]:
        return [one for one in self.found.values() if one.seen.service == name]

    def _note_ready(self) -> None:
        for one in self.found.values():
            one.note_end_of_proof()
        self._give_up_silent()
        for name in self._missing():
            if self._complete(name):
                self._settled = time.monotonic()
                self.ready[name] = self._proved(name, self._settled - self.began)
                self.narration.ready(self.ready[name])
                if self._told is not None:
                    self._told(self.ready[name])
        self.narration.waits(self._reasons, self.rules)

    def _reasons(self) -> Reasons:
        """Return why each service is waited for, and which ones have not begun."""
        failure, before = self._failure(), time.monotonic() - NOTICED
        silent = {
            one.seen.service for one in self.found.values()
            if one.silent_since is not None and one.silent_since < before
        }  # fmt: skip
        begun = failure.begun()
        why = {name: failure.last(name) + (GOES_ON.format("does") if name in silent else "") for name in begun}
        return Reasons(why, [name for name in failure.missing if name not in begun])

    def _proved(self, name: str, seconds: float) -> ServiceReady:
        own = [one for one in self._own(name) if one.how]
        warnings = dict.fromkeys(one.proof.warning for one in own if one.proof and one.proof.warning)
        warning = f"{name}: {'; '.join(warnings)}; {other_rule(name)}" if warnings else ""
        rule, how = self.rules[name], own[-1].how or ""
        return ServiceReady(service=name, rule=rule, seconds=seconds, how=how, warning=warning)

    def _give_up_silent(self) -> None:
        """Go on without ports that never will listen: all else is ready, and the containers of these do nothing."""
        waiting = [one for one in self.found.values() if one.how is None]
        if self._all_are_there() and never_will([one.silent_since for one in waiting], self._settled, time.monotonic()):
            for one in waiting:
                one.give_up()

    def _complete(self, name: str) -> bool:
        """Say whether as many containers of a service are ready as the model wants."""
        own = self._own(name)
        return all(one.how for one in own) and len(own) >= copies_of(self.model["services"][name])

    def _missing(self) -> list[str]:
        return [name for name in self.rules if name not in self.ready]

    def _failure(self) -> Failure:
        return Failure(self.engine, self.model, self.rules, [*self.found.values()], self._missing(), self.secrets)

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
