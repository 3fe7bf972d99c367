"""The host-wide settings and the rules for each."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from stackyard.errors import UsageError
from stackyard.settings import Settings


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


def test_an_empty_value_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACKYARD_POOL", " ")

    assert Settings.load() == Settings.load({})


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
    with pytest.raises(UsageError, match="STACKYARD_START must be one of auto, compose, got 'engine'"):
        Settings.load({"STACKYARD_START": "engine"})


def test_a_state_directory_with_nul_is_refused() -> None:
    with pytest.raises(UsageError, match="without NUL"):
        Settings.load({"STACKYARD_STATE_DIR": "/x\0y"})


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
