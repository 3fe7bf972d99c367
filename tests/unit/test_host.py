from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fake_host import BOOKWORM, VERSION, answering, put_file, put_program
from unruly_engine import ANSWERS, SLOW, unruly

from stackyard.cleanup import removal
from stackyard.cleanup.outcome import Leftover, Removal
from stackyard.docker import endpoint
from stackyard.docker.endpoint import Endpoint, PingResult, version_tuple
from stackyard.errors import BookError, EngineError
from stackyard.host import __main__ as program
from stackyard.host import daemon, engine_setup
from stackyard.host.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A Debian without docker, whose root folder is tmp_path and whose standard socket lies there."""
    put_file(tmp_path, "etc/os-release", BOOKWORM)
    put_file(tmp_path, "var/log/docker.log", "yesterday's words\n")
    for name in ("HOME", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    monkeypatch.setattr(endpoint, "STANDARD_SOCKETS", frozenset({f"{tmp_path}/docker.sock"}))
    return Machine(base=tmp_path, uid=0)


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """The program installs a handler of its own."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def installed(host: Machine) -> None:
    put_program(host.base, "docker")
    put_program(host.base, "dockerd")
    for name in ("docker-compose", "docker-buildx"):
        put_file(host.base, f"usr/libexec/docker/cli-plugins/{name}").chmod(0o755)


def calls(host: Machine) -> list[str]:
    file = host.base / "calls"
    return file.read_text().splitlines() if file.exists() else []


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("26.1.5+dfsg1-9", (26, 1, 5)), ("5:28.2.2-1~x", (28, 2, 2)), ("v2.20.2", (2, 20, 2)), ("(none)", ()), ("", ())],
)
def test_version_is_its_leading_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert version_tuple(text) == numbers


def test_docker_host_names_the_endpoint_first(host: Machine) -> None:
    assert Endpoint.find() == Endpoint(url=f"unix://{host.base}/docker.sock", source="DOCKER_HOST")


def test_current_context_of_the_client_names_the_endpoint_next(host: Machine) -> None:
    folder = f"home/contexts/meta/{hashlib.sha256(b'colima').hexdigest()}"
    put_file(host.base, "home/config.json", json.dumps({"currentContext": "colima"}))
    put_file(host.base, f"{folder}/meta.json", json.dumps({"Endpoints": {"docker": {"Host": "unix:///colima"}}}))

    found = Endpoint.find({"DOCKER_CONFIG": str(host.base / "home")})

    assert found == Endpoint(url="unix:///colima", source="docker context", context="colima")
    assert found.where == "unix:///colima (context 'colima' from docker context)"
    assert not found.standard


def put_context(folder: Path, name: str, **endpoint: object) -> str:
    """Write a context into the docker command's store; return its id."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    put_file(folder, f"contexts/meta/{digest}/meta.json", json.dumps({"Endpoints": {"docker": endpoint}}))
    return digest


def test_docker_context_names_the_endpoint_after_docker_host_and_before_the_current_context(tmp_path: Path) -> None:
    put_file(tmp_path, "config.json", json.dumps({"currentContext": "current"}))
    for name in ("current", "chosen"):
        put_context(tmp_path, name, Host=f"unix:///{name}")
    env = {"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "chosen"}

    chosen = Endpoint.find(env)

    assert chosen.where == "unix:///chosen (context 'chosen' from DOCKER_CONTEXT)"
    assert Endpoint.find(env | {"DOCKER_HOST": "unix:///host"}).where == "unix:///host (from DOCKER_HOST)"
    assert Endpoint.find(env | {"DOCKER_CONTEXT": ""}).url == "unix:///current"
    assert Endpoint.find(env | {"DOCKER_CONTEXT": "default"}) == Endpoint()


@pytest.mark.parametrize(
    "content", [None, "", "[]", "{}", '{"Endpoints": 1}', '{"Endpoints": {"docker": {"Host": 5}}}']
)
def test_a_context_that_names_no_engine_is_a_fault_with_its_name(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        put_file(tmp_path, f"contexts/meta/{hashlib.sha256(b'lost').hexdigest()}/meta.json", content)

    found = Endpoint.find({"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "lost"})
    ping = found.ping()

    assert (ping.state, ping.detail) == ("unreachable", found.fault)
    assert found.fault
    assert found.away(found.fault).startswith("no engine answers at context 'lost' from DOCKER_CONTEXT: ")
    assert found.away(found.fault).endswith("correct it, or unset DOCKER_CONTEXT to use this host's own engine")


def test_a_context_brings_its_certificates(tmp_path: Path) -> None:
    digest = put_context(tmp_path, "build", Host="tcp://build", SkipTLSVerify=False)
    for name in ("ca", "cert", "key"):
        put_file(tmp_path, f"contexts/tls/{digest}/docker/{name}.pem")
    plain = put_context(tmp_path, "plain", Host="tcp://build")
    del plain

    found = Endpoint.find({"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "build"})

    assert found.tls is not None
    assert [path and path.name for path in (found.tls.ca, found.tls.cert, found.tls.key)] == [
        "ca.pem", "cert.pem", "key.pem",
    ]  # fmt: skip
    assert (found.tls.verify, found.url) == (True, "tcp://build:2376")
    assert Endpoint.find({"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "plain"}).url == "tcp://build:2375"


@pytest.mark.parametrize(
    ("url", "elsewhere"),
    [
        ("unix:///var/run/docker.sock", False),
        ("tcp://127.0.0.1:2375", False),
        ("tcp://[::1]:2375", False),
        ("tcp://localhost:2375", False),
        ("tcp://192.0.2.7:2375", True),
        ("https://192.0.2.7:2376", True),
        ("tcp://no-such-host.invalid:2375", True),
        ("ssh://user@build", True),
    ],
)
def test_an_engine_is_on_another_host_unless_its_address_is_one_of_ours(url: str, *, elsewhere: bool) -> None:
    assert Endpoint(url=url).elsewhere is elsewhere


@pytest.mark.parametrize(
    "url", ["/var/run/docker.sock", "fd://", "npipe:////./pipe/docker", "tcp://", "tcp://h:99999", "x"]
)
def test_an_address_that_is_none_is_a_fault(url: str) -> None:
    found = Endpoint.find({"DOCKER_HOST": url})

    assert found.fault
    assert found.ping().state == "unreachable"


@pytest.mark.parametrize("text", ["", "[1]", '{"currentContext": 0}'])
def test_unreadable_client_configuration_means_the_default(host: Machine, text: str) -> None:
    put_file(host.base, "home/config.json", text)

    assert Endpoint.find({"DOCKER_CONFIG": str(host.base / "home")}) == Endpoint()


@pytest.mark.usefixtures("host")
def test_engine_that_answers_gives_its_version() -> None:
    with answering(Path(Endpoint.find().socket)):
        assert Endpoint.find().ping() == PingResult(state="answers", version="26.1.5+dfsg1")


@pytest.mark.usefixtures("host")
def test_podman_is_called_by_its_name_and_never_new_enough() -> None:
    podman = {"Version": "99.0", "Components": [{"Name": "Podman Engine"}]}
    with answering(Path(Endpoint.find().socket), {"/version": podman}):
        version = Endpoint.find().ping().version

    assert version == "Podman 99.0"
    assert not engine_setup.new_enough(version)


@pytest.mark.usefixtures("host")
def test_no_socket_is_not_taken_for_a_socket_no_one_serves() -> None:
    found = Endpoint.find()
    missing = found.ping().state
    with answering(Path(found.socket)):
        alive = found.ping().state
        os.link(found.socket, f"{found.socket}.dead")
    dead = Endpoint(url=f"unix://{found.socket}.dead").ping()

    assert (missing, alive, dead.state) == ("missing", "answers", "refused")
    assert dead.detail == "Connection refused"


@pytest.mark.usefixtures("host")
def test_engine_that_takes_too_long_is_silent() -> None:
    never = threading.Event()
    with answering(Path(Endpoint.find().socket), {"/version": never}):
        ping = Endpoint.find().ping(deadline=0.05)
        never.set()

    assert ping == PingResult(state="silent", detail="no answer within 0.05 s")


@pytest.mark.parametrize("answer", [None, b"no JSON"])
@pytest.mark.usefixtures("host")
def test_wrong_answer_is_no_engine(answer: object) -> None:
    with answering(Path(Endpoint.find().socket), {"/version": answer}):
        ping = Endpoint.find().ping()

    assert ping.state == "refused"
    assert "answered" in ping.detail


@pytest.mark.usefixtures("host")
def test_what_does_not_speak_http_is_no_engine() -> None:
    import socket

    path = Endpoint.find().socket
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()

        def shout() -> None:
            caller, _ = server.accept()
            with caller:
                caller.recv(4096)
                caller.sendall(b"SSH-2.0\r\n")

        thread = threading.Thread(target=shout)
        thread.start()
        ping = Endpoint.find().ping()
        thread.join()

    assert ping.state == "refused"
    assert "does not speak HTTP" in ping.detail


def test_remote_engine_is_unreachable() -> None:
    assert Endpoint(url="tcp://127.0.0.1:1").ping().state == "unreachable"


@pytest.mark.usefixtures("host")
def test_remote_engine_with_tls_needs_its_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    monkeypatch.setenv("DOCKER_CERT_PATH", "/nowhere")

    ping = Endpoint.find().ping()

    assert ping.state == "unreachable"
    assert ping.detail == "DOCKER_TLS_VERIFY is set, and /nowhere has no ca.pem"


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_an_engine_that_answers_anything_is_known_in_time(name: str) -> None:
    began = time.monotonic()
    with unruly(Path(Endpoint.find().socket), lambda *_: ANSWERS[name]):
        ping = Endpoint.find().ping(deadline=0.3 if name in SLOW else 30)

    assert ping.state == ("silent" if name in SLOW else "refused")
    assert ping.detail.strip()
    assert "\n" not in ping.detail
    assert time.monotonic() - began < 30  # the slow ones go on for a minute


def test_machine_reads_its_facts_from_its_root(host: Machine) -> None:
    assert host.distribution.title == "Debian GNU/Linux 12 (bookworm)"
    assert (host.has_systemd, host.has_init_script, host.cgroup, host.memory) == (False, False, "", 0)

    put_file(host.base, "proc/meminfo", "MemTotal: 9 kB\nMemAvailable:   2048000 kB\n")
    put_file(host.base, "sys/fs/cgroup/memory/x")
    put_file(host.base, "etc/init.d/docker").chmod(0o755)
    put_program(host.base, "service")
    (host.base / "run/systemd/system").mkdir(parents=True)
    assert (host.has_systemd, host.has_init_script, host.cgroup, host.memory) == (True, True, "v1", 2000)

    put_file(host.base, "sys/fs/cgroup/cgroup.controllers")
    assert host.cgroup == "v2"


def test_system_without_os_release_is_called_by_its_platform(tmp_path: Path) -> None:
    assert Machine(base=tmp_path).distribution.id == sys.platform


def test_user_without_a_name_is_a_number(host: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError

    monkeypatch.setattr("getpass.getuser", nobody)

    assert host.user == "0"


def test_root_needs_no_sudo_and_keeps_the_proxies(host: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.test:3128")

    argv = host.as_root(["true"], {"LC_ALL": "C"})

    assert argv[0] == "env"
    assert {"http_proxy=http://proxy.test:3128", "LC_ALL=C"} <= set(argv)
    assert argv[-1] == "true"


def test_user_with_sudo_goes_through_it(host: Machine) -> None:
    put_program(host.base, "sudo", 'shift; "$@"')

    assert Machine(base=host.base, uid=1000).as_root(["true"])[:3] == ["sudo", "-n", "env"]


@pytest.mark.parametrize("sudo", ["", "exit 1"])
def test_user_without_root_learns_the_command_to_run(host: Machine, sudo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if sudo:
        put_program(host.base, "sudo", sudo)
    else:
        monkeypatch.setenv("PATH", str(host.base / "bin"))

    with pytest.raises(EngineError, match=r"no sudo without a password; run once: sudo .* --setup-only --yes"):
        Machine(base=host.base, uid=1000).as_root(["apt-get"])


def test_pid_file_of_a_dead_or_different_process_is_removed(host: Machine) -> None:
    put_file(host.base, "var/run/docker.pid", "12")
    put_file(host.base, "proc/12/stat", "12 (firefox) S 1")
    put_file(host.base, "var/run/docker/containerd/containerd.pid", "not a number")

    removed = daemon.clear_stale(host)

    assert removed == [f"{host.base}/var/run/docker.pid", f"{host.base}/var/run/docker/containerd/containerd.pid"]
    assert not (host.base / "var/run/docker.pid").exists()
    assert daemon.clear_stale(host) == []


def test_pid_file_of_a_living_engine_is_kept(host: Machine) -> None:
    put_file(host.base, "var/run/docker.pid", "12")
    put_file(host.base, "proc/12/stat", "12 (dockerd) S 1")

    assert daemon.clear_stale(host) == []
    assert daemon.living(host, "dockerd") == 12


@pytest.mark.parametrize(("text", "removed"), [("12", True), (None, False)])
def test_pid_file_that_only_root_may_read_is_read_as_root(
    host: Machine, monkeypatch: pytest.MonkeyPatch, text: str | None, removed: bool
) -> None:
    secret = host.base / "var/run/docker/containerd/containerd.pid"
    if text:
        put_file(host.base, "var/run/docker/containerd/containerd.pid", text)
    put_program(host.base, "sudo", 'shift; "$@"')
    real = Path.read_text

    def guarded(path: Path, encoding: str | None = None, errors: str | None = None) -> str:
        if path == secret:
            raise PermissionError
        return real(path, encoding=encoding, errors=errors)

    monkeypatch.setattr(Path, "read_text", guarded)

    found = daemon.clear_stale(Machine(base=host.base, uid=1000))

    assert found == ([str(secret)] if removed else [])
    assert not secret.exists()


@pytest.fixture
def clock() -> Callable[[], float]:
    ticks = iter(range(10_000))
    return lambda: float(next(ticks))


@pytest.mark.usefixtures("installed")
def test_engine_is_started_by_hand_and_waited_for(host: Machine, said: list[str], clock: Callable[[], float]) -> None:
    put_file(host.base, "var/run/docker.pid", "4000000")
    with contextlib.ExitStack() as servers:
        ping = daemon.start(
            host, Endpoint.find(), said.append, clock=clock,
            sleep=lambda _: servers.enter_context(answering(Path(Endpoint.find().socket))),
        )  # fmt: skip

    assert ping.version == "26.1.5+dfsg1"
    assert said == [
        f"removed {host.base}/var/run/docker.pid: the process it names is gone",
        f"starting the Docker engine (by hand, log in {host.base}/var/log/docker.log)",
    ]


@pytest.mark.usefixtures("installed")
def test_engine_that_ends_at_once_is_not_waited_for(host: Machine, said: list[str]) -> None:
    put_program(host.base, "dockerd", "echo failed to start daemon: no iptables")

    with pytest.raises(EngineError, match="did not start; its last lines:\n  failed to start daemon: no iptables"):
        daemon.start(host, Endpoint.find(), said.append)


def test_living_engine_is_only_waited_for(host: Machine, said: list[str], clock: Callable[[], float]) -> None:
    put_file(host.base, "var/run/docker.pid", "12")
    put_file(host.base, "proc/12/stat", "12 (dockerd) S 1")

    with pytest.raises(EngineError, match=r"does not answer at unix://.* after 3 s \(there is no such socket\)"):
        daemon.start(host, Endpoint.find(), said.append, deadline=3, clock=clock, sleep=lambda _: None)

    assert said == ["dockerd runs as process 12 but does not answer yet, waiting up to 3 s"]
    assert "dockerd" not in "".join(calls(host))


@pytest.mark.parametrize("state", ["Z", "X"])
def test_engine_that_died_and_was_not_waited_for_is_dead(host: Machine, state: str) -> None:
    put_file(host.base, "var/run/docker.pid", "12")
    put_file(host.base, "proc/12/stat", f"12 (dockerd) {state} 1")

    assert daemon.living(host, "dockerd") == 0
    assert daemon.clear_stale(host) == [f"{host.base}/var/run/docker.pid"]


@pytest.mark.usefixtures("installed")
def test_engine_that_was_ending_is_started_again(host: Machine, said: list[str], clock: Callable[[], float]) -> None:
    put_file(host.base, "var/run/docker.pid", "12")
    put_file(host.base, "proc/12/stat", "12 (dockerd) S 1")

    def end(_seconds: float) -> None:
        put_file(host.base, "proc/12/stat", "12 (dockerd) Z 1")

    with pytest.raises(EngineError, match="does not answer"):
        daemon.start(host, Endpoint.find(), said.append, deadline=5, clock=clock, sleep=end)

    assert said[1:] == [
        f"removed {host.base}/var/run/docker.pid: the process it names is gone",
        f"starting the Docker engine (by hand, log in {host.base}/var/log/docker.log)",
    ]


def test_systemd_starts_the_engine_and_its_journal_tells_why_it_failed(
    host: Machine, said: list[str], clock: Callable[[], float]
) -> None:
    (host.base / "run/systemd/system").mkdir(parents=True)
    put_program(host.base, "systemctl", "exit 1")
    put_program(host.base, "journalctl", "echo no space left on device")

    with pytest.raises(EngineError, match="no space left on device"):
        daemon.start(host, Endpoint.find(), said.append, deadline=3, clock=clock, sleep=lambda _: None)

    assert calls(host)[0] == "systemctl start docker.service"


def test_journal_that_may_not_be_read_is_no_traceback(host: Machine, clock: Callable[[], float]) -> None:
    (host.base / "run/systemd/system").mkdir(parents=True)
    put_program(host.base, "systemctl")
    put_program(host.base, "journalctl", "exit 1")
    (host.base / "var/log/docker.log").unlink()

    with pytest.raises(EngineError, match=r"\(it wrote no log\)"):
        daemon.start(host, Endpoint.find(), lambda _: None, deadline=3, clock=clock, sleep=lambda _: None)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("works", "how"), [("true", "init script"), ("exit 1", "by hand")])
def test_init_script_is_used_where_it_works(
    host: Machine, works: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_file(host.base, "etc/init.d/docker").chmod(0o755)
    put_program(host.base, "service", works)
    monkeypatch.setattr(daemon, "LIMIT", "true")

    assert daemon.launch(host).startswith(how)
    assert calls(host)[0] == "service docker start"


@pytest.mark.usefixtures("installed")
def test_init_script_is_skipped_where_open_files_cannot_be_raised(
    host: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_file(host.base, "etc/init.d/docker").chmod(0o755)
    put_program(host.base, "service")
    monkeypatch.setattr(daemon, "LIMIT", "exit 2")

    assert daemon.launch(host).startswith("by hand")
    assert not any(call.startswith("service") for call in calls(host))


def test_engine_that_is_not_installed_cannot_be_started(host: Machine) -> None:
    with pytest.raises(EngineError, match="dockerd is not installed"):
        daemon.launch(host)


@pytest.mark.usefixtures("installed")
def test_usable_engine_is_left_as_it_is(host: Machine, said: list[str]) -> None:
    with answering(Path(Endpoint.find().socket)):
        assert engine_setup.ensure_engine(host, say=said.append) == "26.1.5+dfsg1"

    assert said == []
    assert calls(host) == []


@pytest.mark.usefixtures("installed")
def test_old_engine_is_refused_with_both_versions(host: Machine) -> None:
    with (
        answering(Path(Endpoint.find().socket), {"/version": VERSION | {"Version": "20.10.24"}}),
        pytest.raises(EngineError, match=r"engine 20.10.24 found at .*, 25 or newer needed"),
    ):
        engine_setup.ensure_engine(host)


def test_engine_elsewhere_that_is_away_is_never_installed_here(host: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    put_program(host.base, "apt-get")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")

    with pytest.raises(EngineError, match=r"tcp://127.0.0.1:1 \(from DOCKER_HOST\): Connection refused.*unset DOCKER"):
        engine_setup.ensure_engine(host, consent=True)

    assert calls(host) == []


@pytest.mark.parametrize(
    ("state", "words"),
    [("forbidden", "usermod -aG docker"), ("silent", "accepts connections but gives no answer within 2 s; restart")],
)
def test_what_only_a_person_can_fix_is_said(
    host: Machine, monkeypatch: pytest.MonkeyPatch, state: endpoint.State, words: str
) -> None:
    answer = PingResult(state=state, detail="no answer within 2 s")
    monkeypatch.setattr(Endpoint, "ping", lambda _: answer)

    with pytest.raises(EngineError, match=words):
        engine_setup.ensure_engine(host)


@pytest.mark.usefixtures("host")
def test_forbidden_socket_is_known_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Endpoint, "get", refuse)

    assert Endpoint.find().ping() == PingResult(state="forbidden", detail="Permission denied")


@pytest.mark.usefixtures("installed")
def test_dead_engine_is_started_and_swept(host: Machine, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    left = Leftover(kind="network", name="n1", lease="l1", reason="in use")
    outcome = Removal(removed=["container c1"], left=[left])
    monkeypatch.setattr(daemon, "start", lambda *_: PingResult(state="answers", version="26.1.5"))
    monkeypatch.setattr(removal, "remove_stale", lambda: outcome)

    assert engine_setup.ensure_engine(host, say=said.append) == "26.1.5"
    assert said == [
        "engine 26.1.5 answers",
        "removed what dead runs had left: container c1",
        "could not remove network n1: in use",
    ]


def test_failed_sweep_does_not_stop_the_run(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> object:
        raise BookError("the lease book is broken")

    monkeypatch.setattr(removal, "remove_stale", refuse)

    engine_setup.sweep(said.append)

    assert said == ["what earlier runs left could not be removed: the lease book is broken"]


@pytest.mark.usefixtures("installed")
def test_started_engine_that_may_not_be_used_is_not_swept(host: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "start", lambda *_: PingResult(state="forbidden"))

    with pytest.raises(EngineError, match="usermod"):
        engine_setup.ensure_engine(host, say=lambda _: None)


def test_nothing_is_installed_without_consent(host: Machine, said: list[str]) -> None:
    put_program(host.base, "apt-get")
    questions: list[str] = []

    def refuse(question: str) -> bool:
        questions.append(question)
        return False

    with pytest.raises(
        EngineError, match=r"not installed: Docker Engine, Compose and buildx; install .*'./noxw --setup-only"
    ):
        engine_setup.ensure_engine(host, say=said.append, ask=refuse)

    assert questions == ["not installed: Docker Engine, Compose and buildx. Install with apt?"]
    assert calls(host) == []


def test_system_without_apt_names_what_to_install(host: Machine) -> None:
    put_file(host.base, "etc/os-release", "ID=fedora\nPRETTY_NAME=Fedora\n")

    with pytest.raises(EngineError) as caught:
        engine_setup.ensure_engine(host, consent=True)

    assert len(str(caught.value).splitlines()) == 4
    assert "on Fedora:\ninstall Docker Engine 25 or newer" in str(caught.value)


def test_plugins_are_looked_for_where_the_client_looks(host: Machine) -> None:
    put_file(host.base, "home/config.json", json.dumps({"cliPluginsExtraDirs": [f"{host.base}/extra"]}))
    assert engine_setup.plugin(host, "docker-compose") is None

    own = put_file(host.base, "home/cli-plugins/docker-compose")
    own.chmod(0o755)
    assert engine_setup.plugin(host, "docker-compose") == own

    extra = put_file(host.base, "extra/docker-compose")
    extra.chmod(0o755)
    assert engine_setup.plugin(host, "docker-compose") == extra


@pytest.mark.parametrize(
    ("env", "yes", "agreed"), [({}, False, False), ({"CI": "true"}, False, True), ({}, True, True)]
)
def test_consent_comes_from_the_option_or_the_build_server(env: dict[str, str], yes: bool, agreed: bool) -> None:
    assert engine_setup.consents(env, yes=yes) is agreed


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "agreed"), [("y\n", True), ("Yes\n", True), ("\n", False), ("", False)])
def test_person_at_a_terminal_is_asked(monkeypatch: pytest.MonkeyPatch, typed: str, agreed: bool) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    monkeypatch.setattr(sys, "stderr", screen := Terminal())

    assert engine_setup.ask_on_terminal("install?") is agreed
    assert screen.getvalue() == "noxw: install? [y/N] "


def test_no_one_is_asked_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))

    assert engine_setup.ask_on_terminal("install?") is False


@pytest.mark.usefixtures("installed", "host")
def test_set_up_alone_says_what_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(Path(Endpoint.find().socket)):
        code = program.main(["--setup-only"])

    assert code == 0
    assert capsys.readouterr().err == "noxw: ready: Docker Engine 26.1.5+dfsg1\n"


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [(EngineError("no engine"), 3, "noxw: no engine\n"), (KeyboardInterrupt(), 130, "")],
)
def test_failure_becomes_one_line_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], raised: BaseException, code: int, words: str
) -> None:
    def fail(**_: object) -> str:
        raise raised

    monkeypatch.setattr(program, "ensure_engine", fail)

    assert program.main([]) == code
    assert capsys.readouterr().err == words


def test_termination_leaves_through_the_clean_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    cleaned: list[str] = []

    def interrupted(**_: object) -> str:
        with contextlib.ExitStack() as ends:
            ends.callback(cleaned.append, "cleaned")
            signal.raise_signal(signal.SIGTERM)
        return ""

    monkeypatch.setattr(program, "ensure_engine", interrupted)

    with pytest.raises(SystemExit) as caught:
        program.main([])

    assert (caught.value.code, cleaned) == (143, ["cleaned"])


def test_unknown_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--force"]) == 2
    assert "unknown option --force; known are --setup-only, --yes" in capsys.readouterr().err
