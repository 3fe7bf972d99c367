"""Copies of any Compose project: the model of one, its start, and what it needs of this host."""
