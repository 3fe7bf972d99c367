"""Invoke tasks, one module a group; `tasks.py` at the root joins them to one namespace."""

from stackyard._util import advice
from stackyard.cli.commands import COMMANDS

advice.offer(COMMANDS)
