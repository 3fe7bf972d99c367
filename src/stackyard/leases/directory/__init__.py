"""A lease's directory: its env file, its secrets, and the draft before the lease is granted."""
