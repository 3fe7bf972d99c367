"""Granting, renewing, moving, taking over and ending leases."""

from __future__ import annotations

import math
import os
import re
import shlex
import socket
import stat
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lease_records import SERVICES

from stackyard.errors import BookError, LeaseNotFoundError, PoolExhaustedError, UsageError
from stackyard.leases import owners
from stackyard.leases.directory import credentials
from stackyard.leases.directory.files import env_text
from stackyard.leases.names import check_id, check_seconds
from stackyard.leases.records import parse_env

if TYPE_CHECKING:
    from pathlib import Path

    from lease_records import Clock, MakeBook, Surroundings

    from stackyard.leases import LeaseBook


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    ports: frozenset[int] = frozenset()
    subnets: tuple[str, ...] = ()


def test_a_lease_is_ten_ports_a_subnet_and_a_project(book: LeaseBook, environment: Surroundings) -> None:
    lease = book.acquire(environment)

    assert lease.slot == 0
    assert dict(lease.ports) == {"postgres": 11000, "redis": 11001, "backend": 11002, "auth": 11003, "websocket": 11004}
    assert lease.spare == (11005, 11006, 11007, 11008, 11009)
    assert lease.subnet == "10.214.0.0/28"
    assert lease.project == f"stackyard-test-{lease.id}"
    assert len(lease.id) == 8
    assert lease.owner == owners.Owner.current()
    assert lease.deadline is None
    assert book.leases() == [lease]
    assert book.find(lease.id) == lease
    assert book.stale() == []
    assert book.check() == "ok"


def test_two_leases_share_nothing(book: LeaseBook, environment: Surroundings) -> None:
    one, two = book.acquire(environment), book.acquire(environment)

    assert not {*one.ports.values(), *one.spare} & {*two.ports.values(), *two.spare}
    assert one.subnet != two.subnet
    assert one.project != two.project
    assert not set(one.secrets()) & set(two.secrets())


def test_the_slot_given_back_first_is_used_first(book: LeaseBook, environment: Surroundings) -> None:
    held = [book.acquire(environment) for _ in range(4)]
    for lease in (held[2], held[0]):
        book.release(lease)

    assert [book.acquire(environment).slot for _ in range(2)] == [2, 0]


def test_a_fresh_slot_comes_before_a_used_one(book: LeaseBook, environment: Surroundings) -> None:
    book.release(book.acquire(environment))

    assert book.acquire(environment).slot == 1


def test_release_ends_a_lease_once_and_deletes_its_files(book: LeaseBook, environment: Surroundings) -> None:
    lease = book.acquire(environment)

    assert book.release(lease)
    assert not book.release(lease)
    assert not book.release(lease.id)
    assert book.leases() == []
    assert list(lease.directory.parent.iterdir()) == []


def test_a_full_pool_names_range_holders_and_ways_out(book: LeaseBook, environment: Surroundings) -> None:
    for number in range(4):
        book.acquire(environment, parallel_id=f"job-{number}")

    with pytest.raises(PoolExhaustedError) as caught:
        book.acquire(environment)

    text = str(caught.value)
    assert "no free slot of 10 ports in 11000-11039: 4 of 4 slots are leased (0 of them stale)" in text
    assert "job-3" in text
    assert "STACKYARD_POOL=11000-11039,20000-20999" in text
    assert "invoke cleanup.stale" in text
    assert len(book.leases()) == 4


def test_a_full_pool_of_many_names_a_few_holders(make_book: MakeBook, environment: Surroundings) -> None:
    book = make_book(STACKYARD_POOL="11100-11139", STACKYARD_POOL_BLOCK="5")
    for _ in range(8):
        book.acquire(environment)

    with pytest.raises(PoolExhaustedError, match="and 3 more"):
        book.acquire(environment)


def test_no_subnet_left_is_its_own_error(make_book: MakeBook, environment: Surroundings) -> None:
    book = make_book(STACKYARD_POOL_SUBNETS="10.214.4.0/27")
    book.acquire(environment)
    book.acquire(environment)

    with pytest.raises(
        PoolExhaustedError, match=r"no free /28 in 10\.214\.4\.0/27: all 2 .* Next: set STACKYARD_POOL_SUB"
    ):
        book.acquire(environment)
    assert len(book.leases()) == 2


def test_the_same_parallel_id_is_the_same_lease_and_renews_it(
    book: LeaseBook, environment: Surroundings, clock: Clock
) -> None:
    first = book.acquire(environment, parallel_id="job-1")
    clock.now += 100
    again = book.acquire(environment, parallel_id="job-1")

    assert again == replace(first, deadline=clock.now + 3600)
    assert first.owner.kind == "detached"
    assert book.find("job-1") == again
    assert book.acquire(environment, parallel_id="job-2").id != first.id


def test_a_parallel_id_is_its_environments_own(book: LeaseBook, environment: Surroundings) -> None:
    other = replace(environment, name="ci")
    one = book.acquire(environment, parallel_id="job-1")
    two = book.acquire(other, parallel_id="job-1")

    assert one.id != two.id
    assert book.find("job-1", environment="ci") == two
    with pytest.raises(UsageError, match="several environments"):
        book.find("job-1")


def test_a_repeated_request_may_bring_new_variables_and_keeps_the_secrets(
    book: LeaseBook, environment: Surroundings
) -> None:
    first = book.acquire(environment, parallel_id="job-1", variables={"STACKYARD_IMAGE_REDIS": "one"})
    secrets = first.secrets()

    again = book.acquire(environment, parallel_id="job-1", variables={"STACKYARD_IMAGE_REDIS": "two"})

    assert again.variables()["STACKYARD_IMAGE_REDIS"] == "two"
    assert again.secrets() == secrets


def test_ttl_makes_a_lease_that_no_process_owns(book: LeaseBook, environment: Surroundings, clock: Clock) -> None:
    lease = book.acquire(environment, ttl=30)

    assert lease.owner.kind == "detached"
    assert lease.deadline == clock.now + 30
    assert book.stale() == []
    clock.now += 30
    assert book.stale() == [lease]


def test_an_infinite_ttl_is_never_stale(book: LeaseBook, environment: Surroundings, clock: Clock) -> None:
    lease = book.acquire(environment, ttl=math.inf)
    clock.now += 1e9

    assert lease.deadline is None
    assert book.stale() == []


def test_renew_moves_the_deadline_of_any_lease(book: LeaseBook, environment: Surroundings, clock: Clock) -> None:
    lease = book.acquire(environment, parallel_id="job-1")

    assert book.renew("job-1", 7200).deadline == clock.now + 7200
    assert book.renew(lease.id, math.inf).deadline is None
    assert book.find(lease.id).deadline is None


def test_a_detached_lease_outlives_its_process_and_can_still_be_released_by_it(
    book: LeaseBook, environment: Surroundings, clock: Clock
) -> None:
    lease = book.acquire(environment)

    kept = book.renew(lease.id, 600, detach=True)

    assert kept.owner.kind == "detached"
    assert not owners.is_held(lease.lock)
    assert kept.variables()["STACKYARD_OWNER"] == kept.owner.label()
    assert kept.variables()["COMPOSE_PROFILES"] == "test"
    assert book.stale() == []
    assert book.renew(lease.id, 600, detach=True) == kept
    clock.now += 601
    assert book.stale() == [kept]
    assert book.release(lease)


def test_a_passed_deadline_overrides_a_living_process(book: LeaseBook, environment: Surroundings, clock: Clock) -> None:
    lease = book.acquire(environment)
    book.renew(lease.id, 10)
    clock.now += 11

    assert [stale.id for stale in book.stale()] == [lease.id]


@pytest.mark.parametrize("ttl", [0, -1, math.nan, -math.inf, 1e9, True, "08"])
def test_a_ttl_that_is_no_sensible_time_is_refused(book: LeaseBook, environment: Surroundings, ttl: float) -> None:
    lease = book.acquire(environment)

    with pytest.raises(UsageError, match="ttl must be a time"):
        book.acquire(environment, ttl=ttl)
    with pytest.raises(UsageError, match="ttl must be a time"):
        book.renew(lease.id, ttl)


@pytest.mark.parametrize(
    "text", ["0", "-1", "nan", "inf", "1e3", "08", "", " 1", "1.", "٣", "9999999999", None, [], 10**400]
)
def test_only_plain_seconds_pass(text: object) -> None:
    with pytest.raises(UsageError, match="wait must be a time"):
        check_seconds("wait", text)


@pytest.mark.parametrize(("text", "seconds"), [("1", 1.0), ("0.5", 0.5), ("3600", 3600.0), (7, 7.0), (2.5, 2.5)])
def test_plain_seconds_are_read(text: object, seconds: float) -> None:
    assert check_seconds("wait", text) == seconds


@pytest.mark.parametrize(
    "hostile",
    [
        "",
        "../x",
        "A B",
        "-rf",
        "_x",
        "x" * 41,
        "x" * 5000,
        "a\0b",
        "$(touch pwn)",
        "`id`",
        "a\nb",
        "ü",
        "😀",
        "a/b",
        "Job",
        ".",
        7,
    ],
)
def test_a_hostile_id_never_reaches_the_disk(book: LeaseBook, environment: Surroundings, hostile: str) -> None:
    for attempt in (
        lambda: book.find(hostile),
        lambda: book.acquire(environment, parallel_id=hostile),
        lambda: book.renew(hostile, 5),
        lambda: book.quarantine(hostile, 5),
    ):
        with pytest.raises(UsageError, match="must be 1 to 40 of a-z"):
            attempt()

    assert book.leases() == []
    assert not (book.settings.state_dir / "leases").exists()


@given(st.text(max_size=60))
def test_an_id_is_either_plain_or_refused(text: str) -> None:
    try:
        accepted = check_id("an id", text)
    except UsageError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both outcomes are checked
    else:
        assert accepted == text
        assert set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
        assert 1 <= len(text) <= 40


def test_an_unknown_lease_is_named_with_the_way_to_see_all(book: LeaseBook) -> None:
    with pytest.raises(LeaseNotFoundError, match=r"'nothing'; list all leases \('invoke ports\.list'\)"):
        book.find("nothing")


def test_the_fixed_block_is_taken_when_it_is_free(book: LeaseBook, environment: Surroundings) -> None:
    lease = book.acquire(environment, fixed="prefer")

    assert lease.slot is None
    assert lease.ports == environment.ports
    assert lease.subnet == environment.subnet
    assert "STACKYARD_WEBSOCKET_PORT" not in lease.variables()
    book.release(lease)
    assert book.acquire(environment, fixed="only").slot is None


def test_a_taken_fixed_block_moves_a_run_to_the_pool(book: LeaseBook, environment: Surroundings) -> None:
    book.acquire(environment, fixed="prefer")

    assert book.acquire(environment, fixed="prefer").slot == 0


def test_a_taken_fixed_block_names_the_lease_and_process_that_has_it(
    book: LeaseBook, environment: Surroundings
) -> None:
    holder = book.acquire(environment, fixed="only")

    with pytest.raises(PoolExhaustedError) as caught:
        book.acquire(environment, fixed="only")

    assert f"port 11934 is leased to lease {holder.id} of test, pid {os.getpid()} (" in str(caught.value)
    assert "envs/docker_environments.yaml" in str(caught.value)


def test_a_lease_is_known_by_its_name_and_id(book: LeaseBook, environment: Surroundings) -> None:
    held = book.acquire(environment, parallel_id="mine", fixed="only", attached=True)

    with pytest.raises(PoolExhaustedError) as caught:
        book.acquire(environment, fixed="only")
    assert f"leased to lease mine ({held.id}) of test" in str(caught.value)


def test_a_program_on_a_fixed_port_is_named(book: LeaseBook, environment: Surroundings) -> None:
    with socket.create_server(("127.0.0.1", 11981)):
        with pytest.raises(PoolExhaustedError, match=rf"port 11981 \(redis\) is in use by pid {os.getpid()} \("):
            book.acquire(environment, fixed="only")
        assert book.acquire(environment, fixed="prefer").slot == 0


def test_an_engine_that_has_a_fixed_port_or_subnet_is_named(book: LeaseBook, environment: Surroundings) -> None:
    with pytest.raises(PoolExhaustedError, match=r"port 11934 \(postgres\) is published by another container"):
        book.acquire(environment, fixed="only", strangers=lambda: Engine(ports=frozenset({11934})))
    with pytest.raises(PoolExhaustedError, match=r"subnet 10\.214\.255\.16/28 overlaps"):
        book.acquire(environment, fixed="only", strangers=lambda: Engine(subnets=("10.214.255.0/24",)))


def test_ports_and_subnets_of_an_engine_are_skipped(book: LeaseBook, environment: Surroundings) -> None:
    lease = book.acquire(
        environment, strangers=lambda: Engine(ports=frozenset({11009}), subnets=("10.214.0.16/28", "10.214.0.32/28"))
    )

    assert lease.slot == 1
    assert lease.subnet == "10.214.0.48/28"


def test_a_port_another_program_has_is_skipped(book: LeaseBook, environment: Surroundings) -> None:
    with socket.create_server(("127.0.0.1", 11007)):
        assert book.acquire(environment).slot == 1


def test_a_fixed_block_within_the_pool_is_never_leased_twice(book: LeaseBook, environment: Surroundings) -> None:
    inside = replace(environment, ports={"postgres": 11003, "redis": 11012, "backend": 11013, "auth": 11014})
    book.acquire(inside, fixed="only")

    assert book.acquire(environment).slot == 2


def test_pools_of_different_block_sizes_do_not_overlap(make_book: MakeBook, environment: Surroundings) -> None:
    tens, twenties = make_book(), make_book(STACKYARD_POOL_BLOCK="20")
    tens.acquire(environment)

    lease = twenties.acquire(environment)

    assert min(lease.ports.values()) == 11020
    assert tens.acquire(environment).slot == 1


def test_data_in_a_volume_means_one_lease_for_each_checkout(book: LeaseBook, dev: Surroundings, tmp_path: Path) -> None:
    lease = book.acquire(dev, fixed="only", ttl=60)
    other = book.acquire(replace(dev, root=tmp_path), ttl=60)

    assert re.fullmatch(r"dev-[0-9a-f]{6}", lease.id)
    assert lease.project == f"stackyard-{lease.id}"
    assert len({lease.id, other.id}) == len({lease.project, other.project}) == 2
    assert book.acquire(dev, fixed="only", ttl=60).secrets() == lease.secrets()
    with pytest.raises(UsageError, match="leave the name 'x' out"):
        book.acquire(dev, parallel_id="x")


def test_a_volumes_lease_of_a_living_process_is_not_handed_to_another(
    book: LeaseBook, dev: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = book.acquire(dev)
    assert book.acquire(dev).id == held.id
    other = replace(owners.Owner.current(), pid=1, ticks=1)
    monkeypatch.setattr(owners.Owner, "current", lambda: other)

    with pytest.raises(PoolExhaustedError, match=f"lease {held.id} of dev belongs to pid {os.getpid()}"):
        book.acquire(dev)


def test_the_env_file_overlays_the_environment_with_the_lease(book: LeaseBook, environment: Surroundings) -> None:
    lease = book.acquire(environment, parallel_id="job-1", variables={"STACKYARD_IMAGE_REDIS": "stackyard/redis:x"})
    found, secret = lease.variables(), credentials.read(lease.secrets_dir, SERVICES.secrets)

    assert stat.S_IMODE(lease.env_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(lease.directory.stat().st_mode) == 0o700
    assert found["COMPOSE_PROFILES"] == "test"
    assert found["COMPOSE_PROJECT_NAME"] == lease.project
    assert found["STACKYARD_IMAGE_REDIS"] == "stackyard/redis:x"
    assert found["STACKYARD_HOST"] == book.host
    assert found["STACKYARD_JWT_KEY"] == secret["jwt_key"]
    assert found["STACKYARD_JWT_AUDIENCE"] == lease.id
    assert found["STACKYARD_AUTH_PORT"] == "11003"
    assert lease.url("postgres") == f"postgresql://app:{secret['postgres_password']}@127.0.0.1:11000/app"
    assert lease.url("redis") == f"redis://app:{secret['redis_password']}@127.0.0.1:11001/0"
    assert lease.url("backend") == found["STACKYARD_ALLOWED_ORIGIN"] == "http://127.0.0.1:11002"
    assert lease.url("auth") == "http://127.0.0.1:11003"
    assert lease.url("websocket") == "ws://127.0.0.1:11002/ws"
    with pytest.raises(UsageError, match="no service 'mail'"):
        lease.url("mail")


def test_a_shell_reads_the_env_file_as_we_do(book: LeaseBook, environment: Surroundings) -> None:
    awkward = {"STACKYARD_A": 'a b;$HOME `id` "q" #x \\', "STACKYARD_B": "", "STACKYARD_C": "é=*?[~]"}
    lease = book.acquire(replace(environment, variables=awkward))
    script = f"set -a; . {shlex.quote(str(lease.env_file))}; env -0"

    seen = subprocess.run(["sh", "-c", script], capture_output=True, check=True, env={}).stdout.decode()  # noqa: S603, S607 - our own script

    shell = dict(line.split("=", 1) for line in seen.rstrip("\0").split("\0"))
    assert {key: shell[key] for key in lease.variables()} == lease.variables()
    assert awkward.items() <= lease.variables().items()


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,9}", fullmatch=True), st.text(max_size=30), max_size=5))
def test_an_env_file_is_read_back_or_refused(values: dict[str, str]) -> None:
    try:
        text = env_text(values)
    except UsageError as error:
        assert "no env file can hold" in str(error)  # noqa: PT017 - both outcomes are checked
    else:
        assert parse_env(text) == values


@pytest.mark.parametrize("name", ["lower", "1X", "A-B", "A B", "", "A\nB"])
def test_a_name_that_is_no_variables_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="variable names are"):
        env_text({name: "x"})


def test_a_caller_cannot_overwrite_what_the_lease_says(book: LeaseBook, environment: Surroundings) -> None:
    with pytest.raises(UsageError, match="COMPOSE_PROJECT_NAME belongs to the lease"):
        book.acquire(environment, variables={"COMPOSE_PROJECT_NAME": "mine"})

    assert book.leases() == []
    assert not (book.settings.state_dir / "leases").exists()
    assert book.acquire(environment).slot == 0


def test_secrets_show_neither_in_the_record_nor_in_its_json(book: LeaseBook, environment: Surroundings) -> None:
    lease = book.acquire(environment)
    shown = repr(lease) + str(lease.to_json())

    assert not any(secret in shown for secret in lease.secrets())


def test_a_lost_env_file_is_one_clear_error(book: LeaseBook, environment: Surroundings) -> None:
    lease = book.acquire(environment)
    lease.env_file.unlink()

    with pytest.raises(BookError, match=f"lease {lease.id}: .*env"):
        lease.url("redis")


def test_move_gives_another_slot_under_the_same_id_and_secrets(
    book: LeaseBook, environment: Surroundings, clock: Clock
) -> None:
    lease = book.acquire(environment, variables={"STACKYARD_IMAGE_REDIS": "x"})
    secrets = lease.secrets()

    moved = book.move(lease, rest=60)

    assert (moved.id, moved.project, moved.slot) == (lease.id, lease.project, 1)
    assert moved.secrets() == secrets
    assert moved.variables()["STACKYARD_REDIS_PORT"] == "11011"
    assert moved.variables()["STACKYARD_IMAGE_REDIS"] == "x"
    assert moved.variables()["COMPOSE_PROFILES"] == "test"
    assert book.leases() == [moved]
    assert book.stale() == []
    assert {book.acquire(environment).slot for _ in range(2)} == {2, 3}
    with pytest.raises(PoolExhaustedError):
        book.acquire(environment)
    clock.now += 60
    assert book.acquire(environment).slot == 0


def test_a_scattered_lease_gets_any_free_slot(
    book: LeaseBook, environment: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.choice", lambda found: found[-1])

    lease = book.acquire(environment, scattered=True)

    assert lease.slot == 3
    assert [book.acquire(environment, scattered=True).slot, book.acquire(environment).slot] == [2, 0]
    assert book.move(lease, scattered=True).slot == 1
    assert book.check() == "ok"


def test_moving_from_a_fixed_block_goes_to_the_pool(book: LeaseBook, environment: Surroundings) -> None:
    lease = book.acquire(environment, fixed="only")

    assert book.move(lease).variables()["STACKYARD_WEBSOCKET_PORT"] == "11002"
    assert book.acquire(environment, fixed="only").slot is None


def test_a_lease_that_cannot_move_stays_as_it_was(book: LeaseBook, environment: Surroundings) -> None:
    leases = [book.acquire(environment) for _ in range(4)]

    with pytest.raises(PoolExhaustedError):
        book.move(leases[0])
    assert {lease.id: lease for lease in book.leases()} == {lease.id: lease for lease in leases}
    assert book.check() == "ok"


def test_a_lease_that_has_ended_cannot_move(book: LeaseBook, environment: Surroundings) -> None:
    lease = book.acquire(environment)
    book.release(lease)

    with pytest.raises(LeaseNotFoundError, match="has ended"):
        book.move(lease)


def test_a_quarantined_slot_rests_after_its_release(book: LeaseBook, environment: Surroundings, clock: Clock) -> None:
    held = [book.acquire(environment) for _ in range(4)]
    book.quarantine(held[0].id, 30)
    book.release(held[0])

    with pytest.raises(PoolExhaustedError):
        book.acquire(environment)
    clock.now += 31
    assert book.acquire(environment).slot == 0


def test_only_one_of_two_takes_a_stale_lease_over(book: LeaseBook, environment: Surroundings, clock: Clock) -> None:
    lease = book.acquire(environment, ttl=5)
    clock.now += 6

    taken = book.take_over(lease)

    assert taken is not None
    assert taken.removing
    assert book.take_over(lease) is None
    assert book.stale() == []
    assert not book.release(lease)
    assert book.release(taken)


def test_a_lease_renewed_meanwhile_is_not_taken_over(book: LeaseBook, environment: Surroundings, clock: Clock) -> None:
    lease = book.acquire(environment, ttl=5)
    clock.now += 6
    book.renew(lease.id, 60)

    assert book.take_over(lease) is None


def test_a_slow_reclaimer_never_ends_a_fresh_lease_of_the_same_name(
    book: LeaseBook, dev: Surroundings, clock: Clock
) -> None:
    old = book.acquire(dev, ttl=5)
    clock.now += 6
    taken = book.take_over(old)
    assert taken is not None
    book.release(taken)
    fresh = book.acquire(dev, ttl=5)

    assert book.take_over(old) is None
    assert not book.release(taken)
    assert book.leases() == [fresh]


def test_a_lease_being_removed_can_be_neither_renewed_nor_used(
    book: LeaseBook, environment: Surroundings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = book.acquire(environment, parallel_id="job-1", ttl=5)
    clock.now += 6
    book.take_over(lease)
    other = replace(owners.Owner.current(), pid=1, ticks=1)
    monkeypatch.setattr(owners.Owner, "current", lambda: other)

    with pytest.raises(LeaseNotFoundError, match="is being removed by pid"):
        book.renew("job-1", 60)
    with pytest.raises(PoolExhaustedError, match="is being removed by pid"):
        book.acquire(environment, parallel_id="job-1")


def test_directories_of_no_lease_are_swept(book: LeaseBook, environment: Surroundings) -> None:
    lease = book.acquire(environment)
    folder = lease.directory.parent
    for name in ("deadbeef", "dev", ".gone-0123456789ab", ".new-0123456789ab"):
        (folder / name / "secrets").mkdir(parents=True)
        (folder / name / "secrets" / "jwt_key").write_text("x")
        (folder / name / "owner.lock").touch()
    for name in (".gone-aaaaaaaaaaaa", ".new-aaaaaaaaaaaa"):
        (folder / name).mkdir()

    assert book.stale() == []
    assert len(list(folder.iterdir())) == 7
    assert book.tidy() == 4
    assert list(folder.iterdir()) == [lease.directory]


def test_a_wait_ends_with_the_same_error_after_the_time_given(
    book: LeaseBook, environment: Surroundings, clock: Clock
) -> None:
    for _ in range(4):
        book.acquire(environment)
    start = clock.now

    with pytest.raises(PoolExhaustedError, match="4 of 4 slots"):
        book.acquire(environment, wait=3)

    assert clock.now - start == pytest.approx(3)
    assert book._store.run(lambda db: db.execute("SELECT count(*) FROM queue").fetchone()[0]) == 0


def test_a_waiter_gets_the_slot_that_is_given_back(
    book: LeaseBook, make_book: MakeBook, environment: Surroundings, clock: Clock
) -> None:
    held = [book.acquire(environment) for _ in range(4)]
    waiter = make_book()

    def sleep(seconds: float) -> None:
        clock.now += seconds
        if clock.now > 1_800_000_001:
            book.release(held[3])

    waiter._waiting._sleep = sleep

    assert waiter.acquire(environment, wait=5).slot == 3


def test_a_waiter_looks_again_at_what_the_engine_has_published(
    book: LeaseBook, make_book: MakeBook, environment: Surroundings, clock: Clock
) -> None:
    held = [book.acquire(environment) for _ in range(4)]
    published = {port for lease in held for port in lease.every_port}
    waiter = make_book()

    def sleep(seconds: float) -> None:
        clock.now += seconds
        if clock.now > 1_800_000_001:
            book.release(held[3])
            published.difference_update(held[3].every_port)

    waiter._waiting._sleep = sleep
    began = clock.now

    lease = waiter.acquire(environment, wait=5, strangers=lambda: Engine(ports=frozenset(published)))
    assert lease.slot == 3
    assert clock.now - began < 2


def test_room_that_was_made_is_seen_at_once(book: LeaseBook, environment: Surroundings) -> None:
    held = [book.acquire(environment) for _ in range(4)]
    published = {port for lease in held for port in lease.every_port}

    def make_room() -> bool:
        published.difference_update(held[2].every_port)
        return book.release(held[2])

    given = book.acquire(environment, make_room=make_room, strangers=lambda: Engine(ports=frozenset(published)))
    assert given.slot == 2


def test_who_does_not_wait_does_not_overtake_those_who_do(
    book: LeaseBook, make_book: MakeBook, environment: Surroundings, clock: Clock
) -> None:
    held = [book.acquire(environment) for _ in range(4)]
    waiter = make_book()
    seen: list[str] = []

    def sleep(seconds: float) -> None:
        clock.now += seconds
        if not seen:
            book.release(held[1])
            with pytest.raises(PoolExhaustedError, match="requests ahead in the queue: 1") as caught:
                book.acquire(environment)
            seen.append(str(caught.value))
            book.release(held[2])
            seen.append(str(book.acquire(environment).slot))

    waiter._waiting._sleep = sleep

    assert waiter.acquire(environment, wait=5).slot == 1
    assert seen[1] == "2"


@pytest.mark.parametrize("wait", [None, 5.0])
def test_the_place_that_a_request_has_made_for_it_goes_to_no_other(
    book: LeaseBook, make_book: MakeBook, environment: Surroundings, wait: float | None
) -> None:
    leases = [book.acquire(environment) for _ in range(4)]
    refused: list[str] = []

    def make_room() -> bool:
        book.release(leases[2])
        with pytest.raises(PoolExhaustedError) as caught:
            make_book().acquire(environment)
        refused.append(str(caught.value))
        return True

    assert book.acquire(environment, wait=wait, make_room=make_room).slot == 2
    assert ["requests ahead in the queue: 1" in text for text in refused] == [True]
    assert book._store.run(lambda db: db.execute("SELECT count(*) FROM queue").fetchone()[0]) == 0


@pytest.mark.parametrize(("made", "asked"), [([False], 1), ([True] * 9, 5), ([True, False, True], 2)])
def test_room_is_made_until_there_is_none_or_enough_was_made(
    book: LeaseBook, environment: Surroundings, made: list[bool], asked: int
) -> None:
    for _ in range(4):
        book.acquire(environment)
    left = list(made)

    with pytest.raises(PoolExhaustedError, match="4 of 4 slots are leased"):
        book.acquire(environment, make_room=lambda: left.pop(0))
    assert len(made) - len(left) == asked
    assert book._store.run(lambda db: db.execute("SELECT count(*) FROM queue").fetchone()[0]) == 0


def test_a_dead_waiter_is_dropped(book: LeaseBook, environment: Surroundings, clock: Clock) -> None:
    gone = replace(owners.Owner.current(), ticks=1).label()
    silent = replace(owners.Owner.current(), namespace=1).label()
    rows = [("pool", gone, clock.now), ("pool", silent, clock.now - 31), ("pool", "nonsense", clock.now)]
    book._store.run(lambda db: db.executemany("INSERT INTO queue (wanted, owner, seen) VALUES (?, ?, ?)", rows))

    for _ in range(4):
        book.acquire(environment)
    assert book._store.run(lambda db: db.execute("SELECT count(*) FROM queue").fetchone()[0]) == 0


def test_those_who_wait_for_a_fixed_block_come_first(book: LeaseBook, environment: Surroundings, clock: Clock) -> None:
    row = ("block:test", replace(owners.Owner.current(), namespace=1).label(), clock.now)
    book._store.run(lambda db: db.execute("INSERT INTO queue (wanted, owner, seen) VALUES (?, ?, ?)", row))

    with pytest.raises(PoolExhaustedError, match="others wait for them"):
        book.acquire(environment, fixed="only")


def test_the_pool_may_have_gaps_that_the_kernel_keeps(make_book: MakeBook, environment: Surroundings) -> None:
    book = make_book(STACKYARD_POOL="30000-30039")

    with pytest.raises(PoolExhaustedError, match="4 in use by other programs or kept by the kernel"):
        book.acquire(environment)


def test_a_lease_needs_no_more_than_its_directory_to_be_deleted_by_hand(
    book: LeaseBook, environment: Surroundings, tmp_path: Path
) -> None:
    lease = book.acquire(environment)
    lease.directory.rename(tmp_path / "moved")

    assert book.stale() == []
    assert book.release(lease)
