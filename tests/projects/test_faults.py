"""Faults around the copy of another project: killed commands, a lost book, a taken port, a full disk."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.projects.expected import BARE

from stackyard._util import process
from stackyard.docker.ownership import HOST_LABEL
from stackyard.leases import LeaseBook
from stackyard.project import Project
from stackyard.stacks.copies import lifecycle
from stackyard.stacks.starts.request import CopyRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stackyard.docker import Engine
    from stackyard.leases import Lease

STACKYARD: Final = [sys.executable, "-c", "from stackyard.cli.entry import main; main()"]
COMPOSE: Final = """
services:
  web: {{image: {box}, container_name: shop-web, ports: ["8080:80"], volumes: [rows:/rows]}}
  slow:
    image: {box}
    healthcheck: {{test: [CMD, test, -e, /ready], interval: 1s, retries: 100}}
    profiles: [slow]
volumes:
  rows:
"""
ENOUGH: Final = 280.0  # seconds, on a machine that does much else


@dataclass
class Shop:
    """A stranger's project, and the commands that its user types there."""

    folder: Path
    book: LeaseBook
    engine: Engine
    reaper: str = "off"

    def begin(self, *words: str, state: Path | None = None) -> subprocess.Popen[str]:
        here = self.folder if self.folder.exists() else self.folder.parent
        own = {"STATE_DIR": str(state or self.book.settings.state_dir), "REAPER": self.reaper}
        env = BARE | {f"STACKYARD_{name}": value for name, value in own.items()}
        return subprocess.Popen(  # noqa: S603 - ours
            [*STACKYARD, *words], cwd=here, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def end(self, *words: str, state: Path | None = None) -> tuple[int, str, str]:
        """Run a command; return exit code, output and messages."""
        child = self.begin(*words, state=state)
        out, err = child.communicate(timeout=ENOUGH)
        return child.returncode, out, err

    def ask(self, *words: str) -> Any:
        code, out, err = self.end(*words, "--json")
        assert code == 0, err + out
        return json.loads(out)

    def half_way(self) -> subprocess.Popen[str]:
        """Begin a start that does not become ready; return it once its containers are there."""
        child = self.begin("up", "--name", "mine", "--profile", "slow")
        end = time.monotonic() + ENOUGH
        while len([item for item in self.things() if item.kind == "container"]) < 2:
            assert time.monotonic() < end
            assert child.poll() is None
            time.sleep(0.05)
        return child

    def things(self) -> list[Any]:
        return self.engine.everything([f"{HOST_LABEL}={self.book.host}"])


@pytest.fixture
def shop(box: str, tmp_path: Path, book: LeaseBook, engine: Engine) -> Shop:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "compose.yaml").write_text(COMPOSE.format(box=box))
    return Shop(folder, book, engine)


def test_what_a_killed_up_left_is_removed_by_the_next_clean_up(shop: Shop) -> None:
    child = shop.half_way()
    child.kill()
    child.communicate(timeout=ENOUGH)

    code, out, err = shop.end("cleanup")

    assert code == 0, out + err
    assert shop.things() == shop.book.leases() == []


def test_the_reaper_removes_a_copy_whose_time_is_over_and_that_of_a_killed_run(shop: Shop) -> None:
    shop.reaper = "on"
    code, out, err = shop.end("up", "--name", "short", "--ttl", "1s")
    assert code == 0, out + err
    _until(lambda: shop.things() == shop.book.leases() == [])

    killed = shop.begin("run", "--name", "mine", "--", "sh", "-c", f"touch '{shop.folder}/begun'; exec sleep 600")
    _until((shop.folder / "begun").exists)
    killed.kill()
    killed.communicate(timeout=ENOUGH)

    _until(lambda: shop.things() == shop.book.leases() == [])


def _until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + ENOUGH
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_the_same_up_after_a_killed_one_starts_the_copy(shop: Shop) -> None:
    child = shop.half_way()
    child.kill()
    child.communicate(timeout=ENOUGH)

    assert shop.ask("up", "--name", "mine")["seconds"] > 0
    assert {row["status"] for row in shop.ask("ps", "mine")["services"]} == {"running"}

    shop.ask("down", "--name", "mine")
    assert shop.things() == shop.book.leases() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_an_up_that_is_asked_to_end_removes_what_it_made(shop: Shop, number: signal.Signals) -> None:
    child = shop.half_way()

    child.send_signal(number)
    out, err = child.communicate(timeout=ENOUGH)

    assert child.returncode in {130, 143}, out + err
    assert "Traceback" not in err
    assert shop.things() == shop.book.leases() == []


@pytest.mark.parametrize("all_files", [False, True])
def test_a_lost_book_knows_names_ports_and_networks_again(shop: Shop, all_files: bool) -> None:
    before = shop.ask("up", "--name", "mine")
    kept = shop.book.find("mine")
    (shop.book.settings.state_dir / "book.sqlite3").unlink()
    if all_files:
        shutil.rmtree(shop.book.settings.state_dir / "leases")

    assert [item["name"] for item in shop.ask("ps", "--all")] == ["mine"]
    found = shop.book.find("mine")
    other = shop.ask("up", "--name", "other")

    assert (found.ports, found.subnet, found.project) == (kept.ports, kept.subnet, kept.project)
    assert not {item["port"] for item in before["ports"]} & {item["port"] for item in other["ports"]}
    if not all_files:
        assert shop.ask("ports", "--name", "mine")["ports"] == before["ports"]
    for name in ("mine", "other"):
        shop.ask("down", "--name", name)
    assert shop.things() == shop.book.leases() == []


def test_a_copy_whose_folder_was_deleted_is_removed_by_its_name(shop: Shop) -> None:
    shop.ask("up", "--name", "mine")
    shutil.rmtree(shop.folder)

    shop.ask("down", "--name", "mine")

    assert shop.things() == shop.book.leases() == []


def test_a_port_that_a_stranger_takes_meanwhile_costs_the_copy_only_its_place(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire: Callable[..., Lease] = LeaseBook.acquire
    told: list[str] = []
    with socket.socket() as stranger:

        def overtaken(book: LeaseBook, *words: Any, **options: Any) -> Lease:
            lease = acquire(book, *words, **options)
            while not told:
                try:
                    stranger.bind(("127.0.0.1", lease.ports["web_80_tcp"]))
                except OSError:  # another test has it
                    book.release(lease)
                    lease = acquire(book, *words, **options)
                else:
                    stranger.listen()
                    told.append(str(lease.ports["web_80_tcp"]))
            return lease

        monkeypatch.setattr(LeaseBook, "acquire", overtaken)
        copy = lifecycle.start(
            Project.find(shop.folder, environment=BARE), shop.book, shop.engine, CopyRequest(progress=told.append)
        )

        assert str(copy.addresses[0].port) != told[0]
        assert "another program took a leased port; the copy gets another place" in told
        assert copy.down().left == []
    assert shop.things() == shop.book.leases() == []


@pytest.mark.parametrize("command", [("up", "--name", "mine"), ("ps",), ("down", "--name", "mine")])
def test_a_state_directory_that_cannot_be_one_is_one_line(shop: Shop, tmp_path: Path, command: tuple[str, ...]) -> None:
    wrong = tmp_path / "file"
    wrong.write_text("not a folder")

    code, out, err = shop.end(*command, state=wrong)

    assert code == 5, out + err
    assert err.strip().count("\n") == 0, err
    assert str(wrong) in err
    assert shop.things() == []


def test_a_run_leaves_a_copy_alone_that_was_up_before(shop: Shop) -> None:
    up = shop.ask("up", "--name", "mine")

    code, out, err = shop.end("run", "--name", "mine", "--", "true")

    assert (code, out) == (2, "")
    assert re.fullmatch(r"copy mine \(\w+\) is up already; run the command with another --name, or without\n", err)
    assert [one["lease"] for one in shop.ask("ps")] == [up["lease"]]
    assert shop.end("run", "--name", "other", "--", "sh", "-c", "exit 4")[0] == 4
    assert len(shop.ask("ps")) == 1


def test_a_service_that_ended_during_a_run_is_named_with_its_last_lines_and_refuses_an_exec(shop: Shop) -> None:
    late = "echo working; until [ -e /flags/now ]; do sleep 0.1; done; echo 'no more paper'; touch /flags/ended; exit 9"
    end = 'touch flags/now; until [ -e flags/ended ]; do sleep 0.1; done; sleep 2; exec "$@" exec late -- true'
    compose = shop.folder / "compose.yaml"
    image = compose.read_text().partition("image: ")[2].partition(",")[0]
    service = f'  late: {{image: {image}, command: [sh, -c, "{late}"], volumes: ["./flags:/flags"]}}\nvolumes:\n  rows'
    compose.write_text(compose.read_text().replace("volumes:\n  rows", service))
    (shop.folder / "flags").mkdir()

    code, _, err = shop.end("run", "--quiet", "--name", "mine", "--", "sh", "-c", end, "sh", *STACKYARD)

    assert code == 7
    refused, *warning = err.splitlines()
    assert re.fullmatch(r"late of mine \(\w+\) does not run \(exited, exit code 9\); no command runs in it", refused)
    assert warning == ["warning: while the command ran, late: exited, exit code 9", "  | working", "  | no more paper"]


def test_a_copy_that_lacks_a_service_does_not_count_as_running(shop: Shop) -> None:
    more = "  once: {image: BOX, command: [sh, -c, 'exit 0']}\n  db: {image: BOX}\nvolumes:"
    compose = shop.folder / "compose.yaml"
    image = compose.read_text().partition("image: ")[2].partition(",")[0]
    compose.write_text(compose.read_text().replace("volumes:\n  rows", f"{more.replace('BOX', image)}\n  rows"))
    project = shop.ask("up", "--name", "mine")["project"]
    assert shop.ask("up", "--name", "mine")["seconds"] == 0
    assert {row["service"] for row in shop.ask("ps", "mine")["services"]} == {"db", "once", "web"}
    (gone,) = (item for item in shop.things() if item.kind == "container" and item.name == f"{project}-db-1")

    shop.engine.remove(gone)
    up, ps = shop.end("up", "--name", "mine"), shop.end("ps", "mine")

    assert (up[:2], "not every service of it runs: db (missing); end the copy" in up[2]) == ((7, ""), True)
    assert (ps[0], ["db", "missing"] in [line.split()[:2] for line in ps[1].splitlines()]) == (7, True)
    assert shop.end("down", "mine")[0] == shop.end("up", "--name", "mine")[0] == shop.end("ps", "mine")[0] == 0


def test_a_copy_whose_ended_one_shots_were_pruned_still_counts_as_running(
    shop: Shop, project: Callable[[str], Path]
) -> None:
    shop.folder = project("one-shots")
    name = shop.ask("up", "--name", "mine")["project"]
    ended = [item for item in shop.things() if item.name in {f"{name}-migrate-1", f"{name}-seed-1"}]

    for item in ended:  # as `docker system prune` does
        shop.engine.remove(item)
    up, ps = shop.end("up", "--name", "mine"), shop.end("ps", "mine")

    assert len(ended) == 2
    assert (up[0], ps[0]) == (0, 0), up[2] + ps[2]
    assert shop.end("down", "mine")[0] == 0


def test_a_container_that_a_user_makes_from_one_of_a_copy_s_stays(shop: Shop) -> None:
    project = shop.ask("up", "--name", "mine")["project"]
    kept = f"kept-{project[-8:]}"
    process.run(["docker", "commit", f"{project}-web-1", f"{kept}:1"], deadline=120)
    process.run(["docker", "run", "--detach", "--name", kept, f"{kept}:1"], deadline=60)
    try:
        code, out, err = shop.end("down", "mine")
        swept = shop.end("cleanup")
        process.run(["docker", "start", kept], deadline=60)
    finally:
        process.run(["docker", "rm", "--force", kept], deadline=60)
        process.run(["docker", "rmi", f"{kept}:1"], deadline=60)

    assert code == swept[0] == 0, out + err + swept[2]
    assert shop.things() == shop.book.leases() == []


def test_a_second_up_names_files_that_the_copy_has_only_in_their_earlier_form_until_it_is_restarted(shop: Shop) -> None:
    file, dist, compose = shop.folder / "web.txt", shop.folder / "dist", shop.folder / "compose.yaml"
    dist.mkdir()
    for path in (file, dist / "index"):
        path.write_text("1")
    own = ', "./web.txt:/web.txt", "./dist:/dist"]}\n'
    compose.write_text(compose.read_text().replace("]}\n", own, 1))
    project = shop.ask("up", "--name", "mine")["project"]

    (shop.folder / "new").write_text("2")
    (shop.folder / "new").rename(file)
    shutil.rmtree(dist)
    dist.mkdir()
    (dist / "index").write_text("2")
    code, _, err = shop.end("up", "--name", "mine")

    restart = f"docker compose -p {project} restart web"
    assert code == 0
    assert err == (
        f"warning: replaced since this copy was started: dist, web.txt; '{restart}' lets its services have what is "
        "there now\n"
    )
    assert shop.end("exec", "web", "--", "cat", "/web.txt")[1] == "1"
    subprocess.run(restart.split(), check=True, capture_output=True)  # noqa: S603 - ours
    assert shop.end("exec", "web", "--", "cat", "/web.txt", "/dist/index")[1] == "22"
    assert shop.end("up", "--name", "mine")[2] == ""
    shop.ask("down", "--name", "mine")


@pytest.fixture
def full(tmp_path: Path) -> Any:
    """A state directory on a disk that has no room."""
    folder = tmp_path / "full"
    folder.mkdir(mode=0o700)
    mounted = subprocess.run(  # noqa: S603 - ours
        ["/bin/mount", "-t", "tmpfs", "-o", "size=8k,mode=0700", "tmpfs", str(folder)], check=False, capture_output=True
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip("this user may not mount")
    yield folder
    subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)  # noqa: S603 - ours


def test_a_full_disk_is_one_line_and_nothing_starts(shop: Shop, full: Path) -> None:
    code, out, err = shop.end("up", "--name", "mine", state=full)

    assert code == 5, out + err
    assert "disk is full" in err
    assert "STACKYARD_STATE_DIR" in err
    assert "Traceback" not in err
    assert err.strip().count("\n") == 0, err
