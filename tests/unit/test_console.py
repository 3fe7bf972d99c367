"""The console program `stackyard`, as a user types it in a folder with a Compose file."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import jsonschema  # type: ignore[import-untyped] # it ships no types
import pytest
from fake_project import SHOP, FakeDocker, spoken

from stackyard._util import files, process
from stackyard.cleanup import removal
from stackyard.cli import console
from stackyard.cli.json_output import CONSOLE
from stackyard.docker import Engine
from stackyard.errors import BookError, CommandError
from stackyard.probes.published_protocols import spoken as real_spoken
from stackyard.probes.readiness_rules import choose
from stackyard.project.readiness_hints import Hint
from stackyard.stacks.readiness import waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from fake_engine import FakeEngine


REAL_RUN = process.run


@pytest.fixture
def docker(
    tmp_path: Path, fake_engine: FakeEngine, free_host: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeDocker]:
    del free_host
    made = FakeDocker(fake_engine)
    folder = tmp_path / "shop"
    (folder / "deep").mkdir(parents=True)
    (folder / "compose.yaml").touch()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("STACKYARD_STATE_DIR", str(tmp_path / "state"))
    made.install(monkeypatch)

    async def ready(*_: Any, **__: Any) -> None: ...

    monkeypatch.setattr(waiting, "wait", ready)
    monkeypatch.setattr("stackyard.stacks.copies.lifecycle.spoken", spoken)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def real_git(docker: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let git answer for itself."""

    def run(argv: Sequence[str], **options: Any) -> Any:
        return REAL_RUN(argv, **options) if argv[0] == "git" else docker(argv, **options)

    monkeypatch.setattr(process, "run", run)


class Typed:
    """What one command prints and returns."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self.capture = capture

    def __call__(self, *words: str) -> tuple[int, str, str]:
        self.capture.readouterr()
        code = 0
        try:
            console.program().run(["stackyard", *words])
        except SystemExit as ending:
            code = int(ending.code or 0)
        out, err = self.capture.readouterr()
        return code, out, err.strip()

    def json(self, *words: str) -> Any:
        found = json.loads(self(*words, "--json")[1])
        jsonschema.validate(found, CONSOLE[words[0]])
        return found


@pytest.fixture
def typed(docker: FakeDocker, capsys: pytest.CaptureFixture[str]) -> Typed:
    del docker
    return Typed(capsys)


def test_up_prints_each_port_under_the_user_s_names_and_what_ends_the_copy(typed: Typed) -> None:
    code, out, _ = typed("up", "--name", "mine", "--ttl", "30m")

    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == "service in the file in a browser for programs".split()
    assert lines[2].split() == ["web", "8080:80", "http://mine.localhost:9500", "http://127.0.0.1:9500"]
    assert lines[-2].startswith("ready after ")
    assert " stays until " in lines[-2]
    assert lines[-2].endswith("(30 min)")
    assert lines[-1] == "'stackyard down --name mine' removes it"


def test_up_again_finds_the_copy(typed: Typed) -> None:
    typed("up", "--name", "mine")

    assert "it was running already" in typed("up", "--name", "mine")[1]


def test_up_names_the_copy_that_ran_before_the_project_s_name_changed(typed: Typed, docker: FakeDocker) -> None:
    old = typed.json("up", "--name", "mine")["lease"]
    docker.model = {"name": "store", **SHOP}
    end = f"'stackyard down --name {old}' removes it"

    code, out, err = typed("up", "--name", "mine")
    (new,) = {lease["lease"] for lease in typed.json("ps")} - {old}

    assert (code, err) == (0, f"warning: a copy mine ({old}) of project shop runs from this folder, too; {end}")
    assert out.splitlines()[-1] == f"'stackyard down --name {new}' removes it"  # the name alone may mean either
    assert "several copies have the name 'mine'; give the id of one" in typed("down", "mine")[2]
    assert typed("up", "--name", "other")[2] == ""
    assert typed("down", "--name", old)[0] == 0
    assert typed("up", "--name", "mine")[2] == ""


def test_up_has_a_form_for_programs(typed: Typed) -> None:
    found = typed.json("up", "-n", "mine")

    assert found["name"] == "mine"
    assert found["deadline"] > time.time() + 3500
    assert found["ports"] == [
        {"service": "web", "target": 80, "protocol": "tcp", "host": "127.0.0.1", "port": 9500,
         "url": "http://127.0.0.1:9500", "browser": "http://mine.localhost:9500", "published": "8080:80"},
    ]  # fmt: skip


@pytest.mark.parametrize("folder", [".", "deep"])
def test_the_only_copy_needs_no_name(typed: Typed, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    typed("up")
    monkeypatch.chdir(folder)

    assert "http://127.0.0.1:9500" in typed("ports")[1]
    assert typed("down")[0] == 0


def test_down_needs_nothing_of_the_project(typed: Typed, docker: FakeDocker, tmp_path: Path) -> None:
    typed("up", "--name", "mine")
    (tmp_path / "shop/compose.yaml").unlink()
    os.chdir(tmp_path)

    code, out, _ = typed("down", "mine")

    assert (code, docker.things()) == (0, [])
    assert "4 removed in " in out


@pytest.mark.parametrize("words", [["down"], ["down", "mine"], ["down", "--all"]])
def test_a_folder_that_is_gone_still_has_its_copies(
    typed: Typed, docker: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    typed("up", "--name", "mine")
    monkeypatch.setenv("PWD", str(tmp_path / "shop"))  # as a shell does
    shutil.rmtree(tmp_path / "shop")

    assert [row["name"] for row in typed.json("ps")] == ["mine"]
    assert typed(*words)[0] == 0
    assert docker.things() == []


def test_several_copies_need_a_name(typed: Typed) -> None:
    typed("up", "--name", "one")
    typed("up", "--name", "two")

    code, _, error = typed("down")

    assert code == 2
    assert error.startswith("this project has 2 copies; choose one with --name: one (")


def test_down_all_removes_the_copies_of_this_folder_and_no_others(
    typed: Typed, docker: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed("up", "--name", "one")
    typed("up", "--name", "two")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/compose.yaml").touch()
    monkeypatch.chdir(tmp_path / "other")
    typed("up", "--name", "one")

    monkeypatch.chdir(tmp_path / "shop")
    assert len(typed.json("down", "--all")["leases"]) == 2
    assert typed("ps")[1] == "no copies are up\n"
    assert [row["checkout"] for row in typed.json("ps", "--all")] == [str(tmp_path / "other")]
    assert len(docker.engine.networks) == 1


def test_down_all_removes_several_copies_at_once(
    typed: Typed, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed("up", "--name", "one")
    typed("up", "--name", "two")
    together = threading.Barrier(2, timeout=60)
    plain = removal.remove_lease

    def remove(*arguments: Any, **options: Any) -> Any:
        together.wait()  # breaks if one is removed only after another
        return plain(*arguments, **options)

    monkeypatch.setattr(removal, "remove_lease", remove)

    assert typed("down", "--all")[0] == 0
    assert docker.things() == []


def test_up_says_why_compose_made_a_copy(typed: Typed) -> None:
    first = typed("up", "--name", "one")[1]

    assert "made by compose: as STACKYARD_START asks" in first
    assert typed.json("up", "--name", "one")["by"] == "none: it was running already"


def test_a_name_of_this_folder_wins_and_an_ambiguous_one_is_refused(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed("up", "--name", "one")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/compose.yaml").touch()
    monkeypatch.chdir(tmp_path / "other")
    own = typed.json("up", "--name", "one")["lease"]

    assert typed.json("ports", "one")["lease"] == own
    monkeypatch.chdir(tmp_path)
    code, _, error = typed("ports", "one")
    assert code == 2
    assert error.startswith("several copies have the name 'one'; give the id of one: ")
    assert typed.json("ports", own)["lease"] == own


@pytest.fixture
def git(tmp_path: Path) -> Callable[..., None]:
    """Run git in a folder; first of all make the project a repository on branch `main`."""
    told = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]

    def run(folder: Path, *words: str) -> None:
        REAL_RUN(["git", "-C", str(folder), *told, *words], deadline=120)

    run(tmp_path / "shop", "init", "-q", "-b", "main")
    run(tmp_path / "shop", "commit", "-q", "--allow-empty", "-m", "first")
    return run


def test_a_copy_is_named_after_its_branch_and_every_command_means_it(
    typed: Typed, tmp_path: Path, git: Callable[..., None], real_git: None
) -> None:
    del real_git
    typed("up")
    git(tmp_path / "shop", "checkout", "-q", "-b", "feature/login")
    copy = typed.json("up")

    assert copy["name"] == "feature-login"
    assert typed.json("up")["lease"] == copy["lease"]
    for command in (["ports"], ["logs"], ["down"]):
        found = typed.json(*command)
        assert (found.get("leases") or [found])[0]["name"] == "feature-login"
    assert typed.json("env")["STACKYARD_LEASE"] == typed.json("ps")[0]["lease"]
    assert [row["name"] for row in typed.json("ps")] == ["main"]


def test_run_has_a_copy_of_its_own_on_a_branch_too(
    typed: Typed, git: Callable[..., None], real_git: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    del git, real_git
    seen: list[str] = []

    def passed(_: object, *, env: dict[str, str]) -> int:
        seen.append(env["STACKYARD_LEASE"])
        return 0

    monkeypatch.setattr(process, "passthrough", passed)
    up = typed.json("up")["lease"]

    assert typed("run", "--", "true")[0] == 0
    assert seen != [up]
    assert [row["lease"] for row in typed.json("ps")] == [up]


def test_a_worktree_inside_the_checkout_has_a_copy_of_its_own(
    typed: Typed, tmp_path: Path, git: Callable[..., None], real_git: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    del real_git
    main = typed.json("up")
    inside = tmp_path / "shop/.trees/agent-1"
    git(tmp_path / "shop", "worktree", "add", "-q", "-b", "x", str(inside))
    monkeypatch.chdir(inside)

    assert typed("down")[::2] == (5, "no copy of this folder's project is up; 'stackyard up' starts one")
    code, _, error = typed("down", "main")
    assert (code, error) == (
        5, f"no copy of this folder's project has the name 'main'; give an id to use {main['lease']} of {tmp_path}/shop"
    )  # fmt: skip
    (inside / "compose.yaml").touch()
    own = typed.json("up")
    assert (own["name"], own["checkout"]) == ("agent-1", str(inside))
    monkeypatch.chdir(tmp_path / "shop")
    assert typed.json("down")["leases"][0]["lease"] == main["lease"]
    assert typed("down")[0] == 5
    assert typed.json("down", own["lease"])["leases"][0]["lease"] == own["lease"]


def test_a_copy_of_a_file_in_a_folder_below_is_found_from_where_it_was_started(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop/deploy").mkdir()
    (tmp_path / "shop/deploy/staging.yml").touch()
    copy = typed.json("up", "--file", "deploy/staging.yml")

    assert copy["checkout"] == f"{tmp_path}/shop/deploy"
    assert typed.json("ports")["lease"] == copy["lease"]
    (tmp_path / "shop/deploy/compose.yaml").touch()  # now it is a project that is nearer to others
    assert typed("down")[0] == 5
    monkeypatch.chdir("deploy")
    assert typed("down")[0] == 0


def test_a_project_in_a_folder_above_is_not_meant_where_a_nearer_one_has_no_copy(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed("up")
    (tmp_path / "shop/deep/compose.yaml").touch()
    monkeypatch.chdir("deep")

    assert typed("down")[0] == 5
    assert typed("down", "--all")[1] == "no copies are up; 0 removed\n"


def test_no_copy_at_all_is_one_line(typed: Typed) -> None:
    assert typed("down")[2] == "no copy of this folder's project is up; 'stackyard up' starts one"
    assert typed("down", "x")[2] == "no copy has the name or id 'x'; 'stackyard ps --all' lists all"
    assert typed("down", "x")[0] == 5


def test_all_and_a_name_do_not_go_together(typed: Typed) -> None:
    assert typed("down", "x", "--all")[0] == 2


def test_what_cannot_be_removed_is_named_with_exit_code_8(
    typed: Typed, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "PAUSE", 0)
    typed("up")
    docker.engine.immortal |= {*docker.engine.volumes}

    code, _, error = typed("down")

    assert code == 8
    assert "1 left after the clean-up: volume " in error
    assert error.endswith(f"; then 'stackyard down {typed.json('ps')[0]['lease']}'")  # its lease lives on

    typed("up")
    docker.engine.immortal |= {*docker.engine.volumes}

    assert typed("down", "--all")[2].endswith("\nthen 'stackyard down --all'")


def test_a_disk_that_is_full_is_one_line_with_what_helps(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, _content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr("stackyard.stacks.copies.start.files.write", full)
        code, _, error = typed("up")

    assert code == 5
    assert error.endswith(f"/model.json: No space left on device; {files.MAKE_ROOM}")


def test_down_says_that_only_the_lease_is_left_on_a_disk_that_is_full(
    typed: Typed, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise BookError("book: disk is full")

    typed("up", "--name", "mine")
    with monkeypatch.context() as patched:
        patched.setattr("stackyard.leases.book.LeaseBook.release", full)
        code, _, error = typed("down")

    assert (code, docker.things()) == (5, [])
    assert error.startswith("mine (")
    assert error.endswith(" is removed, but not its lease: book: disk is full; then end it again")
    assert typed("down")[0] == 0


def test_down_says_which_folder_a_copy_was_of(typed: Typed, tmp_path: Path) -> None:
    typed("up")

    assert typed.json("down")["leases"][0]["checkout"] == str(tmp_path / "shop")


def test_one_more_copy_without_a_name_is_pointed_out(typed: Typed) -> None:
    assert typed("up")[2] == ""
    assert typed("up", "--name", "mine")[2] == ""
    assert "warning: this is copy 3 of this folder" in typed("up")[2]


def test_ps_shows_the_copies_and_one_copy_s_services(typed: Typed) -> None:
    typed("up", "--name", "mine")

    assert "mine (" in typed("ps")[1]
    assert [(row["service"], row["exit_code"]) for row in typed.json("ps", "mine")["services"]] == [
        ("db", None), ("web", None)
    ]  # fmt: skip
    assert [line.split()[3] for line in typed("ps", "mine")[1].splitlines()[2:]] == ["-", "-"]
    assert "running" in typed("ps", "--name", "mine")[1]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [(None, "missing", 7), ({"Status": "exited", "ExitCode": 1}, "exited", 7), ({"Status": "exited"}, "exited", 0),
     ({"Status": "paused"}, "paused", 7)],
)  # fmt: skip
def test_ps_shows_a_service_that_is_gone_and_says_if_one_is_not_well(
    typed: Typed, fake_engine: FakeEngine, change: dict[str, Any] | None, status: str, code: int
) -> None:
    typed("up", "--name", "mine")
    (identity,) = (name for name in fake_engine.containers if name.startswith("db-"))
    if change:
        fake_engine.containers[identity]["state"] |= change
    else:
        one_off = fake_engine.containers.pop(identity)
        one_off["labels"]["com.docker.compose.oneoff"] = "True"
        fake_engine.containers["one-off"] = one_off

    found, out, err = typed("ps", "mine")

    assert [line.split()[:2] for line in out.splitlines()[2:]] == [["db", status], ["web", "running"]]
    assert (found, "not every service of mine (" in err) == (code, code == 7)
    assert typed.json("ps", "mine")["services"][0]["status"] == status


def test_env_prints_what_a_shell_or_an_env_file_reads(typed: Typed) -> None:
    typed("up")

    assert "STACKYARD_WEB_URL=http://127.0.0.1:9500" in typed("env")[1].splitlines()
    assert "export STACKYARD_WEB_URL=http://127.0.0.1:9500" in typed("env", "--format", "shell")[1].splitlines()
    assert typed.json("env")["STACKYARD_WEB_80_PORT"] == "9500"
    assert typed("env", "--format", "fish")[::2] == (2, "--format must be dotenv or shell, got 'fish'")


def test_a_password_is_printed_for_programs_and_not_for_people(
    typed: Typed, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"POSTGRES_USER": "app", "POSTGRES_PASSWORD": "se$$cret/", "POSTGRES_DB": "rows"}
    db = {"image": "postgres:16", "environment": environment, "ports": [{"target": 5432, "protocol": "tcp"}]}
    docker.model = {"services": {"db": db}}
    monkeypatch.setattr("stackyard.stacks.copies.lifecycle.spoken", real_spoken)
    typed("up")

    out = typed("ports")[1]

    assert out.splitlines()[0].split() == "service in the file for programs".split()
    assert out.splitlines()[2].split() == ["db", "5432", "postgresql://127.0.0.1:9500/rows"]
    url = "postgresql://app:se%24cret%2F@127.0.0.1:9500/rows"
    assert typed.json("env")["STACKYARD_DB_URL"] == typed.json("ports")["ports"][0]["url"] == url


def test_a_copy_without_ports_says_so(typed: Typed, docker: FakeDocker) -> None:
    docker.model = {"services": {"db": SHOP["services"]["db"]}, "volumes": {"rows": {"name": "rows"}}}
    typed("up", "--name", "mine")

    assert typed("ports")[1] == f"mine ({typed.json('ports')['lease']}) publishes no port\n"


def test_logs_show_what_services_wrote(typed: Typed, docker: FakeDocker) -> None:
    typed("up")
    for row in docker.engine.containers.values():
        row["log"] = b"hello\n"

    assert typed("logs", "web")[1] == "hello\n"
    assert typed("logs", "--tail", "1")[1] == "web | hello\ndb  | hello\n"
    assert typed("logs", "--follow", "--json")[0] == 2


def test_a_line_that_a_service_draws_again_stays_one_line(typed: Typed, docker: FakeDocker) -> None:
    typed("up")
    for row in docker.engine.containers.values():
        row["log"] = b"10%\r20%\r30%\r\n\nform\x0cfeed\n"

    services = typed.json("logs")["services"]

    assert [one["lines"] for one in services] == [["10%\r20%\r30%", "", "form\x0cfeed"]] * 2
    assert typed("logs", "web")[1] == "10%\r20%\r30%\n\nform\x0cfeed\n"


def test_logs_may_begin_at_a_moment(typed: Typed, docker: FakeDocker) -> None:
    typed("up")
    for row in docker.engine.containers.values():
        row["log"] = b"first\nsecond\n"

    assert typed("logs", "web", "--since", "2026-01-01T00:00:01+00:00")[1] == "second\n"
    assert typed("logs", "web", "--since", "10m")[1] == ""
    assert typed("logs", "web", "--tail", "all")[1] == "first\nsecond\n"
    for words in (("--since", "yesterday"), ("--tail", "0x1"), ("--since", "10m", "--tail", "x")):
        assert typed("logs", *words)[0] == 2


def test_logs_follow_with_the_letter_that_others_use(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("stackyard.cli.log_following.follow", lambda *_, **how: asked.append(how))
    typed("up")

    typed("logs", "-f", "--tail", "5")

    assert asked == [{"tail": 5, "since": 0, "timestamps": False}]


def test_exec_runs_a_command_in_a_service(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def passed(argv: list[str], **_: object) -> int:
        ran.append(argv)
        return 3

    monkeypatch.setattr(process, "passthrough", passed)
    typed("up")

    assert typed("exec", "web", "--", "ls", "a b")[0] == 3
    assert ran[0][-2:] == ["ls", "a b"]
    assert typed("exec", "web")[0] == 2


def test_run_gives_its_command_a_copy_and_its_addresses(
    typed: Typed, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def passed(argv: list[str], *, env: dict[str, str]) -> int:
        seen.update(argv=argv, env=env, things=len(docker.things()))
        return 7

    monkeypatch.setattr(process, "passthrough", passed)

    assert typed("run", "--", "sh", "-c", "true")[0] == 7
    assert seen["argv"] == ["sh", "-c", "true"]
    assert seen["env"]["STACKYARD_WEB_URL"] == "http://127.0.0.1:9500"
    assert seen["things"] == 4
    assert docker.things() == []


def test_run_removes_its_copy_when_it_is_asked_to_end(
    typed: Typed, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "passthrough", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))

    assert typed("run", "--", "sleep", "60")[0] == 143
    assert docker.things() == []


@pytest.mark.parametrize(("program", "code"), [("exit 5", 5), ("exit 130", 130), ("kill -9 $$", 137)])
def test_run_ends_with_the_code_that_a_shell_would_give(
    typed: Typed, docker: FakeDocker, program: str, code: int
) -> None:
    assert typed("run", "--", "sh", "-c", program)[0] == code
    assert docker.things() == []


def test_run_starts_nothing_for_a_program_that_is_not_there(typed: Typed, docker: FakeDocker) -> None:
    assert typed("run", "--", "nope") == (2, "", "nope: no such program; write its path, or add its folder to PATH")
    assert docker.started == []


def test_run_removes_its_copy_if_the_program_goes_meanwhile(
    typed: Typed, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(argv: list[str], **_: object) -> int:
        raise CommandError(argv, 127, "nope: no such program")

    monkeypatch.setattr(process, "passthrough", missing)

    code, _, error = typed("run", "--", "true")

    assert code == 2
    assert "nope: no such program" in error
    assert docker.things() == []


def test_run_says_what_it_could_not_remove(typed: Typed, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    def passed(*_: object, **__: object) -> int:
        docker.engine.immortal |= {*docker.engine.volumes}
        return 0

    monkeypatch.setattr(process, "passthrough", passed)
    monkeypatch.setattr(removal, "PAUSE", 0)

    code, _, error = typed("run", "--", "true")

    assert code == 8
    assert "left: volume " in error


def test_run_needs_a_command(typed: Typed) -> None:
    assert typed("run") == (2, "", "which command? write it after '--': stackyard run -- pytest -q")


def test_check_and_explain_start_nothing(typed: Typed, docker: FakeDocker) -> None:
    assert "any number of copies can run at once" in typed("check")[1]
    assert json.loads(typed("explain")[1])["services"]["web"]["ports"][0]["published"] == "9500"
    assert docker.started == []


def test_a_misspelt_profile_is_named_by_every_command_that_takes_one(
    typed: Typed, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "passthrough", lambda *_, **__: 0)
    docker.model = {"services": {"web": {"image": "web"}, "db": {"image": "db", "profiles": ["debug"]}}}
    said = "profile dbeug: no service has it; did you mean 'debug'? known: debug"

    for words in (["up", "--quiet"], ["run", "--quiet", "--", "true"], ["explain"]):
        code, _, error = typed(words[0], "--profile", "dbeug", *words[1:])
        assert (code, error) == (0, f"warning: {said}")
    out, found = typed("check", "--profile", "dbeug")[1], typed.json("check", "--profile", "dbeug")
    assert "profile dbeug no service has it; did you mean 'debug'? known: debug" in " ".join(out.split())
    assert found["concerns"] == [
        {"level": "careful", "place": "profile dbeug", "text": "no service has it",
         "advice": "did you mean 'debug'? known: debug"}
    ]  # fmt: skip
    assert "dbeug" not in typed("up", "--profile", "debug")[2]


@pytest.mark.parametrize("command", ["check", "explain"])
def test_a_look_without_an_engine_says_that_images_were_not_checked(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")

    code, _, error = typed(command)

    said = "warning: images were not checked: connecting to the Docker engine: no engine answers at tcp://127.0.0.1:1 ("
    assert code == 0
    assert error.startswith(said)
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("option", ["--file", "--env-file"])
@pytest.mark.parametrize("command", [["up"], ["check"], ["explain"], ["run"]])
def test_a_file_that_is_not_there_is_named_with_its_option(
    typed: Typed, tmp_path: Path, command: list[str], option: str
) -> None:
    words = [*command, option, "gone.yml", *(["--", "true"] if command == ["run"] else [])]

    assert typed(*words)[::2] == (2, f"{option} gone.yml: no such file in {tmp_path / 'shop'}")


def test_check_asks_one_engine(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Engine] = []

    def engine(*words: Any) -> Engine:
        made.append(Engine(*words))
        return made[-1]

    monkeypatch.setattr("stackyard.docker.Engine", engine)

    found = typed.json("check")

    assert found["missing_images"] == []
    assert [row["kind"] for row in found["ready"]] != []
    assert len(made) == 1


def test_check_and_explain_say_what_decides_and_when_each_service_is_ready(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "shop/stackyard.toml").write_text('[services.web]\nready = {http = "/healthz"}')

    out, found = typed("check")[1], typed.json("check")

    assert "reads     stackyard.toml" in out
    said = " ".join(out.split())
    assert "web the configuration says http: /healthz: port 80 gives an HTTP answer below 400" in said
    assert found["configuration"] == "stackyard.toml"
    assert [(row["service"], row["kind"]) for row in found["ready"]] == [("web", "http"), ("db", "running")]
    assert json.loads(typed("explain")[1])["x-stackyard"]["ready"]["web"]["path"] == "/healthz"


def test_check_lists_the_images_that_are_not_here_and_what_brings_them(
    typed: Typed, docker: FakeDocker, tmp_path: Path
) -> None:
    assert typed.json("check")["missing_images"] == []
    build = {"context": str(tmp_path)}
    docker.model = {"services": {
        "db": {"image": "db"}, "cache": {"image": "cache:8"}, "queue": {"image": "cache:8"}, "worker": {"image": "job"},
        "own": {"image": "own:1", "pull_policy": "never"}, "web": {"build": build}, "off": {"image": "x", "scale": 0},
        "job": {"image": "job", "build": build},
    }}  # fmt: skip
    calls = len(docker.calls)

    out, found = typed("check")[1], typed.json("check")["missing_images"]

    assert found == [
        {"image": "cache:8", "services": ["cache", "queue"], "by": "pull"},
        {"image": "own:1", "services": ["own"], "by": "nothing"},
        {"image": "job", "services": ["job"], "by": "build"},
        {"image": "shop-web", "services": ["web"], "by": "build"},
    ]
    said = " ".join(out.split())
    assert "cache:8 cache, queue 'stackyard up' pulls it, or 'docker compose pull'" in said
    assert "shop-web web 'stackyard up' builds it" in said
    assert "own:1 own nothing: its pull_policy is never" in said
    assert not [words for words in docker.calls[calls:] if words[1] == "pull" or "build" in words]


def test_cleanup_says_which_images_of_copies_stay_and_what_removes_them(
    typed: Typed, docker: FakeDocker, tmp_path: Path
) -> None:
    assert len(typed("cleanup")[1].splitlines()) == 1
    docker.model = {"services": {"web": {"build": {"context": str(tmp_path / "shop")}}}}
    typed("up")
    typed("down")

    last = typed("cleanup")[1].splitlines()[-1]

    assert last.startswith("1 image of copies, ")
    assert last.endswith("images' removes those that no copy needs, a service's latest 14 d after its last use")
    assert typed.json("cleanup")["removed"] == []


def test_check_knows_what_has_been_built(typed: Typed, docker: FakeDocker, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    docker.model = {"services": {"web": {"build": {"context": str(context)}}}}
    typed("up")

    assert typed.json("check")["missing_images"] == []
    (context / "new").write_text("x")
    assert [item["by"] for item in typed.json("check")["missing_images"]] == ["build"]


def test_a_start_follows_the_configuration_and_says_how_each_service_proved_usable(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop/stackyard.toml").write_text('timeout = "7m"\n[services.web]\nready = {http = "/healthz"}')
    asked: dict[str, Any] = {}

    async def ready(*_: Any, deadline: float, hints: Mapping[str, Hint], **__: Any) -> waiting.StackReady:
        asked.update(deadline=deadline, hints=hints)
        rule = choose("web", {}, None, hints["web"])
        web = waiting.ServiceReady(service="web", rule=rule, seconds=1.5, how="port 80 listens: HTTP 200")
        return waiting.StackReady(services=(web,), seconds=1.5)

    monkeypatch.setattr(waiting, "wait", ready)

    said = " ".join(typed("up", "--name", "mine")[1].split())

    assert "web 1.50 s port 80 listens: HTTP 200 the configuration says http: /healthz: port 80" in said
    assert asked["hints"] == {"web": Hint(kind="http", value="/healthz")}
    assert 400 < asked["deadline"] <= 420
    assert [row["rule"]["kind"] for row in typed.json("up", "--name", "other")["ready"]] == ["http"]


def test_a_shared_network_that_is_not_there_starts_nothing(typed: Typed, docker: FakeDocker, tmp_path: Path) -> None:
    (tmp_path / "shop/stackyard.toml").write_text('share = {networks = ["default"], volumes = ["rows"]}')

    code, _, error = typed("up")

    assert (code, docker.started, docker.things()) == (2, [], [])
    assert error.startswith(
        "shared by the configuration but missing: network shop_default (share.networks: default), volume shop_rows"
    )


def test_a_shared_network_stays_when_the_copy_goes(typed: Typed, docker: FakeDocker, tmp_path: Path) -> None:
    (tmp_path / "shop/stackyard.toml").write_text('share = {networks = ["default"]}')
    docker.engine.network("shop_default", "")

    assert typed("up")[0] == 0
    assert typed("down")[0] == 0
    assert docker.things() == ["shop_default"]


def test_help_and_errors_name_this_program(typed: Typed) -> None:
    assert typed("up", "--help")[1].startswith("Usage: stackyard up [options]")
    assert typed("prots")[2] == "no command 'prots'; did you mean ports? 'stackyard --help' shows all commands"
    assert typed("--nope")[2].startswith("stackyard has no option '--nope'; options of a command follow its name")
    assert typed("--", "x")[2] == "name a command before '--'; 'stackyard --help' shows all commands"


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",)])
def test_the_program_alone_lists_its_commands_and_no_option_of_invoke(typed: Typed, words: tuple[str, ...]) -> None:
    code, out, error = typed(*words)

    assert (code, error) == (0, "")
    assert out.startswith("Usage: stackyard COMMAND [options]\n\nCommands:\n  check ")
    assert [line.split()[0] for line in out.splitlines()[3:-2] if line[2] != " "] == list(console.namespace().tasks)
    assert "--dry" not in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("words", [("-f", "-"), ("--file", "-"), ("-f-",), ("--file=-",)])
def test_a_dash_is_a_value(typed: Typed, docker: FakeDocker, words: tuple[str, ...]) -> None:
    assert typed("explain", *words)[0] == 0
    assert "--project-directory" in docker.calls[0]


def test_help_may_stand_before_a_command(typed: Typed) -> None:
    assert typed("help", "up") == typed("up", "--help")
    assert typed("help", "nosuch")[0] == 2


@pytest.mark.parametrize(("word", "command"), console.SPEAKER.meant.items())
def test_words_of_other_programs_lead_to_the_command(typed: Typed, word: str, command: str) -> None:
    assert command in console.namespace().tasks
    assert typed(word)[2] == f"no command '{word}'; did you mean {command}? 'stackyard --help' shows all commands"


def test_a_service_may_have_the_name_of_a_command(typed: Typed) -> None:
    typed("up")

    assert "has no service 'env'" in typed("logs", "env")[2]


def test_a_wrong_time_starts_nothing(typed: Typed, docker: FakeDocker) -> None:
    for words in (("--ttl", "x"), ("--timeout", "x"), ("--queue-timeout", "x")):
        assert typed("up", *words)[0] == 2
    assert docker.started == []


def test_a_folder_with_environments_has_their_commands_unless_a_compose_file_is_nearer(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/docker_environments.yaml").touch()

    assert "stackyard up [options]" in typed("up", "--help")[1]
    monkeypatch.chdir(tmp_path)
    assert "stackyard up [ENVIRONMENT] [options]" in typed("up", "--help")[1]
    assert "stackyard reset" in typed("reset", "--help")[1]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["down"], "'stackyard up --site local' starts one"),
        (["ports", "mine"], "'stackyard ps --all --site local' lists all"),
        (["exec", "web"], "stackyard exec web --site local -- ls /"),
        (["run"], "stackyard run --site local -- pytest -q"),
        (["check"], "'stackyard up --site local' pulls it, or 'docker compose pull'"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_the_commands_that_a_text_names_have_the_site_that_the_user_named(
    typed: Typed, docker: FakeDocker, words: list[str], names: str
) -> None:
    docker.model = {"services": {"cache": {"image": "cache:8"}}}

    _, out, error = typed(words[0], "--site", "local", *words[1:])

    assert names in " ".join(f"{out} {error}".split())


def test_a_copy_that_is_listed_and_one_that_is_up_name_the_site_that_the_user_named(typed: Typed) -> None:
    assert "'stackyard down --name mine --site local' removes it" in typed("up", "--name", "mine", "--site", "local")[1]
    assert "'stackyard ps mine --site local' shows its services" in typed("ps", "--site", "local")[1]
    assert "'stackyard ps mine' shows its services" in typed("ps")[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("restart web", "stackyard has no command 'restart'; 'docker compose -p PROJECT restart SERVICE' does that; "),
        ("build", "stackyard has no command 'build'; 'stackyard up' builds what is missing or has changed"),
        (
            "events",
            "'docker compose -p PROJECT events SERVICE' does that; 'stackyard env' prints the PROJECT of a copy",
        ),
        (
            "stats --site context:far",
            "'docker --context far compose -p PROJECT stats SERVICE' does that; 'stackyard env ",
        ),
        ("restart --site=context:far web", "'stackyard env --site context:far' prints the PROJECT of a copy"),
        ("stop --site swarm", "docker compose knows no copy on a Swarm; 'docker service ls' lists its services"),
        ("stop", "'docker compose -p PROJECT stop SERVICE' does that"),
        ("kill web", "'docker compose -p PROJECT kill SERVICE' does that"),
        ("create", "'stackyard up' creates and starts a copy in one step"),
        ("port web 80", "did you mean ports?"),
        ("push", "'docker compose push' does that, with the images of the project itself"),
        ("scale web=3", "write 'scale: N' to the service in the Compose file before a copy is started"),
        ("version", "'stackyard --version' prints it"),
        ("volumes", "'docker volume ls --filter label=com.docker.compose.project=PROJECT' does that; 'stackyard env'"),
        ("watch", "a copy takes changed files with its next start; 'docker compose watch' is for the project itself"),
        ("restart --site nowhere", "--site must be local, context:NAME or swarm"),
        ("clean-up", "did you mean cleanup?"),
        ("config", "did you mean explain?"),
        ("resett", "did you mean reset?"),
        ("rest", "did you mean reset?"),
        ("-v", "did you mean --version?"),
        ("up up", "up takes no words, got 'up'; its options"),
        ("run npm test", "a command follows '--', as in 'stackyard run -- npm ...'"),
        ("exec web ls", "a command follows '--', as in 'stackyard exec web -- ls ...'"),
    ],
)
def test_a_wrong_word_names_what_does_it_and_never_a_command_that_removes(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, said: str
) -> None:
    meta = tmp_path / "contexts/meta" / hashlib.sha256(b"far").hexdigest() / "meta.json"
    meta.parent.mkdir(parents=True)
    meta.write_text('{"Name": "far", "Endpoints": {"docker": {"Host": "tcp://127.0.0.1:1"}}}')
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    code, _, err = typed(*words.split())

    assert (code, said in err) == (2, True), err


@pytest.mark.parametrize("word", ["restart", "respect", "resume", "dawn", "donw", "clean", "stop", "kill", "images"])
def test_a_word_that_is_only_like_one_that_removes_does_not_lead_to_it(typed: Typed, word: str) -> None:
    err = typed(word)[2]

    assert not re.search(r"mean (reset|down|cleanup)", err)


# what `docker compose --help` of 2.40 lists
@pytest.mark.parametrize(
    "word",
    "attach bridge build commit config cp create down events exec export images kill logs ls pause port ps publish "
    "pull push restart rm run scale start stats stop top unpause up version volumes wait watch".split(),
)
def test_each_command_of_docker_compose_is_here_or_leads_to_what_does_it(typed: Typed, word: str) -> None:
    err = typed(word)[2] if word not in console.namespace().tasks else ""

    assert "did you mean" in err or "shows all commands" not in err


def test_a_folder_with_environments_has_no_command_that_prints_the_project(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/docker_environments.yaml").touch()
    monkeypatch.chdir(tmp_path)

    assert typed("stop")[2].endswith("does that; 'docker compose ls' prints the PROJECT of a copy")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("up", "-d"), "up needs no option -d: a copy always runs in the background"),
        (("up", "--scale", "web=2"), "up needs no option --scale: write 'scale: N' to the service in the Compose file"),
        (("up", "--wait"), "up needs no option --wait: it always waits until every service is ready"),
        (("down", "-v"), "down needs no option -v: a copy's volumes always go with it"),
        (("run", "--rm", "--", "true"), "run needs no option --rm: it always removes the copy at the end"),
        (("exec", "-it", "web", "--", "sh"), "exec needs no option -i: it takes this terminal if there is one"),
    ],
)
def test_options_of_docker_compose_are_explained(typed: Typed, words: tuple[str, ...], said: str) -> None:
    assert typed(*words) == (2, "", said)


def test_no_option_that_a_command_has_is_called_needless(typed: Typed) -> None:
    for line in console.SPEAKER.needless:
        command, flag = line.split()
        assert f" {flag}," not in (shown := typed(command, "--help")[1])
        assert f" {flag} " not in shown
