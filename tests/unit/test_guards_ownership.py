"""What is ours and what is not, each rule by itself: a quick test for each guard in front of a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stackyard.docker import ownership
from stackyard.docker.ownership import ENVIRONMENT_LABEL, HOST_LABEL, Build, Holdings, Owned
from stackyard.docker.records import LEASE_LABEL, PROJECT_LABEL, Resource

if TYPE_CHECKING:
    from collections.abc import Sequence

MINE = {HOST_LABEL: "h1", LEASE_LABEL: "1f0c9b3e"}
PROJECT = {PROJECT_LABEL: "stackyard-test-1f0c9b3e"}
HELD = Holdings.named("h1", "test", "1f0c9b3e")


def thing(name: str, kind: Any = "container", **labels: str) -> Resource:
    return Resource(kind=kind, id=name, name=name, labels=labels)


class Shelf:
    """An engine that notes which filters it was asked with, and answers with all it has."""

    def __init__(self, *things: Resource) -> None:
        self.things = things
        self.asked: list[tuple[str, list[str]]] = []

    def containers(self, labels: Sequence[str]) -> list[Resource]:
        return self._of("container", labels)

    def troubled(self, labels: Sequence[str]) -> list[Resource]:
        return self._of("container", labels)

    def networks(self, labels: Sequence[str]) -> list[Resource]:
        return self._of("network", labels)

    def volumes(self, labels: Sequence[str]) -> list[Resource]:
        return self._of("volume", labels)

    def everything(self, labels: Sequence[str]) -> list[Resource]:
        return [*self.containers(labels), *self.networks(labels), *self.volumes(labels)]

    def _of(self, kind: str, labels: Sequence[str]) -> list[Resource]:
        self.asked.append((kind, list(labels)))
        return [item for item in self.things if item.kind == kind]


def test_a_lease_has_the_two_labels_its_project_and_no_data_to_keep() -> None:
    assert Holdings(
        host="h1", lease="1f0c9b3e", environment="test", project="stackyard-test-1f0c9b3e", keeps_data=False
    ) == Holdings.named("h1", "test", "1f0c9b3e")
    assert HELD.labels == ["stackyard.host=h1", "stackyard.lease=1f0c9b3e"]


@pytest.mark.parametrize(
    ("labels", "ours"),
    [
        (MINE, True),
        (PROJECT, True),
        (PROJECT | {HOST_LABEL: "h1"}, True),
        (PROJECT | {LEASE_LABEL: "1f0c9b3e"}, True),
        (PROJECT | {HOST_LABEL: "h2"}, False),
        (PROJECT | {LEASE_LABEL: "ffffffff"}, False),
        (MINE | {HOST_LABEL: "h2"}, False),
        (MINE | {LEASE_LABEL: "ffffffff"}, False),
        ({HOST_LABEL: "h1"}, False),
        ({LEASE_LABEL: "1f0c9b3e"}, False),
        ({PROJECT_LABEL: "stackyard-test-ffffffff"}, False),
        ({PROJECT_LABEL: ""}, False),
        ({}, False),
    ],
)
def test_a_thing_is_ours_by_both_labels_or_by_the_project_unless_a_label_says_otherwise(
    labels: dict[str, str], ours: bool
) -> None:
    assert HELD.holds(labels) is ours


@pytest.mark.parametrize("labels", [{}, {PROJECT_LABEL: ""}, {PROJECT_LABEL: "stackyard-dev"}])
def test_a_lease_whose_project_others_can_have_holds_nothing_without_its_labels(labels: dict[str, str]) -> None:
    held = Holdings.named("h1", "dev", "dev")

    assert (held.project, held.keeps_data) == ("", True)
    assert not held.holds(labels)


@pytest.mark.parametrize(
    ("volumes", "kinds"), [(True, ["container", "network", "volume"]), (False, ["container", "network"])]
)
def test_volumes_are_listed_last_and_only_if_wanted(volumes: bool, kinds: list[str]) -> None:
    shelf = Shelf(*(thing(kind, kind, **MINE) for kind in ("volume", "network", "container")))

    assert [item.kind for item in HELD.everything(shelf, volumes=volumes)] == kinds  # type: ignore[arg-type]
    assert {kind for kind, _ in shelf.asked} == set(kinds)


def test_all_are_listed_unless_something_else_is_said() -> None:
    shelf = Shelf(thing("v", "volume", **MINE))

    assert [item.name for item in HELD.everything(shelf)] == ["v"]  # type: ignore[arg-type]
    assert [item.name for item in HELD.volumes(shelf)] == ["v"]  # type: ignore[arg-type]


def test_the_engine_is_asked_by_the_labels_and_by_the_project() -> None:
    shelf = Shelf(thing("mine", **MINE), thing("added", **PROJECT), thing("strange"))

    assert [item.name for item in HELD.containers(shelf)] == ["mine", "added"]  # type: ignore[arg-type]
    assert [item.name for item in HELD.troubled(shelf)] == ["mine", "added"]  # type: ignore[arg-type]
    assert shelf.asked[:2] == [
        ("container", ["stackyard.host=h1", "stackyard.lease=1f0c9b3e"]),
        ("container", ["com.docker.compose.project=stackyard-test-1f0c9b3e"]),
    ]


def test_a_lease_without_a_project_of_its_own_is_asked_for_by_its_labels_alone() -> None:
    shelf = Shelf(thing("mine", **MINE | {LEASE_LABEL: "dev"}))

    assert len(Holdings.named("h1", "dev", "dev").containers(shelf)) == 1  # type: ignore[arg-type]
    assert shelf.asked == [("container", ["stackyard.host=h1", "stackyard.lease=dev"])]


def test_things_of_two_kinds_with_one_id_are_two() -> None:
    both = [thing("x", "container", **MINE), thing("x", "volume", **MINE)]

    assert HELD.among([*both, *both]) == both


@pytest.mark.parametrize(
    ("labels", "lease"),
    [
        (MINE, "1f0c9b3e"), (MINE | {HOST_LABEL: "h2"}, ""), (MINE | {LEASE_LABEL: "../../etc"}, ""),
        ({HOST_LABEL: "h1"}, ""), ({LEASE_LABEL: "1f0c9b3e"}, ""), ({}, ""),
    ],
)  # fmt: skip
def test_labels_name_a_lease_only_with_the_id_of_our_book(labels: dict[str, str], lease: str) -> None:
    assert ownership.lease_of(labels, "h1") == lease
    shelf = Shelf(thing("x", **labels))
    assert bool(ownership.marked(shelf.everything, "h1")) is bool(lease)
    assert shelf.asked[0][1] == ["stackyard.host=h1"]


def test_all_compose_projects_are_looked_at() -> None:
    shelf = Shelf(thing("x"))

    assert len(ownership.in_projects(shelf)) == 1  # type: ignore[arg-type]
    assert shelf.asked[0][1] == ["com.docker.compose.project"]


def test_only_leases_that_the_book_does_not_know_are_lost() -> None:
    def labels(lease: str, environment: str = "test") -> dict[str, str]:
        return {HOST_LABEL: "h1", LEASE_LABEL: lease, ENVIRONMENT_LABEL: environment}

    found = [
        thing("strange"), thing("known", **labels("1f0c9b3e")), thing("b", **labels("bbbbbbbb")),
        thing("a", **labels("aaaaaaaa")), thing("other", **labels("cccccccc") | {HOST_LABEL: "h2"}),
        thing("data", **labels("dev-3fa92c", "dev")),
    ]  # fmt: skip

    lost = ownership.lost("h1", found, iter(["1f0c9b3e"]))

    assert list(lost.items()) == [
        (lease, Holdings.named("h1", environment, lease))
        for lease, environment in (("aaaaaaaa", "test"), ("bbbbbbbb", "test"), ("dev-3fa92c", "dev"))
    ]


@pytest.mark.parametrize("first", [0, 1])
def test_a_lost_lease_is_of_the_environment_whose_project_it_is_in(first: int) -> None:
    labels = {HOST_LABEL: "h1", LEASE_LABEL: "aaaaaaaa", PROJECT_LABEL: "stackyard-test-aaaaaaaa"}
    found = [
        thing("renamed", **labels | {ENVIRONMENT_LABEL: "wrong"}),
        thing("true", **labels | {ENVIRONMENT_LABEL: "test"}),
    ]

    lost = ownership.lost("h1", found if not first else found[::-1], [])

    assert lost == {"aaaaaaaa": Holdings.named("h1", "test", "aaaaaaaa")}


def test_a_lost_lease_without_an_environment_is_still_found() -> None:
    assert ownership.lost("h1", [thing("x", **MINE)], []) == {"1f0c9b3e": Holdings.named("h1", "", "1f0c9b3e")}


class Row:
    """What is asked of a lease."""

    def __init__(self, identifier: str, environment: str) -> None:
        self.id, self.environment = identifier, environment


@pytest.mark.parametrize(("lost", "names"), [(False, ["mine", "added"]), (True, ["mine", "added", "lost", "bare"])])
def test_containers_of_lost_leases_are_reported_only_if_wanted(lost: bool, names: list[str]) -> None:
    gone = {HOST_LABEL: "h1", LEASE_LABEL: "aaaaaaaa"}
    shelf = Shelf(
        thing("mine", **MINE), thing("added", **PROJECT), thing("lost", **gone | {ENVIRONMENT_LABEL: "old"}),
        thing("bare", **gone), thing("strange", **MINE | {HOST_LABEL: "h2"}),
    )  # fmt: skip
    rows: Any = [Row("1f0c9b3e", "test")]

    found = ownership.owned_containers(shelf, "h1", rows, lost=lost)  # type: ignore[arg-type]

    assert [item.thing.name for item in found] == names
    assert found[0] == Owned(thing=shelf.things[0], lease="1f0c9b3e", environment="test")
    assert [(item.lease, item.environment) for item in found[2:]] == [("aaaaaaaa", "old"), ("aaaaaaaa", "")][
        : len(names) - 2
    ]
    assert [labels for _, labels in shelf.asked] == [["stackyard.host=h1"], ["com.docker.compose.project"]]


@pytest.mark.parametrize(("environment", "kept"), [("deadbeef", True), ("test", False), ("", False)])
def test_an_environment_whose_name_looks_like_an_id_keeps_its_data(environment: str, kept: bool) -> None:
    assert Holdings.named("h1", environment, "deadbeef").keeps_data is kept


def test_only_what_names_another_book_is_another_books() -> None:
    named = MINE | PROJECT
    shelf = Shelf(
        thing("theirs", **named | {HOST_LABEL: "h2"}), thing("net", "network", **named | {HOST_LABEL: "h2"}),
        thing("mine", **named), thing("bare", **PROJECT | {LEASE_LABEL: "1f0c9b3e"}),
    )  # fmt: skip

    assert [item.name for item in HELD.of_another_book(shelf)] == ["theirs", "net"]  # type: ignore[arg-type]
    asked = ["com.docker.compose.project=stackyard-test-1f0c9b3e", "stackyard.lease=1f0c9b3e"]
    assert shelf.asked == [("container", asked), ("network", asked)]


BUILD = Build(host="h1", project="my__shop-1f", service="web")


def test_an_image_says_what_it_was_built_for_by_three_labels_and_by_each_of_them() -> None:
    assert BUILD.labels == {
        "stackyard.build.host": "h1", "stackyard.build.project": "my__shop-1f", "stackyard.build.service": "web"
    }  # fmt: skip
    assert Build.of({**BUILD.labels, "other": "x"}) == BUILD
    for label in BUILD.labels:
        assert Build.of({**BUILD.labels, label: ""}) is None
        assert Build.of({name: value for name, value in BUILD.labels.items() if name != label}) is None


def test_only_names_that_a_build_of_the_project_gives_are_its_own() -> None:
    earlier = BUILD.earlier("sha256:0123456789abcdef")
    assert (BUILD.name, earlier) == (
        "stackyard-copy/h1/my-shop-1f:web",
        "stackyard-copy/h1/my-shop-1f/earlier:0123456789ab",
    )
    others = [
        "shop:dev", "stackyard-copy/h1/my-shop-1f-2:web", "stackyard-copy/h2/my-shop-1f:web", "x/" + BUILD.name,
        "stackyard-copy/h1/my-shop-1f/later:web",
    ]  # fmt: skip

    assert BUILD.own([*others, BUILD.name, earlier]) == [BUILD.name, earlier]
    assert BUILD.is_latest([*others, BUILD.name])
    assert not BUILD.is_latest([*others, earlier])
