"""Decide what is to be done, without input or output."""
