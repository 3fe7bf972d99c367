"""Whether a host has room for one more stack, and how that is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from invoke.context import Context

from stackyard.cli import env
from stackyard.errors import ConfigError, PoolExhaustedError
from stackyard.leases.grants import admission, host_ports
from stackyard.leases.grants.admission import Booked, Capacity, Memory, host_memory
from stackyard.leases.records import parse_env
from stackyard.project.environments import Environment
from stackyard.project.environments.consistency import ComposeFile

if TYPE_CHECKING:
    from fake_engine import FakeEngine
    from lease_records import Clock, MakeBook, Surroundings

    from stackyard.leases import LeaseBook

ROOT = Path(__file__).parents[3]
GROUP = "0::/ci/job\n"


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> list[Memory]:
    """What the host has: the last one counts."""
    told = [Memory(total_mb=1000, available_mb=1000)]
    monkeypatch.setattr(host_ports, "host_memory", lambda: told[-1])
    return told


@pytest.fixture
def hungry(environment: Surroundings) -> Surroundings:
    return replace(environment, reserve_mb=300)


def test_leases_book_memory_until_none_is_left(book: LeaseBook, hungry: Surroundings, host: list[Memory]) -> None:
    assert host
    held = [book.acquire(hungry) for _ in range(3)]

    with pytest.raises(PoolExhaustedError) as caught:
        book.acquire(hungry)

    assert str(caught.value) == (
        "no memory for another stack of test, which books 286 MiB: 3 leases have booked 858 MiB of 858 MiB (90% "
        "of all), 954 MiB are available, 858 MiB of them for stacks that are starting. Next: list all leases "
        "('invoke ports.list') and end some, remove stale stacks ('invoke cleanup.stale'), wait (--queue-timeout 5m), "
        "or start it anyway (--force)"
    )
    book.release(held[0])
    assert book.acquire(hungry).memory_mb == 300


def test_force_asks_no_one_for_memory(book: LeaseBook, hungry: Surroundings, host: list[Memory]) -> None:
    host.append(Memory(total_mb=100, available_mb=1))

    assert book.acquire(hungry, force=True).memory_mb == 300


def test_what_books_nothing_always_fits(book: LeaseBook, environment: Surroundings, host: list[Memory]) -> None:
    host.append(Memory(total_mb=100, available_mb=0))

    assert book.acquire(environment).memory_mb == 0


def test_a_host_that_does_not_tell_limits_nothing(
    book: LeaseBook, hungry: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_ports, "host_memory", lambda: None)

    assert book.acquire(hungry).memory_mb == 300
    assert book.capacity(hungry).memory is None


def test_a_young_stack_counts_though_it_uses_nothing_yet(
    book: LeaseBook, hungry: Surroundings, host: list[Memory], clock: Clock
) -> None:
    host.append(Memory(total_mb=10_000, available_mb=500))
    book.acquire(hungry)

    with pytest.raises(PoolExhaustedError, match="no memory"):
        book.acquire(hungry)
    clock.now += admission.SETTLING + 1
    assert book.acquire(hungry).slot == 1


def test_a_waiter_gets_the_memory_that_is_given_back(
    book: LeaseBook, hungry: Surroundings, host: list[Memory], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert host
    held = [book.acquire(hungry) for _ in range(3)]

    def give_back(_: float) -> None:
        clock.now += 1
        while held:
            book.release(held.pop())

    monkeypatch.setattr(book._waiting, "_sleep", give_back)

    assert book.acquire(hungry, wait=10).memory_mb == 300


def test_a_lease_asked_for_again_books_nothing_more(book: LeaseBook, hungry: Surroundings, host: list[Memory]) -> None:
    first = book.acquire(hungry, parallel_id="job-1")
    host.append(Memory(total_mb=100, available_mb=0))

    assert book.acquire(hungry, parallel_id="job-1").id == first.id


def test_a_rebuilt_book_knows_what_was_booked(make_book: MakeBook, hungry: Surroundings, host: list[Memory]) -> None:
    assert host
    book = make_book()
    lease = book.acquire(hungry)
    (book.settings.state_dir / "book.sqlite3").unlink()

    assert [found.memory_mb for found in make_book().leases()] == [300]
    assert parse_env(lease.env_file.read_text())["STACKYARD_MEMORY_MB"] == "300"


@pytest.mark.parametrize(
    ("memory", "pool", "subnets", "stacks", "limit"),
    [
        pytest.param(Memory(total_mb=1000, available_mb=700), "11000-11039", "10.214.0.0/17", 2, "memory", id="memory"),
        pytest.param(Memory(total_mb=9000, available_mb=9000), "11000-11039", "10.214.0.0/17", 4, "slots", id="slots"),
        pytest.param(
            Memory(total_mb=9000, available_mb=9000), "11000-11039", "10.214.0.0/27", 2, "networks", id="nets"
        ),
        pytest.param(Memory(total_mb=900, available_mb=-5), "11000-11039", "10.214.0.0/17", 0, "memory", id="none"),
    ],
)
def test_capacity_is_what_runs_out_first(
    make_book: MakeBook, hungry: Surroundings, host: list[Memory], memory: Memory, pool: str, subnets: str,
    stacks: int, limit: str,
) -> None:  # fmt: skip
    host.append(memory)
    book = make_book(STACKYARD_POOL=pool, STACKYARD_POOL_SUBNETS=subnets)

    found = book.capacity(hungry)

    assert (found.stacks, found.limit) == (stacks, limit)
    assert found.to_json()["available_bytes"] == memory.available_mb * 1_000_000


def test_capacity_shrinks_with_each_lease_and_keeps_its_word(book: LeaseBook, environment: Surroundings) -> None:
    for left in (4, 3, 2, 1):
        assert book.capacity(environment).stacks == left
        book.acquire(environment)

    assert book.capacity(environment).stacks == 0
    with pytest.raises(PoolExhaustedError):
        book.acquire(environment)


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def lay_out(tmp_path: Path, group: str = GROUP) -> tuple[Path, Path]:
    proc = tmp_path / "proc"
    write(proc, meminfo="MemTotal: 2000000 kB\nMemFree: 1 kB\nMemAvailable: 1000000 kB\nBuffers: 3 kB\n")
    write(proc / "self", cgroup=group)
    return proc, tmp_path / "cgroup"


def test_the_hosts_memory_is_read_in_mb(tmp_path: Path) -> None:
    assert host_memory(*lay_out(tmp_path)) == Memory(total_mb=2048, available_mb=1024)


def test_this_hosts_memory_is_known() -> None:
    found = host_memory()

    assert found is not None
    assert 0 < found.available_mb <= found.total_mb


def test_the_tightest_cgroup_counts_and_idle_cache_is_room(tmp_path: Path) -> None:
    proc, groups = lay_out(tmp_path)
    stat = "anon 5\ninactive_file 100000000\nslab 7\n"
    write(groups / "ci" / "job", memory__max="max\n", memory__current="5\n", memory__stat=stat)
    write(groups / "ci", memory__max="500000000\n", memory__current="300000000\n", memory__stat=stat)

    assert host_memory(proc, groups) == Memory(total_mb=500, available_mb=300)


def test_a_cgroup_wider_than_the_host_changes_nothing(tmp_path: Path) -> None:
    proc, groups = lay_out(tmp_path)
    write(groups / "ci", memory__max="9000000000000\n", memory__current="1\n", memory__stat="inactive_file 1\n")

    assert host_memory(proc, groups) == Memory(total_mb=2048, available_mb=1024)


def test_a_host_without_cgroups_or_with_version_1_counts_as_a_whole(tmp_path: Path) -> None:
    proc, groups = lay_out(tmp_path, "3:memory:/x\n")
    assert host_memory(proc, groups) == Memory(total_mb=2048, available_mb=1024)
    (proc / "self" / "cgroup").unlink()
    assert host_memory(proc, groups) == Memory(total_mb=2048, available_mb=1024)


@pytest.mark.parametrize("text", ["", "MemTotal: x kB\n", "MemTotal\n", "MemTotal: 5 kB\nMemFree: 1 kB\nSwap: 1 kB\n"])
def test_a_host_that_tells_nothing_readable_is_unknown(tmp_path: Path, text: str) -> None:
    proc, groups = lay_out(tmp_path)
    (proc / "meminfo").write_text(text)

    assert host_memory(proc, groups) is None


def test_the_platforms_stacks_book_what_the_compose_file_reserves() -> None:
    environment = Environment.load("test", ROOT)

    # 40m + 8m + 32m + 32m; auth's and backend's are merged in
    assert environment.reserve_mb == -(-112 * 2**20 // 10**6)


@pytest.mark.parametrize(
    ("service", "expected"),
    [("{}", 0), ("{mem_reservation: 1g}", 1074), ("{<<: [{a: b}, {mem_reservation: 5mb}]}", 6), ("x", 0)],
)
def test_a_reservation_is_the_services_own_or_merged(tmp_path: Path, service: str, expected: int) -> None:
    (tmp_path / "compose.yml").write_text(
        f"services:\n  redis: {service}\n  mail: {{mem_reservation: 9g, profiles: [mail]}}\n"
    )

    assert ComposeFile.read(tmp_path / "compose.yml", "compose.yml", ["redis"]).reserve_mb == expected


def test_what_always_starts_with_the_platform_is_booked_with_it(tmp_path: Path) -> None:
    services = ("redis: {profiles: [test]}", "a: {mem_reservation: 1mb}", "b: {mem_reservation: 2mb, profiles: [test]}")
    (tmp_path / "compose.yml").write_text("services:\n" + "".join(f"  {service}\n" for service in services))

    assert ComposeFile.read(tmp_path / "compose.yml", "compose.yml", ["redis"]).reserve_mb == 4


@pytest.mark.parametrize("size", ["64", "1.5g", "-1m", "[64m]"])
def test_a_reservation_that_is_no_size_is_named(tmp_path: Path, size: str) -> None:
    (tmp_path / "compose.yml").write_text(f"services:\n  redis: {{mem_reservation: {size}}}\n")

    with pytest.raises(ConfigError, match=r"services\.redis\.mem_reservation: must be a size such as 64m or 1g"):
        ComposeFile.read(tmp_path / "compose.yml", "compose.yml", ["redis"])


def test_the_task_says_what_fits_and_what_limits(
    fake_engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fake_engine.containers == {}
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("STACKYARD_POOL", "11400-11419")
    monkeypatch.setenv("STACKYARD_POOL_SUBNETS", "10.214.96.0/20")
    env.capacity(Context())
    assert capsys.readouterr().out.startswith("2 more stacks of test can start; the limit is slots\nslots     2\n")

    env.capacity(Context(), json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["stacks"], told["limit"], told["reserve_bytes"]) == (2, "slots", 118_000_000)
    monkeypatch.setattr(host_ports, "host_memory", lambda: None)
    env.capacity(Context())
    assert "memory    no limit known" in capsys.readouterr().out


def test_nothing_booked_leaves_all_the_room() -> None:
    booked = Booked(leases=0, total_mb=0, young_mb=0)
    memory = Memory(total_mb=1000, available_mb=1000)

    found = Capacity.of("test", slots=9, networks=9, memory=memory, booked=booked, reserve_mb=0)

    assert (found.stacks, found.memory, found.limit) == (9, None, "slots")
    assert admission.refusal("test", 100, memory, booked, 8) is None
    refused = admission.refusal("test", 100, memory, booked, 9)
    assert refused is not None
    assert "requests ahead in the queue: 9" in refused
