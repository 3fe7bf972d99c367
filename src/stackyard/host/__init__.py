"""The machine that stackyard runs on: make its Docker engine usable if it is not."""
