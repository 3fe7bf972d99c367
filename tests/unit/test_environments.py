from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

import stackyard.project
import stackyard.project.environments
from stackyard.errors import ConfigError, UsageError
from stackyard.project.environments import Budget, Environment, Health, load_all, project_root

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]
YAML = "envs/docker_environments.yaml"
COMPOSE = "compose/docker-compose.unified.yml"
SHORT = "version: 1\ncompose_file: a\nservices: {a: 'http://{a}'}\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of this project's environment files, free to break."""
    shutil.copytree(ROOT / "envs", tmp_path / "envs", ignore=shutil.ignore_patterns("secrets"))
    (tmp_path / "compose").mkdir()
    shutil.copy(ROOT / COMPOSE, tmp_path / COMPOSE)
    return tmp_path


def edit(root: Path, file: str, old: str, new: str) -> None:
    """Replace the first *old* in *file*, which must be there."""
    text = (root / file).read_text()
    assert old in text
    (root / file).write_text(text.replace(old, new, 1))


def failure(root: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_all(root)
    assert "\n" not in str(caught.value)
    return caught.value


def test_each_environment_of_this_project_loads_with_its_fixed_ports() -> None:
    environments = load_all(ROOT)

    assert {name: tuple(sorted(found.ports.values())) for name, found in environments.items()} == {
        "dev": (5433, 6380, 8000, 8081),
        "test": (5434, 6381, 8001, 8082),
        "alpine-test": (5435, 6382, 8002, 8083),
        "ci": (5436, 6383, 8003, 8084),
    }


def test_one_environment_carries_everything_its_files_say() -> None:
    found = Environment.load("alpine-test", ROOT)

    assert (found.name, found.profile, found.flavour, found.data) == ("alpine-test", "alpine-test", "alpine", "tmpfs")
    assert found.ports == {"postgres": 5435, "redis": 6382, "backend": 8002, "auth": 8083}
    assert found.subnet == "10.213.255.32/28"
    assert found.budget == Budget(startup_s=30, memory_mb=2048, cleanup_s=5, image_mb=200)
    assert found.health == Health(interval_s=5, timeout_s=3, retries=10, start_period_s=30, start_interval_s=0.25)
    assert found.env_file == ROOT / "envs/.env.alpine-test"
    assert found.compose_file == ROOT / COMPOSE
    assert found.root == ROOT
    assert found.variables["STACKYARD_IMAGE_REDIS"] == "stackyard/redis:alpine"
    assert found.description


def test_an_environment_is_frozen_and_travels_between_processes() -> None:
    found = Environment.load("ci", ROOT)

    with pytest.raises(dataclasses.FrozenInstanceError):
        found.name = "other"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301 - our own bytes


def test_a_misspelt_environment_names_the_near_one_and_all_known() -> None:
    with pytest.raises(UsageError, match="unknown environment 'tset'; did you mean 'test'") as caught:
        Environment.load("tset", ROOT)

    assert str(caught.value).endswith("known: alpine-test, ci, dev, test")


@pytest.mark.parametrize("name", ["../x", "A B", "-rf", "x" * 5000, "a\0b", "\N{SNAKE}", "", "1test"])
def test_a_hostile_name_is_an_unknown_environment_in_one_short_line(name: str) -> None:
    with pytest.raises(UsageError, match="unknown environment") as caught:
        Environment.load(name, ROOT)

    assert len(str(caught.value)) < 250
    assert str(caught.value).isprintable()


def test_a_broken_env_file_does_not_keep_the_other_environments_from_loading(project: Path) -> None:
    (project / "envs/.env.ci").unlink()

    assert Environment.load("dev", project).name == "dev"
    with pytest.raises(ConfigError, match=r"envs/\.env\.ci: file: cannot be read \(No such file or directory\)"):
        Environment.load("ci", project)


def test_a_mistake_in_one_yaml_entry_shows_whichever_environment_is_asked_for(project: Path) -> None:
    edit(project, YAML, "5436", "80")

    with pytest.raises(ConfigError, match=r"environments\.ci\.ports\.postgres"):
        Environment.load("dev", project)


YAML_MISTAKES = [
    pytest.param("version: 1", "version: 2", "version", "must be 1", id="other-version"),
    pytest.param("version: 1\n", "", "version", "missing key", id="no-version"),
    pytest.param("profile: dev", "profil: dev", "dev.profil", "did you mean 'profile'", id="unknown-key"),
    pytest.param("    data: volume\n", "", "dev.data", "missing key", id="missing-key"),
    pytest.param("profile: dev", "profile: [dev]", "dev.profile", "single value", id="list-for-text"),
    pytest.param("ports: {", "ports: [1]\n    x: {", "dev.x", "unknown key", id="second-mapping"),
    pytest.param("profile: dev", "profile: Dev", "dev.profile", "lower-case", id="upper-case-profile"),
    pytest.param("profile: dev", "profile: devel", "dev.profile", "did you mean 'dev'", id="no-profile"),
    pytest.param("profile: dev", "profile:", "dev.profile", "lower-case", id="empty-value"),
    pytest.param("flavour: debian", "flavour: ubuntu", "dev.flavour", "debian or alpine", id="flavour"),
    pytest.param("data: volume", "data: disk", "dev.data", "tmpfs or volume", id="data"),
    pytest.param(".env.local", "../../x", "dev.env_file", "relative", id="path-up"),
    pytest.param("envs/.env.local", "/etc/passwd", "dev.env_file", "relative", id="absolute-path"),
    pytest.param("envs/.env.local", "envs/.env.ci", "ci.env_file", "belongs to", id="shared-env-file"),
    pytest.param("for daily work,", "|\n      a\n      b\n    #", "dev.description", "one line", id="two-lines"),
    pytest.param("postgres: 5433", "postgres: 5433.0", "dev.ports.postgres", "port number", id="float"),
    pytest.param("postgres: 5433", "postgres: 05433", "dev.ports.postgres", "port number", id="octal"),
    pytest.param("postgres: 5433", "postgres: true", "dev.ports.postgres", "port number", id="boolean"),
    pytest.param("postgres: 5433", "postgres: 0x1539", "dev.ports.postgres", "port number", id="hex"),
    pytest.param("postgres: 5433", "postgres: -5433", "dev.ports.postgres", "port number", id="negative"),
    pytest.param("postgres: 5433", "postgres: 1e3", "dev.ports.postgres", "port number", id="exponent"),
    pytest.param("postgres: 5433", "postgres: 443", "dev.ports.postgres", "1024", id="privileged"),
    pytest.param("postgres: 5433", "postgres: 65536", "dev.ports.postgres", "65535", id="past-the-end"),
    pytest.param("postgres: 5433", "postgres: 9500", "dev.ports.postgres", "pool", id="pool-start"),
    pytest.param("postgres: 5433", "postgres: 9999", "dev.ports.postgres", "pool", id="pool-end"),
    pytest.param("postgres: 5433", "postgres: 6380", "dev.ports.redis", "taken by", id="clash-inside"),
    pytest.param("postgres: 5433", "postgres: 5434", "test.ports.postgres", "dev.ports.postgres", id="clash"),
    pytest.param("postgres: 5433", "postgre: 5433", "dev.ports.postgre", "did you mean 'postgres'", id="name"),
    pytest.param("10.213.255.0/28", "10.213.255.16/28", "test.subnet", "taken by", id="subnet-twice"),
    pytest.param("10.213.255.0/28", "10.213.255.0/24", "dev.subnet", "/28", id="subnet-size"),
    pytest.param("10.213.255.0/28", "10.213.255.1/28", "dev.subnet", "host bits", id="subnet-host-bits"),
    pytest.param("10.213.255.0/28", "10.213.255.0/255.255.255.240", "dev.subnet", "/28", id="subnet-mask"),
    pytest.param("10.213.255.0/28", "8.8.8.0/28", "dev.subnet", "private", id="subnet-public"),
    pytest.param("10.213.255.0/28", "10.213.7.0/28", "dev.subnet", "parallel runs", id="subnet-pool"),
    pytest.param("10.213.255.0/28", "fd00::/28", "dev.subnet", "IPv4", id="subnet-ipv6"),
    pytest.param("retries: 10", "retries: 0", "dev.health.retries", "1 to 100", id="no-retries"),
    pytest.param("retries: 10", "retries: 101", "dev.health.retries", "1 to 100", id="many-retries"),
    pytest.param("start_period: 30s", "start_period: 250ms", "dev.health.start_interval", "shorter", id="period"),
    pytest.param("{interval: 5s", "{interval: 100ms", "dev.health.start_interval", "not be longer", id="interval"),
    pytest.param("  dev:\n", "  Dev!:\n", "environments", "a name must be", id="name"),
    pytest.param("  dev:\n", f"  {'d' * 33}:\n", "environments", "at most 32", id="long-name"),
    pytest.param(COMPOSE, "compose/other.yml", "file", "cannot be read", id="no-compose-file"),
    pytest.param("  dev:\n", "  dev: &a\n", "line 7", "anchors", id="anchor"),
    pytest.param("profile: dev", "profile: *dev", "line 9", "anchors and aliases", id="alias"),
    pytest.param("profile: dev", "profile: !!str dev", "line 9", "tags", id="tag"),
    pytest.param("profile: dev", "profile: !!python/object/apply:os.getcwd []", "line 9", "tags", id="python-tag"),
    pytest.param("profile: dev", "profile: dev\n    profile: dev", "line 10", "only once", id="duplicate-key"),
    pytest.param("profile: dev", "? [a]\n    : dev", "line 9", "plain text", id="odd-key"),
    pytest.param("profile: dev", "profile: dev: x", "line 9, column 17", "must be YAML", id="syntax"),
    pytest.param("    profile: dev", "\tprofile: dev", "line 9", "must be YAML", id="tab"),
    pytest.param("version: 1", "--- 1\n---\nversion: 1", "line 4", "one document", id="two-documents"),
    pytest.param("version: 1", "version: {" + "a: {" * 40 + "}" * 41, "line 3", "deeper", id="deep"),
    pytest.param("version: 1", "version: " + "[" * 100_000, "line 3", "deeper", id="very-deep"),
    pytest.param("version: 1", "version: 1\a", "line 3", "control characters", id="control-character"),
    pytest.param("version: 1", "version: 1\0", "line 3", "control characters", id="nul"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "key", "rule"), YAML_MISTAKES)
def test_a_mistake_in_the_yaml_names_file_key_value_and_rule(
    project: Path, old: str, new: str, key: str, rule: str
) -> None:
    edit(project, YAML, old, new)

    error = failure(project)

    assert error.file in {YAML, "compose/other.yml"}
    assert error.key.removeprefix("environments.").startswith(key)
    assert rule in error.rule
    assert error.exit_code == 2


@pytest.mark.parametrize(
    "value",
    [
        "30", '"30 sec"', "08s", "0s", "-5s", "+5s", ".nan", "NaN", "inf", ".inf", "1.5s", "1e3s", "30S", "30 s", "s",
        "99999999s", "\N{ARABIC-INDIC DIGIT THREE}s", "30h", "~", "[30s]", "30s ms",
    ],
)  # fmt: skip
def test_a_duration_without_whole_number_and_unit_is_refused(project: Path, value: str) -> None:
    edit(project, YAML, "startup: 30s", f"startup: {value}")

    error = failure(project)

    assert error.key == "environments.dev.budget.startup"


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("1ms", 0.001), ("7s", 7.0), ("2m", 120.0), ("9999999s", 9_999_999.0)]
)
def test_a_duration_is_read_in_seconds(project: Path, text: str, seconds: float) -> None:
    edit(project, YAML, "startup: 30s", f"startup: {text}")

    assert Environment.load("dev", project).budget.startup_s == seconds


@pytest.mark.parametrize(("text", "megabytes"), [("1MB", 1), ("2048MB", 2048), ("2GB", 2000)])
def test_a_size_is_read_in_megabytes(project: Path, text: str, megabytes: int) -> None:
    edit(project, YAML, "memory: 2048MB", f"memory: {text}")

    assert Environment.load("dev", project).budget.memory_mb == megabytes


@pytest.mark.parametrize("text", ["2048", "2 GB", "2gb", "2GiB", "0MB", "-1MB", "02GB", "1.5GB", "1TB", "30s"])
def test_a_size_without_whole_number_and_unit_is_refused(project: Path, text: str) -> None:
    edit(project, YAML, "memory: 2048MB", f"memory: {text}")

    assert failure(project).key == "environments.dev.budget.memory"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        pytest.param("", "must not be empty", id="empty"),
        pytest.param("# only a comment\n", "must not be empty", id="comment"),
        pytest.param("just words", "must be a mapping", id="scalar"),
        pytest.param("[1, 2]", "must be a mapping", id="list"),
        pytest.param(
            "version: 1\ncompose_file: a\nservices: {a: 'http://{a}'}\nenvironments: {}",
            "at least one",
            id="no-environments",
        ),
        pytest.param(
            "version: 1\ncompose_file: a\nservices: {a: 'http://{a}'}\nenvironments: {a: 1}",
            "must be a mapping",
            id="scalar-entry",
        ),
        pytest.param("a: {b", "must be YAML", id="unfinished"),
        pytest.param("a: '", "must be YAML", id="open-quote"),
        pytest.param("%YAML 9.9\n---\na: b", "must be YAML", id="future-yaml"),
    ],
)
def test_a_yaml_file_of_another_shape_is_refused(project: Path, text: str, rule: str) -> None:
    (project / YAML).write_text(text)

    assert rule in failure(project).rule


def test_an_alias_bomb_is_refused_at_once(project: Path) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}, *a{n}, *a{n}]\n" for n in range(40))
    (project / YAML).write_text(bomb)

    assert "anchors" in failure(project).rule


def test_an_alias_bomb_in_the_compose_file_costs_nothing_and_proves_nothing(project: Path) -> None:
    bomb = "".join(f"x{n + 1}: &x{n + 1}\n  <<: [*x{n}, *x{n}, *x{n}]\n" for n in range(60))
    edit(project, COMPOSE, "services:", f"x0: &x0 {{a: b}}\n{bomb}\nservices:")

    assert len(load_all(project)) == 4


@pytest.mark.parametrize(
    ("text", "key", "rule"),
    [
        pytest.param("a: b", "services", "missing key", id="no-services"),
        pytest.param("services: [a]", "services", "must be a mapping", id="list"),
        pytest.param("services: {postgres: {}}", "services.redis", "missing service", id="service"),
        pytest.param("services: {postgres: *x}", "line 1", "must follow its anchor", id="alias-first"),
        pytest.param("services: &x {postgres: *x}", "line 1", "must follow its anchor", id="cycle"),
        pytest.param("services: {postgres: text}", "services.redis", "missing service", id="text-service"),
    ],
)
def test_a_compose_file_that_cannot_start_the_platform_is_refused(
    project: Path, text: str, key: str, rule: str
) -> None:
    (project / COMPOSE).write_text(text)

    error = failure(project)

    assert (error.file, error.key) == (COMPOSE, key)
    assert rule in error.rule


def test_a_profile_must_start_every_service(project: Path) -> None:
    edit(project, COMPOSE, "\n  redis:\n", "\n  redis:\n    profiles: [test]\n")

    error = failure(project)

    assert error.key == "environments.dev.profile"
    assert "service redis" in error.rule


def test_a_service_without_profiles_belongs_to_each(project: Path) -> None:
    edit(project, COMPOSE, "  profiles: [dev, test, alpine-test, ci]\n", "")

    assert len(load_all(project)) == 4


def test_the_pure_python_reader_gives_the_same_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = load_all(ROOT)
    monkeypatch.delattr(yaml, "CSafeLoader")

    assert load_all(ROOT) == quick


@pytest.mark.parametrize("file", [YAML, "envs/.env.local", COMPOSE])
def test_a_file_that_is_none_is_refused_without_waiting(project: Path, file: str) -> None:
    path = project / file
    path.unlink()
    error = failure(project)
    assert (error.file, error.key) == (file, "file")

    path.mkdir()
    assert failure(project).rule == "cannot be read (Is a directory)"
    path.rmdir()

    os.mkfifo(path)
    done = threading.Thread(target=failure, args=(project,), daemon=True)
    done.start()
    done.join(timeout=60)
    assert not done.is_alive()
    assert failure(project).rule == "must be a regular file, not a pipe or device"
    path.unlink()

    path.symlink_to(path.name)
    assert failure(project).rule == "cannot be read (Too many levels of symbolic links)"


@pytest.mark.parametrize(("file", "limit"), [(YAML, 262_144), ("envs/.env.local", 65_536), (COMPOSE, 262_144)])
def test_a_huge_file_is_refused_after_its_first_bytes(project: Path, file: str, limit: int) -> None:
    with (project / file).open("ab") as stream:
        stream.truncate(100_000_000)

    assert failure(project).rule == f"must not hold more than {limit} bytes"


@pytest.mark.parametrize("file", [YAML, "envs/.env.local", COMPOSE])
def test_bytes_that_are_no_text_are_refused_with_their_place(project: Path, file: str) -> None:
    (project / file).write_bytes(b"# caf\xe9\n" + (project / file).read_bytes())

    error = failure(project)

    assert (error.file, error.key, error.value) == (file, "byte 5", b"\xe9")


@pytest.mark.parametrize("file", [YAML, "envs/.env.local", COMPOSE])
def test_a_byte_order_mark_and_windows_line_ends_change_nothing(project: Path, file: str) -> None:
    plain = (project / file).read_bytes()
    (project / file).write_bytes(b"\xef\xbb\xbf" + plain.replace(b"\n", b"\r\n"))

    assert Environment.load("dev", project) == dataclasses.replace(
        Environment.load("dev", ROOT),
        root=project,
        env_file=project / "envs/.env.local",
        compose_file=project / COMPOSE,
    )


ENV_MISTAKES = [
    pytest.param("REDIS_PORT=6380", "REDIS_PORT=6399", "REDIS_PORT", "must be 6380", id="port"),
    pytest.param("SUBNET=10.213.255.0", "SUBNET=10.213.254.0", "SUBNET", "must be 10.213.255.0/28", id="subnet"),
    pytest.param("FLAVOUR=debian", "FLAVOUR=alpine", "FLAVOUR", "must be debian", id="flavour"),
    pytest.param("PROFILES=dev", "PROFILES=test", "COMPOSE_PROFILES", "must be dev", id="profile"),
    pytest.param("stackyard-dev", "stackyard", "COMPOSE_PROJECT_NAME", "must be stackyard-dev", id="project"),
    pytest.param("START_INTERVAL=250ms", "START_INTERVAL=1s", "HEALTH_START_INTERVAL", "must be 250ms", id="health"),
    pytest.param("STACKYARD_REDIS_PORT=6380\n", "", "REDIS_PORT", "missing variable; must be 6380", id="missing"),
    pytest.param("STACKYARD_IMAGE_AUTH=stackyard/auth:debian\n", "", "IMAGE_AUTH", "missing variable", id="no-image"),
    pytest.param("auth:debian", "auth:alpine", "IMAGE_AUTH", "stackyard/auth:debian", id="image-flavour"),
    pytest.param("auth:debian", "backend:debian", "IMAGE_AUTH", "stackyard/auth:debian", id="image-service"),
    pytest.param("stackyard/auth:debian", "Not/An:Image:", "IMAGE_AUTH", "name an image", id="image-shape"),
    pytest.param("REDIS_PORT", "REDIS_PROT", "REDIS_PROT", "did you mean 'STACKYARD_REDIS_P", id="unknown"),
    pytest.param("STACKYARD_RESTART=", "PATH=/x\nSTACKYARD_RESTART=", "PATH", "must start with", id="foreign"),
    pytest.param("DATA_SOURCE=postgres-data", "DATA_SOURCE=", "DATA_SOURCE", "must name a volume", id="no-volume"),
    pytest.param("DATA_MOUNT=volume", "DATA_MOUNT=tmpfs", "DATA_MOUNT", "must be volume", id="mount"),
    pytest.param("DURABLE=on", "DURABLE=off", "POSTGRES_DURABLE", "data is volume", id="not-durable"),
    pytest.param("unless-stopped", "sometimes", "RESTART", "must be one of", id="restart"),
    pytest.param("RESTART=unless-stopped", "RESTART=$(touch x)", "line 18, RESTART", "quotes", id="shell"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "key", "rule"), ENV_MISTAKES)
def test_an_env_file_that_disagrees_names_file_variable_value_and_rule(
    project: Path, old: str, new: str, key: str, rule: str
) -> None:
    edit(project, "envs/.env.local", old, new)

    error = failure(project)

    assert (error.file, error.key.replace("STACKYARD_", "")) == ("envs/.env.local", key)
    assert rule in error.rule


def test_data_in_memory_needs_no_volume_and_may_skip_durability(project: Path) -> None:
    edit(project, "envs/.env.test", "DATA_SOURCE=", "DATA_SOURCE=postgres-data")
    assert "must be empty" in failure(project).rule

    edit(project, "envs/.env.test", "DATA_SOURCE=postgres-data", "DATA_SOURCE=")
    edit(project, "envs/.env.test", "DURABLE=off", "DURABLE=maybe")
    assert failure(project).rule == "must be on or off"


@pytest.mark.parametrize("image", ["stackyard/auth:debian-0123456789ab", "mirror.example:5000/team/auth:1.2", "auth"])
def test_an_environment_may_use_a_pinned_or_a_foreign_image(project: Path, image: str) -> None:
    edit(project, "envs/.env.local", "stackyard/auth:debian", image)

    assert Environment.load("dev", project).variables["STACKYARD_IMAGE_AUTH"] == image


def test_the_variable_decides_where_the_project_is(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKYARD_ROOT", str(project))

    assert project_root() == project.resolve()
    assert Environment.load("dev").root == project.resolve()


@pytest.mark.parametrize("value", ["/nowhere", "x\N{SNAKE}"])
def test_a_variable_that_names_no_project_says_so(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("STACKYARD_ROOT", value)

    with pytest.raises(UsageError, match=r"STACKYARD_ROOT is .* holds no envs/docker_environments\.yaml"):
        project_root()


def test_the_checkout_the_package_is_installed_from_is_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STACKYARD_ROOT", raising=False)
    monkeypatch.chdir("/")

    assert project_root() == ROOT


def test_the_project_one_works_in_comes_before_the_checkout_of_the_package(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STACKYARD_ROOT", raising=False)
    (project / "deep").mkdir()
    monkeypatch.chdir(project / "deep")

    assert project_root() == project


def test_an_installed_package_finds_the_project_from_the_working_directory_upwards(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STACKYARD_ROOT", raising=False)
    monkeypatch.setattr(
        "stackyard.project.environments.roots.__file__", "/nowhere/lib/site/stackyard/project/environments/roots.py"
    )
    (project / "deep/er").mkdir(parents=True)
    monkeypatch.chdir(project / "deep/er")
    assert project_root() == project

    monkeypatch.chdir("/")
    with pytest.raises(UsageError, match="in / or above it; change to your project's directory, or set STACKYARD_ROOT"):
        project_root()


def test_a_working_directory_that_is_gone_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STACKYARD_ROOT", raising=False)
    monkeypatch.setattr(
        "stackyard.project.environments.roots.__file__", "/nowhere/lib/site/stackyard/project/environments/roots.py"
    )
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    with pytest.raises(UsageError, match="which is gone"):
        project_root()


def test_reading_environments_waits_for_no_other_part_of_a_project() -> None:
    code = "import sys; from stackyard.project.environments import load_all; print('asyncio' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)  # noqa: S603 - our own code

    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    "package", [stackyard.project, stackyard.project.environments], ids=["project", "environments"]
)
def test_a_package_has_what_it_lists_and_nothing_else(package: ModuleType) -> None:
    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Projekt'"):
        package.Projekt  # noqa: B018 - asked for only to be refused
