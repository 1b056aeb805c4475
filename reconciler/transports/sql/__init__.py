"""Databases as a transport: one statement a request, prepared, its parameters beside it."""
