"""The persisted record of every grant: one schema on SQLite and PostgreSQL, written before anything is sent."""
