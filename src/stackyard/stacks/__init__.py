"""The life of one stack: lease, start, readiness, data, end."""
