"""``python -m stackyard``: the console program."""

from stackyard.cli.console import main

main()
