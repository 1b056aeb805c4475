"""Bring in people and accounts from other systems, as hires' files."""
