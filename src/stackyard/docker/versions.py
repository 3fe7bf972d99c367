"""The oldest Docker that stackyard works with."""

from typing import Final

OLDEST_ENGINE: Final = (25,)  # the first whose health checks know start_interval
OLDEST_COMPOSE: Final = (2, 20, 2)  # the first whose Compose files may use it
