from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from platform_common.errors import SettingsError
from platform_common.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

KEY = "k" * 32
ENOUGH = {
    "POSTGRES_HOST": "postgres", "POSTGRES_PASSWORD": "one", "REDIS_HOST": "redis", "REDIS_PASSWORD": "two",
    "JWT_KEY": KEY, "JWT_ISSUER": "me", "JWT_AUDIENCE": "you",
}  # fmt: skip


def test_a_service_needs_two_stores_and_a_key() -> None:
    settings = Settings.load(ENOUGH)

    assert (settings.postgres.host, settings.postgres.port, settings.database) == ("postgres", 5432, "app")
    assert (settings.redis.host, settings.redis.port, settings.redis.user) == ("redis", 6379, "app")
    assert (settings.port, settings.access_ttl, settings.allowed_origins) == (8000, 600, frozenset())


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")

    settings = Settings.load({**ENOUGH, "JWT_KEY": "", "JWT_KEY_FILE": str(file)})

    assert settings.jwt_key == KEY


def test_no_secret_is_in_what_settings_look_like() -> None:
    shown = repr(Settings.load({**ENOUGH, "POSTGRES_PASSWORD": "hidden", "REDIS_PASSWORD": "hidden"}))

    assert "hidden" not in shown
    assert KEY not in shown


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"POSTGRES_HOST": ""}, "POSTGRES_HOST is missing"),
        ({"PORT": "80a"}, "PORT must be a whole number from 1 to 65535, got '80a'"),
        ({"ACCESS_TTL": "901"}, "ACCESS_TTL must be a whole number from 1 to 900, got '901'"),
        ({"JWT_KEY": "short"}, "JWT_KEY must have at least 32 characters, got 5"),
        ({"JWT_KEY": ""}, "set exactly one of JWT_KEY and JWT_KEY_FILE, got neither"),
        ({"JWT_KEY_FILE": "/x"}, "set exactly one of JWT_KEY and JWT_KEY_FILE, got both"),
        ({"REDIS_PASSWORD": "", "REDIS_PASSWORD_FILE": "/no/such"}, "REDIS_PASSWORD_FILE: cannot read /no/such"),
    ],
)
def test_a_wrong_setting_is_named_with_its_rule(changes: dict[str, str], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        Settings.load({**ENOUGH, **changes})
