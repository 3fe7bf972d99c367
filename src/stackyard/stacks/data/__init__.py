"""The data of a copy: kept right after its start, and brought back to that state by a reset."""
