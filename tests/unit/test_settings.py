"""The host-wide settings and the rules for each."""

from __future__ import annotations

import os
import subprocess
import sys
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from stackyard import settings as module
from stackyard.errors import UsageError
from stackyard.settings import SETTINGS, Settings, slips


def test_defaults_are_fifty_slots_of_ten_ports_and_a_subnet_pool() -> None:
    settings = Settings.load({})

    assert settings.pools == (range(9500, 10000),)
    assert settings.block == 10
    assert settings.slots == 50
    assert settings.subnets == IPv4Network("10.213.0.0/17")
    assert settings.image_source == "auto"
    assert settings.root is None
    assert settings.state_dir.is_absolute()
    assert settings.state_dir.name == "stackyard"


def test_every_setting_is_read_from_its_variable(tmp_path: Path) -> None:
    settings = Settings.load(
        {
            "STACKYARD_STATE_DIR": str(tmp_path),
            "STACKYARD_POOL": "9500-9999, 20000-20999",
            "STACKYARD_POOL_BLOCK": "20",
            "STACKYARD_POOL_SUBNETS": "172.28.0.0/16",
            "STACKYARD_IMAGE_SOURCE": "packages",
            "STACKYARD_ROOT": str(tmp_path / "project"),
        }
    )

    assert settings.state_dir == tmp_path
    assert settings.pool_text == "9500-9999,20000-20999"
    assert settings.slots == 75
    assert settings.subnets == IPv4Network("172.28.0.0/16")
    assert settings.image_source == "packages"
    assert settings.root == tmp_path / "project"


def test_an_empty_value_counts_as_unset() -> None:
    assert Settings.load({item.name: " " for item in SETTINGS}) == Settings.load({})


@pytest.mark.parametrize(
    "text",
    [
        "9500",
        "9500-",
        "-9999",
        "9999-9500",
        "80-99",
        "65000-65536",
        "9500-9508",
        "09500-9999",
        "a-b",
        "1e4-2e4",
        "9500-9999,",
    ],
)
def test_a_pool_that_is_no_range_of_free_ports_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="STACKYARD_POOL"):
        Settings.load({"STACKYARD_POOL": text})


def test_overlapping_pools_are_refused() -> None:
    with pytest.raises(UsageError, match="overlapping ranges around port 9900"):
        Settings.load({"STACKYARD_POOL": "9900-10100,9500-9999"})


@pytest.mark.parametrize("text", ["0", "4", "101", "-1", "08", "nan", "inf", "1e9", "10.0", "true", "٣٠"])
def test_a_block_size_that_no_stack_can_use_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="STACKYARD_POOL_BLOCK must be a number of ports from 5 to 100"):
        Settings.load({"STACKYARD_POOL_BLOCK": text})


@pytest.mark.parametrize("text", ["10.0.0.1/8", "8.8.0.0/16", "10.0.0.0/29", "::/64", "everything"])
def test_a_subnet_pool_that_is_no_private_network_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="STACKYARD_POOL_SUBNETS must be"):
        Settings.load({"STACKYARD_POOL_SUBNETS": text})


def test_an_unknown_image_source_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="one of auto, registry, packages, got 'docker'"):
        Settings.load({"STACKYARD_IMAGE_SOURCE": "docker"})


def test_an_unknown_way_to_start_lists_the_known() -> None:
    with pytest.raises(UsageError, match="STACKYARD_START must be auto or compose, got 'engine'"):
        Settings.load({"STACKYARD_START": "engine"})


@pytest.mark.parametrize("name", ["STACKYARD_STATE_DIR", "STACKYARD_ROOT"])
@pytest.mark.parametrize("path", ["/x\0y", "/x\ny", "/x\udcff", "/x" * 600, "~nobody-of-that-name/x"])
def test_a_path_that_no_file_of_ours_can_carry_is_refused(name: str, path: str) -> None:
    with pytest.raises(UsageError, match=f"^{name} .*got '"):
        Settings.load({name: path})


def test_a_relative_state_directory_becomes_absolute() -> None:
    assert Settings.load({"STACKYARD_STATE_DIR": "here"}).state_dir == Path("here").absolute()


def test_two_state_directories_are_two_hosts_and_one_is_always_the_same(tmp_path: Path) -> None:
    one, two = (Settings.load({"STACKYARD_STATE_DIR": str(tmp_path / name)}) for name in ("a", "b"))

    assert one.host != two.host
    assert one.host == Settings.load({"STACKYARD_STATE_DIR": str(tmp_path / "a")}).host
    assert len(one.host) == 12


def test_how_many_stacks_start_at_once_is_a_number_or_left_to_the_host_or_unlimited() -> None:
    limits = [Settings.load({"STACKYARD_STARTS_AT_ONCE": text}).starts_at_once for text in ("", "auto", "off", " 3 ")]

    assert limits == ["auto", "auto", "off", 3]


@pytest.mark.parametrize("text", ["0", "-1", "1001", "2.5", "08", "two", "AUTO"])
def test_any_other_number_of_starts_at_once_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"STARTS_AT_ONCE must be auto, off or a number from 1 to 1000, got '{text}'"):
        Settings.load({"STACKYARD_STARTS_AT_ONCE": text})


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("STACKYARD_STATE_DIR", "a\0b"), ("STACKYARD_POOL", "x"), ("STACKYARD_POOL_BLOCK", "x"),
        ("STACKYARD_POOL_SUBNETS", "x"), ("STACKYARD_IMAGE_SOURCE", "x"), ("STACKYARD_ROOT", "a\0b"),
        ("STACKYARD_START", "x"), ("STACKYARD_STARTS_AT_ONCE", "x"), ("STACKYARD_REAPER", "maybe"),
        ("STACKYARD_ENGINE_TIMEOUT", "x"), ("STACKYARD_PAYLOAD_TIMEOUT", "x"),
        ("STACKYARD_SITE", "context:"), ("STACKYARD_REGISTRY", "a b"),
    ],
)  # fmt: skip
def test_every_wrong_value_is_refused_before_anything_is_done(name: str, wrong: str) -> None:
    with pytest.raises(UsageError, match=f"^{name} must be .*got ") as caught:
        Settings.load({name: wrong})
    assert "\n" not in str(caught.value)


def test_the_list_of_settings_is_whole() -> None:
    assert len({item.name for item in SETTINGS}) == len(SETTINGS) == 14
    for item in SETTINGS:
        assert item.name in (Settings.__doc__ or "")
        assert item.rule
        assert item.text.endswith(".")
        item.read(None)
        if item.default[0].islower() is False or item.default in {"auto", "on"}:
            item.read(item.default)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("STACKYARD_POL", "STACKYARD_POOL"), ("STACKYARD_POOLS", "STACKYARD_POOL"),
        ("stackyard_pool", "STACKYARD_POOL"),
        ("STACKYARDPOOL", "STACKYARD_POOL"), ("STACK_YARD_POOL", "STACKYARD_POOL"),
        ("STACKYARD_STATEDIR", "STACKYARD_STATE_DIR"), ("STACKYARD_STATE_DIRECTORY", "STACKYARD_STATE_DIR"),
        ("STACKYARD_IMAGE_SORCE", "STACKYARD_IMAGE_SOURCE"), ("STACKYARD_REPAER", "STACKYARD_REAPER"),
        ("STACKYARD_START_AT_ONCE", "STACKYARD_STARTS_AT_ONCE"), ("STACKYARD_POOL_SUBNET", "STACKYARD_POOL_SUBNETS"),
        ("STACKYARD_ENGINE_TIMOUT", "STACKYARD_ENGINE_TIMEOUT"),
    ],
)  # fmt: skip
def test_a_name_that_is_nearly_a_setting_is_known_for_a_slip(given: str, meant: str) -> None:
    assert slips([given]) == {given: meant}


@pytest.mark.parametrize(
    "name",
    [
        *(item.name for item in SETTINGS), "STACKYARD_HOME", "STACKYARD_TOKEN", "STACK", "STACKTRACE", "PATH",
        "STACKYARD_POSTGRES_URL", "STACKYARD_PORTS", "STACKYARD_SPARE_PORT_1", "STACKYARD_HOST", "STACKYARD_RESTART",
        "STACKYARD_PAYLOAD", "STACKYARD_CRASH_AT", "STACKYARD_SUBNET", "STACKYARD_DATA_SOURCE",
    ],
)  # fmt: skip
def test_any_other_name_is_none(name: str) -> None:
    assert slips([name]) == {}


def test_what_stackyard_hands_to_a_payload_is_no_slip() -> None:
    from stackyard.leases.directory.files import own_variables
    from stackyard.project.environments import load_services

    root = Path(__file__).parents[2]
    used = {word for file in (root / "compose").rglob("*.yml") for word in _variables(file)}
    used |= {word for file in (root / "envs").glob(".env*") for word in _variables(file)}

    assert len(used) > 20
    assert slips(own_variables(load_services(root)) | used) == {}


def _variables(file: Path) -> list[str]:
    import re

    return re.findall(r"STACKYARD_[A-Z0-9_]+", file.read_text())


def test_a_slip_is_named_once_for_each_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_named", set())
    monkeypatch.setenv("STACKYARD_POL", "9500-9999")
    Settings.load()
    Settings.load()

    assert capsys.readouterr().err == "STACKYARD_POL is not a setting; did you mean STACKYARD_POOL?\n"


def test_a_closed_standard_error_is_no_reason_to_fail() -> None:
    program = "import os, sys; os.close(2); from stackyard.settings import Settings; Settings.load(); print('fine')"
    env = os.environ | {"STACKYARD_POL": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)  # noqa: S603 - our own program

    assert done.stdout == "fine\n"


def test_another_process_reads_the_same_settings_from_their_variables(tmp_path: Path) -> None:
    given = {
        "STACKYARD_STATE_DIR": str(tmp_path), "STACKYARD_POOL": "9500-9999,20000-20999", "STACKYARD_POOL_BLOCK": "20",
        "STACKYARD_POOL_SUBNETS": "172.28.0.0/16", "STACKYARD_IMAGE_SOURCE": "packages", "STACKYARD_START": "compose",
        "STACKYARD_ROOT": str(tmp_path), "STACKYARD_STARTS_AT_ONCE": "3", "STACKYARD_REAPER": "off",
        "STACKYARD_ENGINE_TIMEOUT": "1m", "STACKYARD_PAYLOAD_TIMEOUT": "30s",
        "STACKYARD_SITE": "context:build", "STACKYARD_REGISTRY": "registry.example:5000",
        "STACKYARD_KEEP_IMAGES": "12h",
    }  # fmt: skip
    settings = Settings.load(given)

    assert given.keys() == {item.name for item in SETTINGS} == settings.variables().keys()
    assert Settings.load(settings.variables()) == settings
    assert (settings.engine_timeout, settings.payload_timeout, settings.keep_images) == (60.0, 30.0, 43200.0)
    assert Settings.load(Settings.load({}).variables()) == Settings.load({})
