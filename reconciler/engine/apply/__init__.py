"""Carry out what was decided, and record it."""
