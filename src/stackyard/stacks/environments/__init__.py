"""Stacks of environments: from an environment to a ready stack, its databases and its reset."""
