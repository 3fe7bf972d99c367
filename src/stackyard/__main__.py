"""``python -m stackyard``: the console program."""

from stackyard.cli.entry import main

main()
