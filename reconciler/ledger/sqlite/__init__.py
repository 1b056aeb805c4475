"""A state in a SQLite file."""
