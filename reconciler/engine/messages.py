"""Stub until the real one lands."""


def messenger(world, settings, tree):
    return None
