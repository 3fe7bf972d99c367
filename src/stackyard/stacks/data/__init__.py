"""The data of a copy: saved right after its start, and brought back to that state by a reset."""
