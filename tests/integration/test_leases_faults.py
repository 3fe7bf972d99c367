"""
What a host can do to the lease book: other users, other pid namespaces, other networks, files that cannot be written.

Real users, namespaces, mounts and routes; no Docker. Each needs root and skips without it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stackyard.errors import BookError, PoolExhaustedError
from stackyard.leases import LeaseBook
from stackyard.project.environments import Environment
from stackyard.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ROOT = Path(__file__).parents[2]
FULL = os.environ.get("STACKYARD_FULL") == "1"
KILLS = 500 if FULL else 20
NOBODY = 65534
ACQUIRE = """
import json, sys
from stackyard.project.environments import Environment
from stackyard.leases import LeaseBook
from stackyard.settings import Settings
book = LeaseBook(Settings.load())
lease = book.acquire(Environment.load("test"), ttl=float(sys.argv[1]) if len(sys.argv) > 1 else None)
print(json.dumps(lease.to_json()), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("STACKYARD_")}
    own = {"STATE_DIR": str(tmp_path / "state"), "POOL": "11800-11899", "SUBNETS": "", "ROOT": str(ROOT)}
    return kept | {f"STACKYARD_{key}": value for key, value in own.items() if value}


@pytest.fixture
def book(variables: dict[str, str]) -> LeaseBook:
    return LeaseBook(Settings.load(variables))


@pytest.fixture
def environment() -> Environment:
    return Environment.load("test", ROOT)


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, text=True, capture_output=True, check=False, **options)  # noqa: S603 - our own words


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network namespace with a bridge that has an address, and a black hole."""
    name = f"stackyard-{os.getpid()}"
    if shutil.which("ip") is None or run("ip", "netns", "add", name).returncode != 0:
        pytest.skip("needs network namespaces")
    inside = ("ip", "-n", name)
    try:
        for words in (
            ("link", "set", "lo", "up"),
            ("link", "add", "host-route", "type", "bridge"),
            ("addr", "add", "10.213.0.1/24", "dev", "host-route"),
            ("link", "set", "host-route", "up"),
            ("route", "add", "blackhole", "10.213.1.0/24"),
        ):
            done = run(*inside, *words)
            assert done.returncode == 0, done.stderr
        yield name
    finally:
        run("ip", "netns", "del", name)


def test_a_subnet_a_host_route_or_black_hole_lies_on_is_skipped(namespace: str, variables: dict[str, str]) -> None:
    words = ["ip", "netns", "exec", namespace, sys.executable, "-c", ACQUIRE, "60"]

    done = run(*words, env=variables, input="", cwd=ROOT)

    lease = json.loads(done.stdout)
    # 10.213.0.0/24 and 10.213.1.0/24 are taken
    assert lease["slot"] == 0
    assert lease["subnet"] == "10.213.2.0/28"
    held = run("ip", "-n", namespace, "route", "get", "10.213.0.9")
    assert "dev host-route" in held.stdout


def test_a_kernel_reserved_range_is_not_leased(namespace: str, variables: dict[str, str]) -> None:
    own = "echo 11800-11819,11835 > /proc/sys/net/ipv4/ip_local_reserved_ports"
    words = [
        "ip", "netns", "exec", namespace, "sh", "-c", f'{own} && exec "$@"', "sh",
        sys.executable, "-c", ACQUIRE, "60",
    ]  # fmt: skip

    slots = [json.loads(run(*words, env=variables, input="", cwd=ROOT).stdout)["slot"] for _ in range(2)]

    assert slots == [2, 4]


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1"])  # noqa: S104 - the cases under test
def test_a_block_with_one_port_of_another_program_is_skipped(
    book: LeaseBook, environment: Environment, kind: socket.SocketKind, address: str
) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as theirs:
        theirs.bind((address, 11807))

        assert book.acquire(environment, ttl=60).slot == 1


def test_two_hundred_connections_in_time_wait_keep_no_port(book: LeaseBook, environment: Environment) -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 11800))
        server.listen(256)
        for _ in range(200):
            client = socket.create_connection(("127.0.0.1", 11800))
            served, _ = server.accept()
            served.close()  # the server's end waits
            client.close()

    assert book.acquire(environment, ttl=60).slot == 0


@pytest.mark.parametrize(
    ("setting", "value", "text"),
    [("POOL", "11800-11806", "shorter than one block"), ("POOL_SUBNETS", "10.214.0.0/27", "no free /28")],
)
def test_a_range_that_holds_too_little_is_one_clear_error_and_leaves_nothing(
    variables: dict[str, str], setting: str, value: str, text: str
) -> None:
    own = variables | {f"STACKYARD_{setting}": value}
    script = [sys.executable, str(ROOT / "scripts" / "allocate_test_ports.py"), "--json", "--parallel-id"]

    done = [run(*script, f"job-{number}", env=own) for number in range(3)]

    assert done[2].returncode == (2 if setting == "POOL" else 4)
    assert text in done[2].stderr
    assert len(done[2].stderr.splitlines()) == 1
    names = sorted(path.name for path in Path(variables["STACKYARD_STATE_DIR"]).glob("leases/*"))
    assert len(names) == (0 if setting == "POOL" else 2)


@pytest.fixture
def nobodys(tmp_path: Path) -> dict[str, str]:
    """The variables of a second real user, who can read this project and nothing of ours."""
    probe = run("setpriv", f"--reuid={NOBODY}", "--clear-groups", sys.executable, "-c", "import stackyard", cwd="/")
    if probe.returncode != 0:
        pytest.skip("the second user cannot read the project")
    # not below pytest's own folders, which are root's alone
    home = Path(f"/var/tmp/stackyard-{os.getpid()}-{tmp_path.name}")
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, NOBODY)
    return {"HOME": str(home), "PATH": "/usr/bin:/bin", "STACKYARD_POOL": "11800-11899", "STACKYARD_ROOT": str(ROOT)}


def as_nobody(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return run("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *words, cwd="/", **options)


def test_two_users_have_two_books_and_see_each_others_ports(
    book: LeaseBook, environment: Environment, nobodys: dict[str, str]
) -> None:
    try:
        mine = book.acquire(environment, ttl=600)
        with socket.socket() as service:
            service.bind(("127.0.0.1", mine.ports["redis"]))
            service.listen()
            done = as_nobody(sys.executable, "-c", ACQUIRE, "60", env=nobodys, input="")

        theirs = json.loads(done.stdout)
        assert not {*mine.ports.values(), *mine.spare} & {*theirs["ports"].values(), *theirs["spare"]}
        assert theirs["env_file"].startswith(nobodys["HOME"])
        assert Path(theirs["env_file"]).stat().st_uid == NOBODY
    finally:
        shutil.rmtree(nobodys["HOME"])


def test_another_users_book_is_refused_whatever_their_rights(
    book: LeaseBook, environment: Environment, nobodys: dict[str, str]
) -> None:
    state = Path(nobodys["HOME"]) / "state"
    try:
        done = as_nobody(
            sys.executable, "-c", ACQUIRE, "60", env=nobodys | {"STACKYARD_STATE_DIR": str(state)}, input=""
        )
        before = sorted(path.name for path in state.rglob("*"))

        ours = LeaseBook(Settings.load({"STACKYARD_STATE_DIR": str(state)}))
        with pytest.raises(BookError, match=f"belongs to user {NOBODY}, not to 0") as caught:
            ours.acquire(environment)

        assert json.loads(done.stdout)["slot"] == 0
        assert caught.value.exit_code == 5
        assert sorted(path.name for path in state.rglob("*")) == before
        # and the other way round: root's own is closed to them
        book.leases()
        refused = as_nobody(
            sys.executable, "-c", ACQUIRE, env=nobodys | {"STACKYARD_STATE_DIR": str(book.settings.state_dir)}, input=""
        )
        assert refused.returncode != 0
        assert "BookError" in refused.stderr
    finally:
        shutil.rmtree(nobodys["HOME"])


def test_the_same_pid_in_another_pid_namespace_is_another_owner(book: LeaseBook, variables: dict[str, str]) -> None:
    words = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-c", ACQUIRE]
    held = [
        subprocess.Popen(words, env=variables, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 - our own words
        for _ in range(2)
    ]
    try:
        leases = [json.loads(child.stdout.readline()) for child in held if child.stdout]
        owners = [lease["owner"].split(":") for lease in leases]

        # both are pid 1, each of its own world: alive as long as they run, for each other and for us
        assert [owner[1] for owner in owners] == ["1", "1"]
        assert owners[0][3] != owners[1][3]
        assert not {*leases[0]["ports"].values()} & {*leases[1]["ports"].values()}
        assert book.stale() == []
        held[0].communicate(timeout=120)
        assert [lease.id for lease in book.stale()] == [leases[0]["lease"]]
    finally:
        for child in held:
            child.kill()
            child.communicate()
    assert {lease.id for lease in book.stale()} == {lease["lease"] for lease in leases}


def test_a_pid_the_kernel_gives_out_again_does_not_own_the_lease(variables: dict[str, str]) -> None:
    program = """
import json, os, subprocess, sys, time
from stackyard.project.environments import Environment
from stackyard.leases import LeaseBook
from stackyard.settings import Settings
book = LeaseBook(Settings.load())
owner = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
lease = json.loads(owner.stdout.readline())
owner.kill()
owner.communicate()
for _ in range(200):
    with open("/proc/sys/kernel/ns_last_pid", "w") as last:
        last.write(str(owner.pid - 1))
    again = subprocess.Popen(["sleep", "60"])
    if again.pid == owner.pid:
        break
    again.kill()
    again.wait()
print(json.dumps([lease["owner"].split(":")[1], str(again.pid), [found.id for found in book.stale()], lease["lease"]]))
again.kill()
again.wait()
"""
    words = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-c", program, ACQUIRE)

    done = run(*words, env=variables, cwd=ROOT)

    first, again, stale, lease = json.loads(done.stdout)
    assert first == again
    assert stale == [lease]


@pytest.fixture
def immutable(book: LeaseBook) -> Iterator[Path]:
    """The book's file, which no user may change, root included."""
    book.leases()
    book._store.close()
    file = book.settings.state_dir / "book.sqlite3"
    if run("chattr", "+i", str(file)).returncode != 0:
        pytest.skip("this file system has no immutable files")
    yield file
    run("chattr", "-i", str(file))


def test_a_book_no_one_may_write_is_one_clear_error_and_is_left_alone(
    book: LeaseBook, environment: Environment, immutable: Path
) -> None:
    before = immutable.read_bytes()

    with pytest.raises(BookError, match=r"readonly database|not permitted|unable to open") as caught:
        book.acquire(environment)

    assert caught.value.exit_code == 5
    assert immutable.read_bytes() == before
    assert list((immutable.parent / "leases").iterdir()) == []
    assert not list(immutable.parent.glob("*.corrupt-*"))


def test_a_directory_no_one_may_write_is_one_clear_error(book: LeaseBook, environment: Environment) -> None:
    lease = book.acquire(environment, ttl=60)
    folder = book.settings.state_dir / "leases"
    if run("chattr", "+i", str(folder)).returncode != 0:
        pytest.skip("this file system has no immutable files")
    try:
        with pytest.raises(BookError, match="not permitted"):
            book.acquire(environment)
        with pytest.raises(BookError, match="not permitted"):
            book.release(lease)
    finally:
        run("chattr", "-i", str(folder))
    assert book.leases() == [lease]
    assert book.release(lease)


def test_kills_within_a_transaction_leave_no_partial_lease(book: LeaseBook, variables: dict[str, str]) -> None:
    program = """
import os, signal, sys
from stackyard.project.environments import Environment
from stackyard.leases import LeaseBook
from stackyard.leases.database import rows
from stackyard.settings import Settings
book, environment = LeaseBook(Settings.load()), Environment.load("test")
real = rows.insert
def insert(db, lease):
    db.execute("PRAGMA cache_size=1")
    real(db, lease)
    if sys.argv[1] == "spilled":
        db.executemany("INSERT INTO meta VALUES (?, ?)", ((f"k{n}", "x" * 500) for n in range(1000)))
    os.kill(os.getpid(), signal.SIGKILL)
rows.insert = insert
book.acquire(environment)
"""
    book.leases()
    for number in range(KILLS):
        words = (sys.executable, "-c", program, ("early", "spilled")[number % 2])
        assert run(*words, env=variables, cwd=ROOT).returncode == -9
        assert book.leases() == []
    assert book.check() == "ok"
    assert book.stale() == []
    book.tidy()
    assert list((book.settings.state_dir / "leases").iterdir()) == []
    assert not list(book.settings.state_dir.glob("*.corrupt-*"))


@pytest.mark.parametrize("kind", ["tmpfs", "overlay"])
def test_a_book_works_on_other_file_systems(
    kind: str, tmp_path: Path, variables: dict[str, str], environment: Environment
) -> None:
    mounted = tmp_path / "mounted"
    layers = [tmp_path / "base" / name for name in ("lower", "upper", "work")]
    mounted.mkdir()
    (tmp_path / "base").mkdir()
    if run("mount", "-t", "tmpfs", "tmpfs", str(tmp_path / "base")).returncode != 0:
        pytest.skip("needs mounts")
    try:
        for layer in layers:
            layer.mkdir()
        options = f"lowerdir={layers[0]},upperdir={layers[1]},workdir={layers[2]}"
        words = ("-t", "overlay", "-o", options, "overlay") if kind == "overlay" else ("--bind", str(layers[0]))
        assert run("mount", *words, str(mounted)).returncode == 0
        book = LeaseBook(Settings.load(variables | {"STACKYARD_STATE_DIR": str(mounted / "state")}))
        held = [book.acquire(environment) for _ in range(3)]
        (mounted / "state" / "book.sqlite3").unlink()

        assert {lease.id for lease in book.leases()} == {lease.id for lease in held}
        for lease in held:
            book.release(lease)
        assert book.check() == "ok"
        book._store.close()
    finally:
        run("umount", "--lazy", str(mounted))
        run("umount", "--lazy", str(tmp_path / "base"))


def test_a_foreign_program_that_takes_every_block_is_not_taken_for_leases(
    variables: dict[str, str], environment: Environment
) -> None:
    book = LeaseBook(Settings.load(variables | {"STACKYARD_POOL": "11800-11819"}))
    book.acquire(environment, ttl=60)
    with socket.socket() as theirs:
        theirs.bind(("127.0.0.1", 11815))
        theirs.listen()

        with pytest.raises(PoolExhaustedError, match=r"1 of 2 slots are leased .*, 1 in use by other programs"):
            book.acquire(environment)
