"""The lease book's SQLite file: opening and checking it, its tables, and the values in its rows."""
