"""Whether a started project is ready: the wait, each container in it, and what it prints."""
