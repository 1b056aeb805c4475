"""Figures, each a ratio against a baseline measured in the same run. `python -m bench` lists and runs them."""
