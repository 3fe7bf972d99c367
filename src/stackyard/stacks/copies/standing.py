"""Whether a copy still has each container of its model, and whether each runs or has ended as it should."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stackyard.docker.inspection import ONE_OFF_LABEL
from stackyard.docker.records import MISSING, ContainerState, with_missing
from stackyard.probes.readiness_rules import rules_for
from stackyard.project.model import copies_of
from stackyard.stacks.copies.template import is_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stackyard.docker import Engine, Resource
    from stackyard.probes.readiness_rules import Rule
    from stackyard.project.readiness_hints import Hint

DOWN: Final = frozenset({MISSING, "created", "exited", "dead"})  # the states that no container leaves by itself


class Standing:
    """
    The containers of a copy, compared with its model; those of `docker compose run` do not count.

    Args:
        engine: Where they are.
        containers: What belongs to the copy.
        model: What it was started from.
        hints: What the configuration says about the readiness of services.

    Attributes:
        states: The state of each container, sorted by service; what is not there has the status `missing`.
    """

    def __init__(
        self,
        engine: Engine,
        containers: Sequence[Resource],
        model: Mapping[str, Any],
        hints: Mapping[str, Hint] | None = None,
    ) -> None:
        self._rules: Mapping[str, Rule] = rules_for(model, {}, hints)
        self._is_whole = is_whole(model)
        own = [item for item in containers if item.labels.get(ONE_OFF_LABEL) != "True"]
        found = [engine.state(item.id) for item in own]
        wanted = {name: copies_of(model["services"][name]) for name in self._rules}
        self.states = with_missing(found, wanted, ContainerState.missing)

    @property
    def is_well(self) -> bool:
        """True while each container runs and is not unhealthy, or had one thing to do and did it."""
        return all(state.well or self._may_rest(state) for state in self.states)

    @property
    def lost(self) -> dict[str, str]:
        """The services that will not run again by themselves, and what has become of each."""
        return {
            state.service: state.words for state in self.states if state.status in DOWN and not self._may_rest(state)
        }

    def _may_rest(self, state: ContainerState) -> bool:
        """Say whether a container that does not run is as it should be; a reset makes one-shots and leaves them."""
        rule = self._rules.get(state.service)
        # `docker system prune` removes what has ended; a start that went to its end has seen each one-shot end well
        pruned = self._is_whole and rule is not None and rule.kind == "exit 0" and state.status == MISSING
        return pruned or ((rule is None or rule.may_end) and (state.finished or state.status == "created"))
