"""The machine stackyard runs on: is its Docker engine usable, and if not, make it so."""
