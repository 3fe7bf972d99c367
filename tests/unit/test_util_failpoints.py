from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from stackyard._util.failpoints import VARIABLE, reach


def test_an_unset_checkpoint_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)

    reach("lease")


@pytest.mark.parametrize(("place", "code"), [("probe", -signal.SIGKILL), ("test", 0)])
def test_only_the_checkpoint_that_was_named_kills(place: str, code: int) -> None:
    script = "from stackyard._util.failpoints import reach; reach('lease'); reach('probe')"

    done = subprocess.run([sys.executable, "-c", script], env=os.environ | {VARIABLE: place}, check=False)  # noqa: S603 - our own

    assert done.returncode == code
