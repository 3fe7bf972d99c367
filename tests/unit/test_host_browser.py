from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fake_host import BOOKWORM, put_file, put_program

from stackyard.errors import CommandError, StackyardError
from stackyard.host import browser
from stackyard.host.machine import Machine

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    put_file(tmp_path, "etc/os-release", BOOKWORM)
    for name in ("sh", "cat", "env", "chmod", "touch", "setpriv"):
        put_program(tmp_path, name, f'exec /usr/bin/{name} "$@"')
    (tmp_path / "calls").unlink(missing_ok=True)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    monkeypatch.setattr("stackyard.host.machine.SYSTEM_FOLDERS", ())
    return Machine(base=tmp_path, uid=0)


def apt(host: Machine, *, gives: str = "") -> None:
    """Let apt-get install a program of this name."""
    made = (
        f'*install*) echo "#!/bin/sh" > {host.base}/bin/{gives}; chmod 755 {host.base}/bin/{gives};;' if gives else ""
    )
    put_program(host.base, "apt-get", f'case "$*" in {made} *) ;; esac')


def test_a_browser_that_is_there_is_taken(host: Machine) -> None:
    put_program(host.base, "google-chrome")
    put_program(host.base, "chromium")

    assert browser.find(host) == browser.ensure(host) == f"{host.base}/bin/chromium"


def test_a_missing_one_is_installed_once_that_is_agreed_to(host: Machine) -> None:
    apt(host, gives="chromium")
    said: list[str] = []

    assert browser.ensure(host, consent=True, say=said.append) == f"{host.base}/bin/chromium"
    assert said == ["refreshing the package lists", "installing chromium"]


def test_a_person_is_asked_first(host: Machine) -> None:
    apt(host, gives="chromium")
    asked: list[str] = []

    def refuse(question: str) -> bool:
        asked.append(question)
        return False

    with pytest.raises(StackyardError, match=r"install a browser \('\./noxw -s browser -- --yes'\)"):
        browser.ensure(host, ask=refuse)

    assert asked == ["not installed: chromium. Install with apt?"]
    assert not (host.base / "bin/chromium").exists()


def test_a_system_without_apt_has_to_help_itself(host: Machine) -> None:
    with pytest.raises(StackyardError, match=r"no Chromium on Debian GNU/Linux 12 \(bookworm\)"):
        browser.ensure(host, consent=True)


def test_ubuntus_stand_in_is_not_installed(host: Machine) -> None:
    put_file(host.base, "etc/os-release", 'ID=ubuntu\nID_LIKE=debian\nPRETTY_NAME="Ubuntu 24.04"\n')
    apt(host, gives="chromium")

    with pytest.raises(StackyardError, match=r"no Chromium on Ubuntu 24\.04"):
        browser.ensure(host, consent=True)


def test_a_package_that_brings_no_program_is_reported(host: Machine) -> None:
    apt(host)

    with pytest.raises(StackyardError, match="apt installed chromium, but none of"):
        browser.ensure(host, consent=True)


def test_apts_failure_is_reported(host: Machine) -> None:
    put_program(host.base, "apt-get", "echo no network; exit 100")

    with pytest.raises(CommandError, match="no network"):
        browser.ensure(host, consent=True)


def test_the_command_prints_where_it_lies(
    host: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_program(host.base, "chromium")
    monkeypatch.setattr(browser, "Machine", lambda: host)

    assert browser.main([]) == 0
    assert capsys.readouterr().out == f"{host.base}/bin/chromium\n"


def test_the_command_ends_with_one_line_and_an_exit_code(
    host: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(browser, "Machine", lambda: host)
    monkeypatch.setenv("CI", "true")

    assert [browser.main([]), browser.main(["--no"])] == [1, 2]
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("noxw: no Chromium on Debian")
    assert second == "noxw: the only option is --yes, got '--no'"
