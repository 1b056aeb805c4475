"""A state in a PostgreSQL database."""
