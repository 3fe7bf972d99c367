from __future__ import annotations

import pickle

import pytest

from stackyard import errors

ALL = [
    errors.StackyardError("m"), errors.UsageError("m"), errors.ConfigError("f", "k", 1, "r"), errors.EngineError("m"),
    errors.CommandError(["a"], 1, "out"), errors.PoolExhaustedError("m"), errors.BookError("m"), errors.ImageError("m"),
    errors.LeaseNotFoundError("m"), errors.NotReadyError("m"), errors.LeftoversError("m"),
]  # fmt: skip


@pytest.mark.parametrize("error", ALL, ids=lambda error: type(error).__name__)
def test_every_error_survives_the_trip_between_processes(error: errors.StackyardError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes

    assert (str(copy), copy.exit_code) == (str(error), error.exit_code)


def test_exit_codes_are_a_fixed_table() -> None:
    assert {type(error).__name__: error.exit_code for error in ALL} == {
        "StackyardError": 1, "UsageError": 2, "ConfigError": 2, "EngineError": 3, "CommandError": 3,
        "PoolExhaustedError": 4, "BookError": 5, "LeaseNotFoundError": 5, "ImageError": 6, "NotReadyError": 7,
        "LeftoversError": 8,
    }  # fmt: skip


def test_a_config_error_is_one_line_however_long_the_value() -> None:
    text = str(errors.ConfigError("envs/.env.test", "PORT", "x" * 500, "must be a port"))

    assert text.startswith("envs/.env.test: PORT: must be a port, got 'xxx")
    assert len(text) < 160


def test_a_command_error_quotes_its_words_and_shows_the_last_lines() -> None:
    output = "\n".join(str(n) for n in range(30))

    lines = str(errors.CommandError(["a", "b c"], 2, output)).splitlines()

    assert lines[0] == "a 'b c' failed with exit code 2:"
    assert lines[1:] == [f"  {n}" for n in range(10, 30)]
    assert str(errors.CommandError(["a"], None, "")) == "a ran past its deadline"
