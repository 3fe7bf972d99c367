"""Which driver brings the data of a service back, and which services have to be made again together."""

from __future__ import annotations

from typing import Any

import pytest

from stackyard.docker import container_files
from stackyard.probes.readiness_rules import ImageFacts
from stackyard.stacks.data.drivers import Seen, choose, together
from stackyard.stacks.data.records import Folder

MODEL: dict[str, Any] = {
    "services": {
        "db": {"image": "postgres:17"},
        "cache": {"image": "redis"},
        "queue": {"image": "rabbitmq"},
        "web": {"image": "web"},
        "backup": {"image": "backup"},
        "seed": {"image": "web"},
    }
}


def folder(volume: str, *, own: bool = True, writable: bool = True) -> Folder:
    return Folder(path="/data", volume=volume, own=own, writable=writable)


def seen(service: str, *folders: Folder, **changes: Any) -> Seen:
    return Seen(service=service, name=f"p-{service}-1", folders=folders, **changes)


def drivers(*containers: Seen, refused: dict[str, str] | None = None) -> dict[str, str]:
    return {name: one.driver for name, one in choose(MODEL, {}, containers, refused or {}).items()}


def test_databases_do_it_themselves_and_what_writes_nothing_is_left() -> None:
    assert drivers(seen("db", folder("rows")), seen("cache", folder("keys")), seen("web")) == {
        "db": "postgresql", "cache": "redis", "web": "none",
    }  # fmt: skip


def test_what_writes_to_a_volume_of_the_copy_is_made_again() -> None:
    found = choose(MODEL, {}, [seen("web", folder("uploads"))], {})

    assert (found["web"].driver, found["web"].why) == ("volumes", "it writes to /data")


def test_a_volume_of_others_is_left_alone() -> None:
    found = choose(MODEL, {}, [seen("web", folder("theirs", own=False))], {})

    assert (found["web"].driver, found["web"].why) == ("none", "its volume belongs to others, too")


@pytest.mark.parametrize("service", ["db", "cache", "queue"])
def test_a_database_whose_volume_belongs_to_others_is_left_alone(service: str) -> None:
    assert drivers(seen(service, folder("theirs", own=False))) == {service: "none"}
    assert drivers(seen(service, folder("theirs", own=False), folder("own"))) == {service: "volumes"}


def test_a_database_on_the_network_of_the_host_is_not_asked_itself() -> None:
    model = {"services": {"cache": {"image": "redis", "network_mode": "host"}}}

    assert choose(model, {}, [seen("cache")], {})["cache"].driver == "volumes"


def test_a_broker_without_a_volume_is_made_again() -> None:
    assert drivers(seen("queue")) == {"queue": "volumes"}


def test_who_only_reads_a_volume_is_made_again_with_who_writes_to_it() -> None:
    reader = seen("backup", folder("uploads", writable=False))

    assert drivers(seen("web", folder("uploads")), reader) == {"web": "volumes", "backup": "volumes"}
    assert drivers(seen("db", folder("rows")), seen("backup", folder("rows", writable=False)))["backup"] == "none"
    assert drivers(seen("db", folder("rows")), seen("backup", folder("rows")))["backup"] == "none"


def test_who_shares_a_namespace_is_made_again_too() -> None:
    found = choose(MODEL, {}, [seen("web", folder("uploads")), seen("backup", joins=["p-web-1"]), seen("seed")], {})

    assert {name: one.driver for name, one in found.items()} == {"web": "volumes", "backup": "volumes", "seed": "none"}
    assert "shares a volume or a namespace" in found["backup"].why


def test_a_database_that_cannot_copy_itself_falls_back_to_its_volume() -> None:
    found = choose(MODEL, {}, [seen("db", folder("rows"))], {"db": "permission denied"})

    assert (found["db"].driver, found["db"].why) == ("volumes", "it writes to /data (permission denied)")


def test_what_had_ended_is_left_unless_its_volume_is_emptied() -> None:
    ended = seen("seed", runs=False)

    assert choose(MODEL, {}, [ended], {})["seed"].why == "it had ended after the start"
    assert drivers(seen("web", folder("uploads")), seen("seed", folder("uploads"), runs=False))["seed"] == "volumes"
    assert drivers(seen("db", runs=False)) == {"db": "none"}


def test_a_product_is_also_known_by_its_image_s_variables() -> None:
    images = {"web": ImageFacts(environment={"PG_MAJOR": "17"})}

    assert choose(MODEL, images, [seen("web")], {})["web"].driver == "postgresql"


def test_services_that_share_anything_are_reset_together() -> None:
    containers = [
        seen("web", folder("uploads")), seen("backup", folder("uploads", writable=False)),
        seen("seed", joins=["p-backup-1"]), seen("queue", folder("messages")),
    ]  # fmt: skip

    assert together({"web"}, containers) == {"web", "backup", "seed"}
    assert together({"queue"}, containers) == {"queue"}


def test_each_choice_says_why() -> None:
    found = choose(
        MODEL, {}, [
            seen("db"), seen("cache"), seen("queue"), seen("seed"), seen("backup", joins=["p-web-1"]),
            seen("web", folder("uploads"), folder("theirs", own=False),
                 Folder(path="/more", volume="more", own=True, writable=True)),
        ], {},
    )  # fmt: skip

    assert {name: one.why for name, one in found.items()} == {
        "db": "it is PostgreSQL", "cache": "it is Redis or Valkey", "queue": "it is RabbitMQ",
        "web": "it writes to /data, /more", "seed": "it keeps nothing in a volume, so it keeps running",
        "backup": "it shares a volume or a namespace with a service that is made again",
    }  # fmt: skip


def test_a_database_inside_a_namespace_that_goes_is_made_again_and_one_that_others_join_is_not() -> None:
    web = seen("web", folder("uploads"))

    assert drivers(web, seen("cache", joins=["p-web-1"])) == {"web": "volumes", "cache": "volumes"}
    assert drivers(seen("web", folder("uploads"), joins=["p-db-1"]), seen("db")) == {
        "web": "volumes",
        "db": "postgresql",
    }
    assert drivers(web, seen("db", folder("uploads", writable=False)))["db"] == "postgresql"


def test_a_database_is_reset_in_place_though_others_have_its_volume() -> None:
    backup = seen("backup", folder("rows", writable=False), folder("backups"))

    assert drivers(seen("db", folder("rows")), backup) == {"db": "postgresql", "backup": "volumes"}


def test_what_shares_with_each_other_says_why_by_itself() -> None:
    found = choose(MODEL, {}, [seen("web", folder("a"), joins=["p-backup-1"]), seen("backup", joins=["p-web-1"])], {})

    assert found["web"].why == "it writes to /data"


def test_what_shares_with_what_shares_is_made_again_too() -> None:
    chain = [
        seen("web", folder("uploads")), seen("backup", joins=["p-web-1"]), seen("seed", joins=["p-backup-1"]),
        seen("worker", joins=["p-seed-1", "p-web-1"]), seen("last", joins=["p-worker-1"]),
    ]  # fmt: skip
    model = {"services": {**MODEL["services"], "worker": {"image": "web"}, "last": {"image": "web"}}}

    assert {one.driver for one in choose(model, {}, chain, {}).values()} == {"volumes"}


ANSWER: dict[str, Any] = {
    "Id": "a" * 64,
    "Name": "/p-web-1",
    "Config": {"Image": "web", "Hostname": "a" * 12, "ExposedPorts": {"80/tcp": {}}, "MacAddress": "02:42"},
    "HostConfig": {"NetworkMode": "p_default", "VolumesFrom": None},
    "NetworkSettings": {"Networks": {"p_default": {
        "Aliases": ["web", "a" * 12], "IPAMConfig": {"IPv4Address": "10.0.0.2"}, "IPAddress": "10.0.0.2", "Links": None,
    }}},
}  # fmt: skip


def test_a_container_is_made_again_without_what_the_engine_chose_for_it() -> None:
    assert container_files.body(ANSWER, {}) == {
        "Image": "web", "ExposedPorts": {"80/tcp": {}}, "HostConfig": {"NetworkMode": "p_default", "VolumesFrom": []},
        "NetworkingConfig": {"EndpointsConfig": {"p_default": {
            "Aliases": ["web"], "IPAMConfig": {"IPv4Address": "10.0.0.2"},
        }}},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("NetworkMode", "container:bbb", "container:p-db-1"),
        ("IpcMode", "container:bbb", "container:p-db-1"),
        ("PidMode", "container:stranger", "container:stranger"),
        ("VolumesFrom", ["bbb:ro"], ["p-db-1:ro"]),
    ],
)
def test_a_container_that_is_made_again_names_those_that_it_joins(key: str, value: object, wanted: object) -> None:
    host = {**ANSWER["HostConfig"], key: value}
    made = container_files.body({**ANSWER, "HostConfig": host}, {"bbb": "p-db-1"})

    assert made["HostConfig"][key] == wanted
    assert ("NetworkingConfig" in made) == (key != "NetworkMode")
    assert container_files.joined({**ANSWER, "HostConfig": host}) == ["bbb" if "bbb" in str(value) else "stranger"]
