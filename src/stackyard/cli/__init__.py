"""Invoke tasks, one module a group; `tasks.py` at the root joins them to one namespace."""
