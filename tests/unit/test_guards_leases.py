"""A lease's files, each rule by itself: a quick test for each guard in front of a loss."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from lease_records import SERVICES

from stackyard.errors import UsageError
from stackyard.leases.directory import files
from stackyard.leases.owners import Owner
from stackyard.leases.records import ENV, KEEPER, LOCK, Lease

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LEASE, GONE, NEW = "1f0c9b3e", ".gone-0123456789ab", ".new-0123456789ab"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "leases"
    made.mkdir()
    return made


@pytest.fixture
def lease(folder: Path) -> Lease:
    ports = {"postgres": 11000, "redis": 11001, "backend": 11002, "auth": 11003, "websocket": 11004}
    return Lease(
        id=LEASE, parallel_id="mine", environment="test", slot=None, ports=ports, spare=(11005, 11006),
        subnet="10.214.0.0/28", project=f"stackyard-test-{LEASE}", owner=Owner.detached(), created=1.5, deadline=None,
        memory_mb=410, directory=folder / LEASE,
    )  # fmt: skip


def test_a_lease_gives_each_variable_its_value_and_no_other(lease: Lease, folder: Path) -> None:
    files.write(lease, {"A": "1", "STACKYARD_LEASE": "theirs"}, {"B": "2"}, "h1", SERVICES)
    found = lease.variables()
    secrets = {key: found.pop(key) for key in ("STACKYARD_POSTGRES_URL", "STACKYARD_REDIS_URL", "STACKYARD_JWT_KEY")}

    assert found == {
        "A": "1",
        "B": "2",
        "COMPOSE_PROJECT_NAME": f"stackyard-test-{LEASE}",
        "STACKYARD_LEASE": LEASE,
        "STACKYARD_PARALLEL_ID": "mine",
        "STACKYARD_ENVIRONMENT": "test",
        "STACKYARD_HOST": "h1",
        "STACKYARD_OWNER": Owner.detached().label(),
        "STACKYARD_CREATED": "1.500",
        "STACKYARD_PORTS": found["STACKYARD_PORTS"],
        "STACKYARD_SUBNET": "10.214.0.0/28",
        "STACKYARD_MEMORY_MB": "410",
        "STACKYARD_SECRETS": "postgres_password,redis_password,jwt_key",
        "STACKYARD_SECRETS_DIR": str(lease.secrets_dir),
        "STACKYARD_AUTH_URL": "http://127.0.0.1:11003",
        "STACKYARD_BACKEND_URL": "http://127.0.0.1:11002",
        "STACKYARD_WEBSOCKET_URL": "ws://127.0.0.1:11002/ws",
        "STACKYARD_JWT_ISSUER": "stackyard-auth",
        "STACKYARD_JWT_AUDIENCE": LEASE,
        "STACKYARD_ALLOWED_ORIGIN": "http://127.0.0.1:11002",
        "STACKYARD_POSTGRES_PORT": "11000",
        "STACKYARD_REDIS_PORT": "11001",
        "STACKYARD_BACKEND_PORT": "11002",
        "STACKYARD_AUTH_PORT": "11003",
        "STACKYARD_WEBSOCKET_PORT": "11002",
        "STACKYARD_SPARE_PORT_1": "11005",
        "STACKYARD_SPARE_PORT_2": "11006",
    }
    assert "11000" in found["STACKYARD_PORTS"]
    assert "11006" in found["STACKYARD_PORTS"]
    assert secrets["STACKYARD_POSTGRES_URL"].startswith("postgresql://app:")
    assert secrets["STACKYARD_POSTGRES_URL"].endswith("@127.0.0.1:11000/app")
    assert secrets["STACKYARD_REDIS_URL"].startswith("redis://app:")
    assert secrets["STACKYARD_REDIS_URL"].endswith("@127.0.0.1:11001/0")
    assert lease.secrets() == [secrets["STACKYARD_POSTGRES_URL"][17:81], secrets["STACKYARD_REDIS_URL"][12:76],
                               secrets["STACKYARD_JWT_KEY"]]  # fmt: skip
    assert stat.S_IMODE(lease.env_file.stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / LEASE).stat().st_mode) == 0o700


def test_a_lease_without_a_name_or_a_websocket_says_so(lease: Lease) -> None:
    ports = {key: port for key, port in lease.ports.items() if key != "websocket"}
    bare = replace(lease, parallel_id=None, ports=ports)
    files.write(bare, {}, {}, "h1", SERVICES)

    assert bare.variables()["STACKYARD_PARALLEL_ID"] == ""
    assert "STACKYARD_WEBSOCKET_PORT" not in bare.variables()


def test_a_lease_that_is_written_again_keeps_its_secrets(lease: Lease) -> None:
    files.write(lease, {}, {}, "h1", SERVICES)
    before = lease.variables()
    files.write(lease, {}, {"B": "2"}, "h1", SERVICES)

    assert lease.variables() == before | {"B": "2"}


def test_a_refused_variable_changes_nothing_on_disk(lease: Lease) -> None:
    with pytest.raises(UsageError):
        files.write(lease, {}, {"STACKYARD_LEASE": "x"}, "h1")

    assert not lease.directory.exists()


def test_what_an_environment_s_services_give_cannot_be_given_by_others(lease: Lease) -> None:
    files.write(lease, {"A": "1", "STACKYARD_JWT_ISSUER": "theirs"}, {}, "h1", SERVICES)
    before = lease.env_file.read_text()

    with pytest.raises(UsageError, match="variable STACKYARD_JWT_ISSUER belongs to the lease"):
        files.write(lease, {}, {"STACKYARD_JWT_ISSUER": "theirs"}, "h1", SERVICES)

    assert lease.env_file.read_text() == before
    assert "theirs" not in before
    assert files.common_text({"STACKYARD_JWT_ISSUER": "theirs"}, {}) == "STACKYARD_JWT_ISSUER=theirs\n"


def test_a_lease_that_moves_takes_its_own_ports_along_and_no_other(lease: Lease) -> None:
    files.write(lease, {}, {"THEIRS": "http://127.0.0.1:11003"}, "h1", SERVICES)
    with lease.env_file.open("a") as file:
        file.write("STACKYARD_MORE=127.0.0.1:11003,127.0.0.1:9999\n")

    moved = replace(lease, ports={name: port + 100 for name, port in lease.ports.items()}, spare=(11105,))
    files.rewrite(lease, moved, "h1")

    found = moved.variables()
    assert found["STACKYARD_MORE"] == "127.0.0.1:11103,127.0.0.1:9999"
    assert found["THEIRS"] == "http://127.0.0.1:11003"
    assert found["STACKYARD_AUTH_PORT"] == "11103"
    assert [value for name, value in found.items() if "SPARE" in name] == ["11105"]


def test_a_copy_s_file_has_no_ports_beside_its_list(lease: Lease) -> None:
    copy = replace(lease, ports={"web_80_tcp": 11000})
    files.write(copy, {}, {}, "h1")
    with copy.env_file.open("a") as file:
        file.write("STACKYARD_WEB_80_TCP_URL=http://127.0.0.1:11000\n")
    before = copy.variables()

    files.rewrite(copy, replace(copy, parallel_id="other"), "h1")

    assert copy.variables() == {**before, "STACKYARD_PARALLEL_ID": "other"}


def test_a_damaged_or_old_file_still_tells_which_secrets_a_lease_has(lease: Lease) -> None:
    files.write(lease, {}, {}, "h1", SERVICES)
    whole, secrets = lease.env_file.read_text(), sorted(lease.secrets())
    named = "STACKYARD_SECRETS=postgres_password,redis_password,jwt_key"
    assert named in whole.replace("'", "")
    lines = [line for line in whole.splitlines() if not line.startswith("STACKYARD_SECRETS=")]

    for text in ("not an env file", "\n".join([*lines, ""])):
        lease.env_file.write_text(text)
        assert sorted(lease.secrets()) == secrets
    lease.env_file.write_text("\n".join([*lines, "STACKYARD_SECRETS=", ""]))
    assert lease.secrets() == []


def test_a_service_whose_name_is_not_plain_has_its_url_under_it_and_one_of_no_port_answers_itself(lease: Lease) -> None:
    odd = replace(lease, ports={"my-api": 11000, "one": 1})
    files.write(odd, {}, {}, "h1")
    urls = {"my-api": "http://127.0.0.1:11000", "one": "http://127.0.0.1:1", "other": "http://127.0.0.1"}
    with odd.env_file.open("a") as file:
        for name, url in urls.items():
            file.write(f"STACKYARD_{name.upper().replace('-', '_')}_URL={url}\n")

    assert odd.urls_in(odd.variables()) == urls
    assert odd.servers() == {name: name for name in urls}


def lay(folder: Path, name: str, **contents: str) -> Path:
    """Make a directory with plain files; `lock`, `keeper` and `env` are the names that count."""
    directory = folder / name
    directory.mkdir()
    for key, text in contents.items():
        (directory / {"lock": LOCK, "keeper": KEEPER, "env": ENV}.get(key, key)).write_text(text)
    return directory


@pytest.mark.parametrize("name", [LEASE, "dev-3fa92c", "dev", GONE, NEW])
@pytest.mark.parametrize("proof", ["lock", "keeper"])
def test_a_directory_with_a_name_and_a_lock_of_ours_is_ours(folder: Path, name: str, proof: str) -> None:
    assert files.is_ours(lay(folder, name, **{proof: ""}))


def test_a_directory_whose_env_file_names_it_is_ours(folder: Path) -> None:
    assert files.is_ours(lay(folder, LEASE, env=f"A=b\nSTACKYARD_LEASE={LEASE}\nC=d\n"))


@pytest.mark.parametrize(
    "text", ["", "STACKYARD_LEASE=ffffffff\n", f"X_STACKYARD_LEASE={LEASE}\n", f"STACKYARD_LEASE={LEASE}0\n"]
)
def test_a_directory_whose_env_file_names_another_is_not(folder: Path, text: str) -> None:
    assert not files.is_ours(lay(folder, LEASE, env=text))


@pytest.mark.parametrize(
    "name", ["My Data", ".git", ".gone-0123456789a", ".gone-0123456789abc", ".gone-0123456789aB", "x.new-0123456789ab"]
)
def test_a_directory_with_another_name_is_not_ours_whatever_is_in_it(folder: Path, name: str) -> None:
    assert not files.is_ours(lay(folder, name, lock="", keeper="", env=f"STACKYARD_LEASE={name}\n"))


def test_a_directory_without_a_sign_of_ours_is_not_ours(folder: Path) -> None:
    assert not files.is_ours(lay(folder, LEASE, letter="dear all"))


def test_a_link_to_a_directory_of_ours_is_not_ours(folder: Path, tmp_path: Path) -> None:
    target = lay(tmp_path, LEASE, lock="")
    (folder / LEASE).symlink_to(target)

    assert files.is_ours(target)
    assert not files.is_ours(folder / LEASE)
    assert files.remove(folder / LEASE) is None
    assert (folder / LEASE).is_symlink()


def test_a_linked_lock_proves_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    directory = lay(folder, LEASE)
    (directory / LOCK).symlink_to(tmp_path / "lock")

    assert not files.is_ours(directory)


def test_a_removed_directory_is_moved_aside_with_all_that_is_in_it_and_a_lock(folder: Path) -> None:
    directory = lay(folder, LEASE, env=f"STACKYARD_LEASE={LEASE}\n", letter="x")

    aside = files.remove(directory)

    assert aside is not None
    assert (aside.parent, aside.name[:6], len(aside.name)) == (folder, ".gone-", 18)
    assert {path.name for path in aside.iterdir()} == {LOCK, ENV, "letter"}
    assert stat.S_IMODE((aside / LOCK).stat().st_mode) == 0o600
    assert not directory.exists()
    assert files.is_ours(aside)


def test_a_removed_directory_keeps_the_lock_it_has(folder: Path) -> None:
    aside = files.remove(lay(folder, LEASE, lock="held"))

    assert aside is not None
    assert (aside / LOCK).read_text() == "held"


def test_what_is_not_ours_stays_and_the_log_says_so(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = lay(folder, LEASE, letter="dear all")

    assert files.remove(directory) is None
    assert (directory / "letter").read_text() == "dear all"
    assert f"{directory} was not made by stackyard, so it stays" in caplog.text


def test_a_missing_directory_is_no_news(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert files.remove(folder / LEASE) is None
    assert caplog.text == ""


def test_a_dangling_link_in_its_place_is_news(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / LEASE).symlink_to(folder / "nowhere")

    assert files.remove(folder / LEASE) is None
    assert "so it stays" in caplog.text


def test_a_sweep_moves_the_dead_and_leaves_the_rest(folder: Path) -> None:
    dead, known = lay(folder, LEASE, lock=""), lay(folder, "ffffffff", lock="")
    gone = lay(folder, GONE, lock="")
    strange, data = lay(folder, "My Data", letter="x"), lay(folder, "aaaaaaaa", letter="x")
    (folder / "note").write_text("x")

    asides = files.orphans(folder, ["ffffffff"])

    assert sorted(path.name[:6] for path in asides) == [".gone-", ".gone-"]
    assert gone in asides
    assert not dead.exists()
    assert all(path.exists() for path in (known, strange, data, gone, folder / "note"))


def test_a_sweep_spares_what_a_living_process_holds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = lay(folder, LEASE, lock="")
    monkeypatch.setattr(files, "is_held", lambda lock: lock == held / LOCK)

    assert files.orphans(folder, []) == []
    assert held.exists()


def test_a_sweep_removes_empty_unfinished_directories_and_no_others(folder: Path) -> None:
    empty = [lay(folder, name) for name in (GONE, NEW)]
    others = [lay(folder, LEASE), lay(folder, "My Data"), lay(folder, ".new-aaaaaaaaaaaa", letter="x")]

    assert files.orphans(folder, []) == []
    assert [path.exists() for path in empty] == [False, False]
    assert all(path.exists() for path in others)


def test_a_missing_folder_has_no_orphans(folder: Path) -> None:
    assert files.orphans(folder / "missing", []) == []


def test_a_discarded_directory_goes_with_all_that_is_in_it_and_nothing_else(folder: Path) -> None:
    directory, other = lay(folder, GONE, lock="", letter="x"), lay(folder, "other", letter="x")
    (directory / "link").symlink_to(other)

    files.discard(directory)
    files.discard(None)

    assert not directory.exists()
    assert (other / "letter").exists()


def test_a_discard_that_is_cut_short_leaves_the_lock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[tuple[Path, str]] = []
    monkeypatch.setattr("stackyard._util.files.remove_tree", lambda path, *, last: removed.append((path, last)))

    files.discard(folder)

    assert removed == [(folder, LOCK)]


def test_a_new_file_takes_no_ones_place(folder: Path) -> None:
    files.write_new(folder / "new", "a\n")

    assert (folder / "new").read_text() == "a\n"
    assert stat.S_IMODE((folder / "new").stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        files.write_new(folder / "new", "b\n")
    assert (folder / "new").read_text() == "a\n"


def test_more_text_goes_to_the_end_of_a_file_that_is_there(folder: Path) -> None:
    (folder / "file").write_text("a\n")
    files.append(folder / "file", "b\n")

    assert (folder / "file").read_text() == "a\nb\n"
    with pytest.raises(FileNotFoundError):
        files.append(folder / "missing", "b\n")


@pytest.mark.parametrize("write", [files.write_new, files.append])
def test_no_link_is_followed_to_write(folder: Path, tmp_path: Path, write: Callable[[Path, str], None]) -> None:
    (tmp_path / "mine").write_text("mine")
    (folder / "link").symlink_to(tmp_path / "mine")

    with pytest.raises(OSError, match="link"):
        write(folder / "link", "theirs")
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("write", [files.write_new, files.append])
def test_no_program_that_is_started_inherits_a_written_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, str], None]
) -> None:
    given: list[int] = []
    opened = os.open

    def note(path: Path, flags: int, mode: int = 0o777) -> int:
        given.append(flags)
        return opened(path, flags, mode)

    if write is files.append:
        (folder / "file").touch()
    monkeypatch.setattr(os, "open", note)
    write(folder / "file", "x")

    assert [bool(flags & os.O_CLOEXEC and flags & os.O_NOFOLLOW) for flags in given] == [True]


def test_what_is_the_leases_own_cannot_be_given_and_is_left_out_of_an_environment() -> None:
    own = {"STACKYARD_LEASE": "x"}

    assert files.common_text({"A": "1"} | own, {"A": "2", "B": "3"}) == "A=2\nB=3\n"
    with pytest.raises(UsageError, match="variable STACKYARD_LEASE belongs to the lease and cannot be given"):
        files.common_text({}, {"Z": "1", "STACKYARD_PORTS": "1"} | own)


def test_values_are_quoted_only_where_readers_would_differ() -> None:
    assert (
        files.env_text({"A": "a/b:c@d-1", "B": "two words", "C": "", "D": '$"#'})
        == "A=a/b:c@d-1\nB='two words'\nC=\nD='$\"#'\n"
    )


@pytest.mark.parametrize(("key", "value", "text"), [
    ("a", "x", "variable names are A-Z, 0-9 and '_', got 'a'"), ("1A", "x", "got '1A'"), ("", "x", "got ''"),
    ("A", "it's", "variable A has a single quote"), ("A", "a\nb", "variable A has"), ("A", "a\x85b", "variable A has"),
])  # fmt: skip
def test_what_no_env_file_can_carry_is_refused(key: str, value: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        files.env_text({key: value})
